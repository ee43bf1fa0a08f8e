"""A server of the configuration as the words of a command line.

Every key says which option it stands for (``Key.option``); what a command doesn't declare, or the user has given, is
left out. So a command knows nothing of the configuration, and the command line wins over the file.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from barman_cloud.config.keys import Key
from barman_cloud.config.server import Server
from barman_cloud.config.table import KEYS
from barman_cloud.errors import ConfigurationError

WAL_COMMANDS = frozenset(("wal-archive", "wal-restore", "wal-receive", "check-wal-archive"))
"""Commands that only touch WAL; ``compression`` is the one of WAL, and means them alone."""
BACKUP_COMMANDS = frozenset(("backup-list", "backup-show", "backup-keep"))
"""Commands that only touch base backups. All others need both in one place.

``backup`` too: what it would store there, no restore or retention policy of the same configuration could use.
"""

_METHODS = {"postgres": "stream", "local-to-cloud": "files"}
_SNAPSHOTS = frozenset(
    ("snapshot_provider", "snapshot_instance", "snapshot_disks", "ssh_command", "snapshot_gcp_project", "snapshot_zone",
     "gcp_project", "gcp_zone", "azure_subscription_id", "azure_resource_group", "aws_snapshot_lock_mode",
     "aws_snapshot_lock_duration", "aws_snapshot_lock_cool_off_period", "aws_snapshot_lock_expiration_date",
     "aws_await_snapshots_timeout")
)  # fmt: skip
"""Keys that only count where ``backup_method`` is snapshot; a configuration may hold them for a model's sake."""
_NOT_OF_SNAPSHOTS = frozenset(("base_compression", "base_compression_level"))
_COPIES = frozenset(("rsync", "local-rsync"))
_OLD_NAMES = {"pygzip": "gzip", "pybzip2": "bzip2"}
_OF_OTHERS = {
    "compression": WAL_COMMANDS, "compression_level": WAL_COMMANDS, "history_tags": WAL_COMMANDS,
    "cloud_wal_archive_parallel": {"wal-archive"}, "cloud_wal_restore_parallel": {"wal-restore"},
    "base_compression": {"backup"}, "base_compression_level": {"backup"},
    "retention_policy": {"backup-delete", "setup"}, "conninfo": {"backup", "check", "doctor", "wal-receive"},
    "streaming_conninfo": {"backup", "wal-receive"}, "wal_conninfo": {"wal-receive"},
    "wal_streaming_conninfo": {"wal-receive"}, "slot_name": {"wal-receive"}, "create_slot": {"wal-receive"},
    "streaming_wals_directory": {"wal-receive"}, "check_timeout": {"check"}, "path_prefix": {"drill"},
    "drill_directory": {"drill"}, "verify_maximum_age": {"verify"},
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
    if command not in BACKUP_COMMANDS and (problem := two_places(server)):
        raise ConfigurationError(
            f"{problem}, and {command} needs both in one place",
            hint=f"set both keys to one URL; for what is stored already: barman-cloud {command} URL {server.name}",
        )
    return server.base_url


def two_places(server: Server) -> str | None:
    """Return where base backups and WAL go if that is not one place, else None."""
    if server.base_url == server.wal_url:
        return None
    place = server.places.get("wals_directory") or server.places.get("basebackups_directory")
    return f"{place}: base backups of {server.name} go to {server.base_url} and WAL to {server.wal_url}"


def options_for(command: str, server: Server, declares: Callable[[str], bool], given: Iterable[str]) -> list[str]:
    """Return the options that the configuration adds to a command line.

    ``declares`` tells whether the command has an option; ``given`` are the options that the user has written.
    """
    written = set(given)
    if command == "backup" and server["backup_method"] in _COPIES and "--method" not in written:
        place = server.places.get("backup_method", server.name)
        raise ConfigurationError(
            f"{place}: backup_method {server['backup_method']} can't store backups in a bucket",
            hint="set backup_method = postgres, local-to-cloud or snapshot",
        )
    words: list[str] = _named_stream(command, server) if "--streaming-conninfo" not in written else []
    if words:
        written.add("--streaming-conninfo")
    for name in _used_by(command, server, written):
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


def _named_stream(command: str, server: Server) -> list[str]:
    """Return the connection of a stream under the name that the server is to show, if one is set."""
    if command == "wal-receive" and "streaming_archiver_name" in server:
        conninfo, name = server["wal_streaming_conninfo"] or server["streaming_conninfo"], "streaming_archiver_name"
    elif command == "backup" and server["backup_method"] == "postgres" and "streaming_backup_name" in server:
        conninfo, name = server["streaming_conninfo"], "streaming_backup_name"
    else:
        return []
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        own_name = conninfo_to_dict(conninfo or "").get("application_name")
        return ["--streaming-conninfo", make_conninfo(conninfo or "", application_name=own_name or server[name])]
    except Error:
        return []  # who connects says what is wrong with it


def _used_by(command: str, server: Server, written: Container[str]) -> list[str]:
    """Return the keys that count for a command: those that are set, but of two for one option the special one."""
    names = dict.fromkeys(server.places)
    if command == "check" and ("check_timeout" in names or server["check_timeout"] == 0):
        names.pop("command_timeout" if server["check_timeout"] else "check_timeout", None)
    if command == "wal-receive":
        names["streaming_wals_directory"] = None  # its default counts too
        direct = server["wal_receiver"] == "direct" and "--mode" not in written
        if direct and not Path(server["streaming_wals_directory"]).is_dir():
            # Nothing is on disk. What a receiver with a spool has left, though, has to be stored first.
            names.pop("streaming_wals_directory")
        if not server["slot_name"] and "--slot" not in written:
            names.pop("create_slot", None)
        for special, general in (("wal_conninfo", "conninfo"), ("wal_streaming_conninfo", "streaming_conninfo")):
            if special in names:
                names.pop(general, None)
    elif server["backup_method"] != "postgres":
        names.pop("streaming_conninfo", None)
    if command == "backup":
        for name in _NOT_OF_SNAPSHOTS if server["backup_method"] == "snapshot" else _SNAPSHOTS:
            names.pop(name, None)
    for newer, older in (("gcp_project", "snapshot_gcp_project"), ("gcp_zone", "snapshot_zone")):
        if newer in names:
            names.pop(older, None)
    return list(names)


def _spelled(key: Key, value: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the option of a key and its values as words, an empty word for an option without one."""
    assert key.option is not None
    if key.name in ("compression", "base_compression"):
        if value != "none":
            yield f"--{_OLD_NAMES.get(value, value)}", [""]
    elif key.name == "backup_method":
        if value in _METHODS:
            yield key.option, [_METHODS[value]]
    elif key.name == "create_slot":
        if value == "auto":
            yield key.option, [""]
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
