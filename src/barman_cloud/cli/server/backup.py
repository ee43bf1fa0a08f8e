"""``backup``: Barman's words turned into a run of the plain ``backup``."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from barman_cloud.catalog.backup_info import STARTED, to_json_dict
from barman_cloud.catalog.lineage import stored_sizes
from barman_cloud.cli import values
from barman_cloud.cli.server.import_state import import_once
from barman_cloud.cli.server.session import add_servers, say_without_effect, with_default
from barman_cloud.errors import BarmanCloudError, ConfigurationError, OperationError
from barman_cloud.report.text import duration, size
from barman_cloud.schedule import locks

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.cli.server.session import OneServer, Session

_MODES = {"local-to-cloud": "local-to-cloud-concurrent"}
"""What Barman's server writes as ``mode`` where the copy method says nothing."""
WAIT_WITHOUT_LIMIT = 10 * 365 * 86400
"""Seconds of ``--wait`` without ``--wait-timeout``."""

_STAGING = "nothing is staged on disk"
_RSYNC = "only copies by rsync have it"
_WITHOUT_EFFECT = {
    "cloud_staging_directory": _STAGING,
    "cloud_staging_max_size": _STAGING,
    "jobs_start_batch_period": _RSYNC,
    "jobs_start_batch_size": _RSYNC,
    "reuse_backup": "--incremental stores changed blocks only",
    "manifest": "every backup has its manifest",
    "check_timeout": "what a backup needs is looked at as it begins",
}


def backup_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    checkpoint = parser.add_mutually_exclusive_group()
    checkpoint.add_argument(
        "--immediate-checkpoint", action="store_true", default=None, help="don't wait for a spread checkpoint"
    )
    checkpoint.add_argument(
        "--no-immediate-checkpoint", action="store_false", dest="immediate_checkpoint", help="wait for it"
    )
    parser.add_argument(
        "--incremental", metavar="BACKUP_ID", help="store what changed since this backup: an id, a name or a shortcut"
    )
    parser.add_argument("--name", type=_backup_name, help="a name for the backup, besides its id")
    parser.add_argument("-w", "--wait", action="store_true", help="wait until the WAL of the backup is in the archive")
    parser.add_argument("--wait-timeout", type=values.positive, metavar="SECONDS", help="wait no longer than that")
    parser.add_argument("-j", "--jobs", "--njobs", type=values.positive, metavar="N", help="parallel workers")
    parser.add_argument("--bwlimit", type=values.positive, metavar="KBPS", help="upload at most so many kB a second")
    parser.add_argument("--keepalive-interval", type=values.non_negative, metavar="SECONDS", help="as the key")
    retry = parser.add_mutually_exclusive_group()
    retry.add_argument("--retry-times", type=values.non_negative, metavar="N", help="try again after a failure")
    retry.add_argument("--no-retry", action="store_const", const=0, dest="retry_times", help="don't")
    parser.add_argument("--retry-sleep", type=values.non_negative, metavar="SECONDS", help="seconds before that")
    for option in ("check-timeout", "cloud-staging-directory", "cloud-staging-max-size", "jobs-start-batch-period",
                   "jobs-start-batch-size"):  # fmt: skip
        parser.add_argument(f"--{option}", help="no effect")
    parser.add_argument("--reuse-backup", nargs="?", choices=("copy", "link", "off"), const="link", help="no effect")
    parser.add_argument("--manifest", action="store_true", default=None, help="no effect: every backup has one")
    parser.add_argument("--no-manifest", action="store_true", default=None, help="no effect")


def _backup_name(text: str) -> str:
    return values.backup_name(text)


def backup(session: Session, args: Namespace) -> None:
    say_without_effect(session, args, _WITHOUT_EFFECT)
    session.each(args.server_name, lambda server: _with_retries(server, args))


def _with_retries(server: OneServer, args: Namespace) -> None:
    if not server["active"]:
        raise OperationError(f"server '{server.name}' is inactive", hint="set active = on in its section")
    _refuse_method(server)
    import_once(server)
    parent = server.backup(args.incremental) if args.incremental else None
    tries = server["basebackup_retry_times"] if args.retry_times is None else args.retry_times
    pause = server["basebackup_retry_sleep"] if args.retry_sleep is None else args.retry_sleep
    with locks.held(server["barman_lock_directory"], server.name, "backup", "Another backup process is running"):
        while True:
            try:
                _take(server, args, parent)
            except OperationError as error:
                if tries <= 0:
                    raise
                server.output.warning(f"{error}; trying again in {pause} seconds ({tries} tries left)")
                tries -= 1
                time.sleep(pause)
            else:
                return


def _refuse_method(server: OneServer) -> None:
    method = server["backup_method"]
    if method in ("rsync", "local-rsync"):
        place = server.config.places.get("backup_method", server.session.configuration.file)
        raise ConfigurationError(
            f"{place}: backup_method = {method} copies by rsync, which this program doesn't",
            hint="set backup_method = postgres (streamed), local-to-cloud (files of this machine) or snapshot",
        )
    if not server["conninfo"]:
        raise ConfigurationError(f"server {server.name} has no conninfo", hint="add conninfo = … to its section")


def _take(server: OneServer, args: Namespace, parent: BackupInfo | None) -> None:
    from barman_cloud.cli.backup import COMMAND

    plain = server.plain("backup", backup_words(server, args, parent))
    teller = _Teller(server, wait=args.wait)
    plain.announce = teller.announce
    plain.as_server = server.name
    plain.as_mode = _MODES.get(server["backup_method"])
    COMMAND.run(plain)
    if teller.info is not None:
        server.output.result(None, to_json_dict(teller.info))


def backup_words(server: OneServer, args: Namespace, parent: BackupInfo | None) -> list[str]:
    """Return the options of the plain ``backup`` for Barman's."""
    words = []
    pairs = (
        ("--incremental", parent and parent.backup_id),
        ("--name", args.name),
        ("--jobs", args.jobs),
        ("--max-bandwidth", args.bwlimit and f"{args.bwlimit}KB"),
        ("--keepalive-interval", args.keepalive_interval),
        ("--wal-timeout", (args.wait_timeout or WAIT_WITHOUT_LIMIT) if args.wait else None),
    )
    for option, value in pairs:
        if value is not None:
            words += [option, str(value)]
    immediate = server["immediate_checkpoint"] if args.immediate_checkpoint is None else args.immediate_checkpoint
    if immediate:
        words.append("--immediate-checkpoint")
    if server.streams and server["streaming_conninfo"]:
        words += ["--streaming-conninfo", _named(server)]
    return words


def _named(server: OneServer) -> str:
    return with_default(server["streaming_conninfo"], "application_name", server["streaming_backup_name"])


class _Teller:
    """Prints Barman's lines as a backup goes on."""

    def __init__(self, server: OneServer, *, wait: bool) -> None:
        self._server = server
        self._wait = wait
        self._began = time.monotonic()
        self._start = datetime.now().astimezone()
        self.info: BackupInfo | None = None

    def announce(self, info: BackupInfo) -> None:
        """Take the ``backup.info`` of a backup that has begun, and of one that is DONE."""
        self.info = info
        (self._tell_begin if info.status == STARTED else self._tell_end)(info)

    def _tell_begin(self, info: BackupInfo) -> None:
        say, server = self._server.output.info, self._server
        layout, store = server.base.layout, server.base.store
        say(
            f"Starting backup using {info.mode or server['backup_method']} method for server {server.name} in "
            f"{layout.backup_dir(info.backup_id).rstrip('/')}"
        )
        say(f"Backup start at LSN: {info.begin_xlog} ({info.begin_wal}, {info.begin_offset or 0:08X})")
        how = "a replication connection" if server.streams else "the files of this machine"
        say(f"Starting backup copy via {how} for {info.backup_id} to the cloud storage: {store.url.text}")

    def _tell_end(self, info: BackupInfo) -> None:
        say, server = self._server.output.info, self._server
        if seconds := (info.copy_stats or {}).get("copy_time"):
            say(f"Copy done (time: {duration(seconds)})")
        say("Finalising the backup.")
        stored = info.size
        if stored is None:
            try:
                stored = stored_sizes(server.base.catalog, [info.backup_id])[info.backup_id]
            except BarmanCloudError as error:
                server.output.warning(f"the size of the backup isn't known: {error}")
        if stored is not None:
            say(f"Backup size: {size(stored)}")
        say(f"Backup end at LSN: {info.end_xlog} ({info.end_wal}, {info.end_offset or 0:08X})")
        elapsed = duration(time.monotonic() - self._began)
        say(f"Backup completed (start time: {self._start:%Y-%m-%d %H:%M:%S.%f}, elapsed time: {elapsed})")
        if self._wait:
            say(f"Waiting for the WAL file {info.end_wal} from server '{server.name}'")
