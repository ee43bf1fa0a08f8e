"""The ``backup.info`` codec: the one metadata object of a backup.

A file of ``key=value`` lines, keys ascending, structures as Python literals, null as the word ``None``. Barman refuses
a whole catalog for one key that it doesn't know, so nothing is ever added here: what is ours lives in sidecar objects.
``docs/reference/format.md`` has the table of keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from barman_cloud.catalog.literals import evaluate, integer
from barman_cloud.catalog.times import format_time, parse_time, with_offset_in_minutes
from barman_cloud.errors import IntegrityError, OperationError

MAX_SIZE = 1 << 20
"""Bytes. A server with a thousand tablespaces has a fifth of it."""

EMPTY = "EMPTY"
STARTED = "STARTED"
FAILED = "FAILED"
DONE = "DONE"
WAITING_FOR_WALS = "WAITING_FOR_WALS"
COMPLETE = frozenset({DONE, WAITING_FOR_WALS})

ANNOUNCED = "announced"
"""A deletion that hasn't taken anything yet; see ``catalog.deletion_mark``."""
BEGUN = "begun"
"""A deletion that may have taken anything but ``backup.info``."""
DELETION_LINES = {f"#deletion {stage}": stage for stage in (ANNOUNCED, BEGUN)}
"""The comment that says it, which other readers skip."""
STREAMED = "postgres"
"""The ``mode`` of a backup that PostgreSQL has streamed."""

DEFAULT_SEGMENT_SIZE = 16 << 20

_NOT_STORED = frozenset({"backup_id", "deletion"})
_IGNORED_KEYS = frozenset({"backup_id", "backup_version"})
_LEFT_OUT_WHEN_NULL = frozenset({"backup_name", "snapshots_info"})

SNAPSHOT_KEYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aws": (
        ("account_id", "region"),
        ("device_name", "snapshot_id", "snapshot_name", "snapshot_lock_mode"),
    ),
    "azure": (
        ("subscription_id", "resource_group"),
        ("location", "lun", "snapshot_name"),
    ),
    "gcp": (
        ("project",),
        ("device_name", "snapshot_name", "snapshot_project"),
    ),
}
"""Of each provider the keys of ``provider_info`` and those of one snapshot, in the order in which they are written."""


class UnknownKeyError(OperationError):
    """A ``backup.info`` has a key that this version doesn't know, so it may mean what must not be overlooked."""


class UnreadableBackupInfoError(IntegrityError):
    """A ``backup.info`` can't be parsed."""


class Tablespace(NamedTuple):
    """A tablespace as the catalogue of the server named it."""

    name: str
    oid: int
    location: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One volume snapshot: where its volume was mounted, and what the provider calls it."""

    mount_point: str | None
    mount_options: str | None
    provider: Mapping[str, str | int | None]
    """The keys of ``SNAPSHOT_KEYS``."""

    def __getitem__(self, key: str) -> str | int | None:
        return self.provider.get(key)


@dataclass(frozen=True, slots=True)
class SnapshotsInfo:
    """The snapshots that a snapshot backup consists of; ``provider`` is ``aws``, ``azure`` or ``gcp``."""

    provider: str
    provider_info: Mapping[str, str | None]
    snapshots: tuple[Snapshot, ...]

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What the provider's API wants to hear: snapshot ids on AWS, snapshot names elsewhere."""
        key = "snapshot_id" if self.provider == "aws" else "snapshot_name"
        return tuple(str(snapshot[key]) for snapshot in self.snapshots)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain structure, its keys in the order in which they are written."""
        info_keys, snapshot_keys = SNAPSHOT_KEYS[self.provider]
        return {
            "provider": self.provider,
            "provider_info": _in_order(self.provider_info, info_keys),
            "snapshots": [
                {
                    "mount": {"mount_options": snapshot.mount_options, "mount_point": snapshot.mount_point},
                    "provider": _in_order(snapshot.provider, snapshot_keys),
                }
                for snapshot in self.snapshots
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SnapshotsInfo:
        """Read the plain structure; missing keys are null. Raises ``ValueError`` for an unknown provider."""
        provider = data["provider"]
        if provider not in SNAPSHOT_KEYS:
            raise ValueError(f"unknown snapshot provider {provider!r}")
        info_keys, snapshot_keys = SNAPSHOT_KEYS[provider]
        return cls(
            provider,
            _in_order(data.get("provider_info") or {}, info_keys),
            tuple(
                Snapshot(
                    entry["mount"].get("mount_point"),
                    entry["mount"].get("mount_options"),
                    _in_order(entry["provider"], snapshot_keys),
                )
                for entry in data["snapshots"]
            ),
        )


@dataclass(slots=True)
class BackupInfo:
    """What is known of one backup. Sizes are bytes, LSNs are text as PostgreSQL prints it, times are aware."""

    backup_id: str
    """The name of the backup's folder; not stored in the file."""
    backup_label: str | None = None
    backup_name: str | None = None
    begin_offset: int | None = None
    begin_time: datetime | None = None
    begin_wal: str | None = None
    begin_xlog: str | None = None
    children_backup_ids: list[str] | None = None
    cluster_size: int | None = None
    compression: str | None = None
    config_file: str | None = None
    copy_stats: dict[str, Any] | None = None
    data_checksums: str | None = None
    deletion: str | None = None
    """``ANNOUNCED`` or ``BEGUN`` while the backup is being deleted; a comment of the file, not a key."""
    deduplicated_size: int | None = None
    encryption: str | None = None
    end_offset: int | None = None
    end_time: datetime | None = None
    end_wal: str | None = None
    end_xlog: str | None = None
    error: str | None = None
    hba_file: str | None = None
    ident_file: str | None = None
    included_files: list[str] | None = None
    mode: str | None = None
    parent_backup_id: str | None = None
    pgdata: str | None = None
    server_name: str | None = None
    size: int | None = None
    snapshots_info: SnapshotsInfo | None = None
    status: str = EMPTY
    summarize_wal: str | None = None
    systemid: str | None = None
    tablespaces: list[Tablespace] | None = None
    timeline: int | None = None
    version: int | None = None
    xlog_segment_size: int = DEFAULT_SEGMENT_SIZE

    @property
    def configuration_outside(self) -> tuple[str, ...]:
        """Configuration files outside PGDATA, included ones too; none if it isn't known where PGDATA was."""
        if self.pgdata is None:
            return ()
        inside = self.pgdata.rstrip("/") + "/"
        files = (self.config_file, self.hba_file, self.ident_file, *(self.included_files or ()))
        return tuple(dict.fromkeys(path for path in files if path and not path.startswith(inside)))

    @property
    def is_complete(self) -> bool:
        """DONE, or WAITING_FOR_WALS as Barman's server writes it."""
        return self.status in COMPLETE


class _Codec(NamedTuple):
    parse: Callable[[str], Any]
    dump: Callable[[Any], str]


def parse(text: str, backup_id: str) -> BackupInfo:
    """Read a ``backup.info``.

    ``UnknownKeyError`` if it has a key that isn't in the table, ``UnreadableBackupInfoError`` for anything else that
    isn't well formed. So is a file without a status, such as an empty one: every program writes the status, and a
    backup that lost its file's content must not be taken for one that nobody needs.
    """
    values: dict[str, Any] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            if stage := DELETION_LINES.get(line.rstrip()):
                values["deletion"] = stage
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise UnreadableBackupInfoError(f"backup.info of {backup_id}, line {number}: no '=' in {_excerpt(line)}")
        if key in _IGNORED_KEYS:
            continue
        codec = _CODECS.get(key)
        if codec is None:
            raise UnknownKeyError(
                f"backup.info of {backup_id}, line {number}: unknown key {_excerpt(key)}",
                hint="a newer program may have written it; this one refuses to guess what the key means",
            )
        if value == "None":
            continue
        try:
            values[key] = codec.parse(value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UnreadableBackupInfoError(
                f"backup.info of {backup_id}, line {number}: bad value of {key}: {_excerpt(value)}"
            ) from error
    if "status" not in values:
        raise UnreadableBackupInfoError(f"backup.info of {backup_id}: {'no status in it' if text.strip() else 'empty'}")
    return BackupInfo(backup_id, **values)


def dump(info: BackupInfo) -> str:
    """Write a ``backup.info``, ending in a newline. Line breaks inside plain values become blanks."""
    lines = [f"{line}\n" for line, stage in DELETION_LINES.items() if stage == info.deletion]
    for key in STORED_KEYS:
        value = getattr(info, key)
        if value is None:
            if key not in _LEFT_OUT_WHEN_NULL:
                lines.append(f"{key}=None\n")
        else:
            lines.append(f"{key}={_one_line(_CODECS[key].dump(value))}\n")
    return "".join(lines)


def to_json_dict(info: BackupInfo) -> dict[str, Any]:
    """Return the object of ``--format json``: Barman's keys, types and order.

    ``end_time`` and ``end_time_iso`` are null and absent unless the backup is DONE: the clients that read this take a
    backup with an end time for a finished one, whatever its status.
    """
    end_time = info.end_time if info.status == DONE else None
    times = {"begin_time": info.begin_time, "end_time": end_time}
    # RFC 3339, by which clients read the ISO form, has no seconds in an offset.
    iso = {f"{key}_iso": with_offset_in_minutes(time).isoformat() for key, time in times.items() if time}
    result: dict[str, Any] = {}
    for key in STORED_KEYS:
        value = getattr(info, key)
        if key in times:
            result[key] = time.ctime() if (time := times[key]) else None
        elif value is not None or key not in _LEFT_OUT_WHEN_NULL:
            result[key] = _JSON_FORM.get(key, _unchanged)(value) if value is not None else None
    result["backup_id"] = info.backup_id
    return result | iso


def _in_order(data: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: data.get(key) for key in keys} | {key: value for key, value in data.items() if key not in keys}


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)


def _unchanged(value: Any) -> Any:
    return value


def _literal(kind: type) -> Callable[[str], Any]:
    def parse_literal(text: str) -> Any:
        value = evaluate(text)
        if not isinstance(value, kind):
            raise TypeError(f"not a {kind.__name__}")
        return value

    return parse_literal


def _parse_tablespaces(text: str) -> list[Tablespace] | None:
    entries = evaluate(text)
    return [Tablespace(str(name), int(oid), str(location)) for name, oid, location in entries] or None


def _dump_tablespaces(tablespaces: list[Tablespace]) -> str:
    return repr([tuple(tablespace) for tablespace in tablespaces])


def _parse_snapshots(text: str) -> SnapshotsInfo:
    return SnapshotsInfo.from_dict(evaluate(text))


def _dump_snapshots(info: SnapshotsInfo) -> str:
    return repr(info.as_dict())


def _parse_ids(text: str) -> list[str] | None:
    return [part for part in (part.strip() for part in text.split(",")) if part] or None


_TEXT = _Codec(str, str)
_INTEGER = _Codec(integer, str)
_TIME = _Codec(parse_time, format_time)
_OTHER_CODECS = {
    "backup_label": _Codec(_literal(str), repr),
    "children_backup_ids": _Codec(_parse_ids, ",".join),
    "copy_stats": _Codec(_literal(dict), repr),
    "included_files": _Codec(_literal(list), repr),
    "snapshots_info": _Codec(_parse_snapshots, _dump_snapshots),
    "tablespaces": _Codec(_parse_tablespaces, _dump_tablespaces),
}
_JSON_FORM: dict[str, Callable[[Any], Any]] = {
    "backup_label": repr,
    "children_backup_ids": ",".join,
    "snapshots_info": SnapshotsInfo.as_dict,
    "tablespaces": lambda tablespaces: [list(tablespace) for tablespace in tablespaces],
}

STORED_KEYS = tuple(sorted(item.name for item in fields(BackupInfo) if item.name not in _NOT_STORED))
"""Every key of the file, in the order in which they are written."""


def _codec_of(key: str, annotation: str) -> _Codec:
    if key in _OTHER_CODECS:
        return _OTHER_CODECS[key]
    return {"str": _TEXT, "int": _INTEGER, "datetime": _TIME}[annotation.removesuffix(" | None")]


_CODECS = {item.name: _codec_of(item.name, str(item.type)) for item in fields(BackupInfo) if item.name in STORED_KEYS}
