"""The servers of the configuration with their stores, and what commands ask of both."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.cli.server.output import Output
from barman_cloud.errors import BarmanCloudError, ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from barman_cloud.api import Repository
    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.catalog import CatalogView
    from barman_cloud.cli.plain import Arguments
    from barman_cloud.config.reader import Configuration
    from barman_cloud.config.server import Server
    from barman_cloud.postgres.connection import Connection

ALL = "all"
NEWEST_FULL = frozenset({"last-full", "latest-full"})


class Session:
    """One run of a command."""

    def __init__(self, configuration: Configuration, output: Output) -> None:
        self.configuration = configuration
        self.output = output
        self._stack = ExitStack()

    @classmethod
    def open(cls, file: str | None, output: Output, level: str | None = None) -> Session:
        """Read the configuration, be its ``barman_user``, and see that messages also go to its ``log_file``."""
        from barman_cloud.config.reader import load
        from barman_cloud.config.user import act_as_user

        configuration = load(file)
        act_as_user(configuration.common)
        session = cls(configuration, output)
        session._log(level)
        return session

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def server(self, name: str) -> OneServer:
        """Return one server under its active model; ``NotFoundError`` if there is none of that name."""
        from barman_cloud.cli.names import effective

        if name not in self.configuration.sections:
            raise unknown_server(name, self.configuration.names)
        return OneServer(effective(self.configuration, name), self, self._stack)

    def each(self, names: Iterable[str], do: Callable[[OneServer], None]) -> None:
        """Call ``do`` for each server that is meant, once; the failure of one is told, and the others go on.

        ``all`` means every server that is active.
        """
        names = list(names)
        if ALL in names:
            found = [name for name in self.configuration.names if self.configuration.server(name)["active"]]
        else:
            found = list(dict.fromkeys(names))
        for name in found:
            try:
                do(self.server(name))
            except BarmanCloudError as error:
                if len(found) == 1:
                    raise
                self.output.error(f"{name}: {error}" if name in self.configuration.sections else str(error), error.hint)

    def _log(self, level: str | None) -> None:
        common = self.configuration.common
        path = common["log_file"]
        if path is None:
            return
        least = getattr(logs, level or common["log_level"], logs.DEBUG if level == "NOTSET" else logs.ERROR)
        try:
            file = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            self.output.warning(f"messages don't go to log_file {path}: {error.strerror}")
            return
        self._stack.callback(file.close)

        def both(severity: int, message: str) -> None:
            if severity >= least:
                moment = time.strftime("%Y-%m-%d %H:%M:%S")
                word = next((word for word in ("ERROR", "WARNING", "INFO") if severity >= getattr(logs, word)), "DEBUG")
                file.write(f"{moment} [{os.getpid()}] {word}: {logs.escape_controls(message)}\n")
                file.flush()
            self.output.logged(severity, message)

        verbosity = (logs.WARNING - min(least, logs.WARNING)) // 10
        logs.configure(2 if self.output.debug else verbosity, sink=both)


def unknown_server(name: str, known: Iterable[str]) -> NotFoundError:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return NotFoundError(f"Unknown server '{name}'", hint=f"did you mean {close[0]}?" if close else None)


class OneServer:
    """One server: its configuration, its stores and its PostgreSQL."""

    def __init__(self, config: Server, session: Session, stack: ExitStack) -> None:
        self.config = config
        self.session = session
        self.output = session.output
        self._stack = stack

    @property
    def name(self) -> str:
        return self.config.name

    def __getitem__(self, key: str) -> Any:
        return self.config[key]

    @cached_property
    def base(self) -> Repository:
        """Where its base backups are."""
        return self._open(self.config.base_url)

    @cached_property
    def wals(self) -> Repository:
        """Where its WAL is: usually the same."""
        return self.base if self.config.wal_url == self.config.base_url else self._open(self.config.wal_url)

    @cached_property
    def view(self) -> CatalogView:
        """All its backups, as they are at the first look."""
        view = self.base.catalog.load()
        for error in view.unreadable.values():
            self.output.warning(str(error))
        return view

    @property
    def streams(self) -> bool:
        """Whether base backups are streamed."""
        return bool(self["backup_method"] == "postgres")

    @property
    def in_cloud(self) -> bool:
        return "://" in self["basebackups_directory"] or "://" in self["wals_directory"]

    def backup(self, word: str) -> BackupInfo:
        """Return the backup that an id, a name or a shortcut means; ``NotFoundError`` in Barman's words if none."""
        found = self.find(word)
        if found is None:
            raise NotFoundError(f"Unknown backup '{word}' for server '{self.name}'")
        return found

    def find(self, word: str) -> BackupInfo | None:
        """Return the backup that a word means: ``latest`` and ``oldest`` only complete ones, as Barman."""
        from barman_cloud.catalog import selection
        from barman_cloud.catalog.backup_info import FAILED

        backups = self.view.backups
        if word in backups:
            return backups[word]
        done = [info for info in backups.values() if info.is_complete]
        if word in selection.NEWEST or word in selection.OLDEST:
            return _edge(done, newest=word in selection.NEWEST)
        if word in NEWEST_FULL:
            return _edge([info for info in done if info.parent_backup_id is None], newest=True)
        if word in ("last-failed", "latest-failed", "first-failed", "oldest-failed"):
            failed = [info for info in backups.values() if info.status == FAILED]
            return _edge(failed, newest=word.startswith(("last", "latest")))
        named = [info for info in backups.values() if info.backup_name == word]
        if len(named) > 1:
            ids = ", ".join(info.backup_id for info in named)
            raise NotFoundError(f"{len(named)} backups of server '{self.name}' are named '{word}': {ids}")
        return named[0] if named else None

    def plain(self, command: str, words: Iterable[str]) -> Arguments:
        """Return the parsed command line of a plain command for this server, filled up from the configuration."""
        from barman_cloud.cli.command import load, parse
        from barman_cloud.cli.names import completed

        found = load(command)
        complete, _ = completed(found, [self.name, *words], self.session.configuration, self.config)
        try:
            args = parse(found, complete, f"barman-cloud {command}")
        except SystemExit as ended:
            raise SystemExit(2 if ended.code else 0) from None  # a wrong command line ends with 2 here
        args.configuration_file, args.server = self._file, self.config  # whose hook scripts run
        if found.validate:
            found.validate(args)
        return args

    def connect(self, key: str = "conninfo", timeout: int | None = None) -> Connection:
        """Connect to the server's PostgreSQL, within ``timeout`` seconds for each address if it is given.

        ``ConfigurationError`` if there is no connection string, or it isn't understood.
        """
        from barman_cloud.postgres.connection import ConnectionParameters, connect

        conninfo = self[key] or self["conninfo"]
        if not conninfo:
            raise ConfigurationError(
                f"server {self.name} has no conninfo", hint=f"add conninfo = … to its section in {self._file}"
            )
        if timeout:
            conninfo = with_default(conninfo, "connect_timeout", str(timeout))
        return self._stack.enter_context(connect(ConnectionParameters(conninfo), "barman_cloud_server"))

    @property
    def _file(self) -> str:
        return self.session.configuration.file

    def _open(self, url: str) -> Repository:
        from barman_cloud.api import Repository
        from barman_cloud.config.table import KEYS
        from barman_cloud.store.options import StoreOptions

        given: dict[str, Any] = {}
        for name in self.config.places:
            option = (KEYS[name].option or "").removeprefix("--").replace("-", "_")
            if option in StoreOptions._fields and not KEYS[name].unused:
                given[option] = self.config[name]
        return self._stack.enter_context(
            Repository.open(url, self.name, options=StoreOptions(**given), environ=self._environ)
        )

    @property
    def _environ(self) -> Mapping[str, str]:
        region = self["aws_region"]
        return {"AWS_DEFAULT_REGION": region, **os.environ} if region else os.environ


def with_default(conninfo: str, parameter: str, value: str) -> str:
    """Return a connection string that has ``parameter``, unless it can't be understood: libpq will say so."""
    import psycopg

    try:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        return psycopg.conninfo.make_conninfo(conninfo, **{parameter: str(parts.get(parameter) or value)})
    except psycopg.Error:
        return conninfo


def _edge(backups: list[BackupInfo], *, newest: bool) -> BackupInfo | None:
    return backups[-1 if newest else 0] if backups else None


def add_server(parser: Any) -> None:
    parser.add_argument("server_name", help="a server of the configuration")


def add_servers(parser: Any) -> None:
    parser.add_argument("server_name", nargs="+", help="servers of the configuration, or 'all'")


def add_backup(parser: Any) -> None:
    add_server(parser)
    parser.add_argument("backup_id", help="id, name or shortcut: latest, oldest, latest-full, last-failed, …")


def say_without_effect(session: Session, args: Namespace, reasons: Mapping[str, str]) -> None:
    """Warn of options that were given and mean nothing here: attribute to reason."""
    for name, reason in reasons.items():
        if getattr(args, name, None) not in (None, False):
            session.output.warning(f"--{name.replace('_', '-')} has no effect: {reason}")
