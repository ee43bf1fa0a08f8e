"""A server of the configuration as the words of a command line.

Every key says which option it stands for (``Key.option``); what a command doesn't declare, or the user has given, is
left out. So a command knows nothing of the configuration, and the command line wins over the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from barman_cloud.config.keys import Key
from barman_cloud.config.server import Server
from barman_cloud.config.table import KEYS
from barman_cloud.errors import ConfigurationError

WAL_COMMANDS = frozenset(("wal-archive", "wal-restore", "wal-receive", "check-wal-archive"))
"""Commands that only touch WAL; ``compression`` is the one of WAL, and means them alone."""
BACKUP_COMMANDS = frozenset(("backup-list", "backup-show", "backup-keep", "backup"))
"""Commands that only touch base backups. All others need both in one place."""

_METHODS = {"postgres": "stream", "local-to-cloud": "files"}
_OLD_NAMES = {"pygzip": "gzip", "pybzip2": "bzip2"}
_OF_OTHERS = {
    "compression": WAL_COMMANDS, "compression_level": WAL_COMMANDS, "history_tags": WAL_COMMANDS,
    "cloud_wal_archive_parallel": {"wal-archive"}, "cloud_wal_restore_parallel": {"wal-restore"},
    "base_compression": {"backup"}, "base_compression_level": {"backup"},
    "retention_policy": {"backup-delete"}, "conninfo": {"backup", "check", "wal-receive"},
    "primary_conninfo": {"restore"},
}  # fmt: skip
"""Keys whose option means something else, or nothing, in other commands."""
_RESTORE = {
    "primary_conninfo": ("--primary-conninfo", {"--standby-mode"}),
    "cloud_wal_restore_parallel": (
        "--wal-parallel",
        {"--write-recovery-settings", "--standby-mode", "--target-name", "--target-xid", "--target-immediate",
         "--target-exclusive", "--target-action"},
    ),
}  # fmt: skip
"""What these keys are to ``restore``: an option, which only means something beside one of others."""


def url_for(command: str, server: Server) -> str:
    """Return the URL that a command works on; ``ConfigurationError`` where it would need two."""
    if command in WAL_COMMANDS:
        return server.wal_url
    if command not in BACKUP_COMMANDS and server.base_url != server.wal_url:
        place = server.places.get("wals_directory") or server.places.get("basebackups_directory")
        raise ConfigurationError(
            f"{place}: base backups of {server.name} go to {server.base_url} and WAL to {server.wal_url}, "
            f"and {command} needs both in one place",
            hint=f"give the URL itself: barman-cloud {command} URL {server.name}",
        )
    return server.base_url


def options_for(command: str, server: Server, declares: Callable[[str], bool], given: Iterable[str]) -> list[str]:
    """Return the options that the configuration adds to a command line.

    ``declares`` tells whether the command has an option; ``given`` are the options that the user has written.
    """
    written = set(given)
    words: list[str] = []
    for name in server.places:
        key = KEYS[name]
        if command == "restore" and name in _RESTORE:
            flag, beside = _RESTORE[name]
            if server[name] and flag not in written and written & beside:
                words += [flag, str(server[name])]
            continue
        if key.option is None or key.unused or command not in _OF_OTHERS.get(name, {command}):
            continue
        for flag, values in _spelled(key, server[name]):
            if declares(flag) and flag not in written:
                words += (word for value in values for word in ((flag, value) if value else (flag,)))
    return words


def _spelled(key: Key, value: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the option of a key and its values as words, an empty word for an option without one."""
    assert key.option is not None
    if key.name in ("compression", "base_compression"):
        if value != "none":
            yield f"--{_OLD_NAMES.get(value, value)}", [""]
    elif key.name == "backup_method":
        if value in _METHODS:
            yield key.option, [_METHODS[value]]
    elif key.name == "bandwidth_limit":
        yield key.option, [f"{value}KB"]
    elif isinstance(value, bool):
        if value:
            yield key.option, [""]
    elif isinstance(value, timedelta):
        yield key.option, [f"{int(value.total_seconds())}s"]
    elif isinstance(value, dict):
        yield key.option, [f"{name},{text}" for name, text in value.items()]
    elif isinstance(value, tuple):
        yield key.option, list(value)
    else:
        yield key.option, [str(value)]
