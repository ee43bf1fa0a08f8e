"""Where the tablespaces of a backup go, and whether that is a place for one.

Names and locations come from ``backup.info``, so from whoever can write to the bucket. What the user didn't map
himself goes only to places where tablespaces can be: a directory such as ``/root/.ssh`` is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.errors import OperationError, UsageError

log = logs.get_logger(__name__)

_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin", "/sys",
    "/usr", "/var/cron", "/var/log", "/var/run", "/var/spool", "/var/www", "/var/lib/cloud", "/var/lib/dpkg",
    "/var/lib/rpm", "/var/lib/systemd",
)  # fmt: skip
_USUAL = ("/usr/local/pgsql",)
"""Where PostgreSQL installs itself by default (docs, 17.1)."""


@dataclass(frozen=True, slots=True)
class TablespacePlan:
    """A tablespace and the directory it goes to."""

    tablespace: Tablespace
    target: Path

    @property
    def base(self) -> str:
        """The base name of its archives."""
        return str(self.tablespace.oid)


def parse_tablespace_rules(texts: list[str]) -> dict[str, str]:
    """Return tablespace name -> new location from ``NAME:LOCATION`` texts; the last rule of a name holds.

    ``UsageError`` for a text without a colon, or with nothing before or behind it.
    """
    rules: dict[str, str] = {}
    for text in texts:
        name, colon, location = text.partition(":")
        if not colon or not name or not location:
            raise UsageError(f"'{text}' is no tablespace rule", hint="write --tablespace NAME:LOCATION")
        rules[name] = location
    return rules


def place_tablespaces(info: BackupInfo, target: Path, rules: Mapping[str, str]) -> tuple[TablespacePlan, ...]:
    """Return where each tablespace goes: where a rule says, or where it was.

    A WARNING names each that goes where it was, and rules that name no tablespace. ``OperationError`` for two in one
    place, and for a place that the user didn't name and that is none for a tablespace.
    """
    known = [tablespace.name for tablespace in info.tablespaces or []]
    for name in rules.keys() - set(known):
        log.warning(
            "backup %s has no tablespace %s: that rule has no effect (it has: %s)",
            info.backup_id,
            name,
            ", ".join(known) or "none",
        )
    taken = {target.resolve(): "the recovery directory"}
    result: list[TablespacePlan] = []
    for tablespace in info.tablespaces or []:
        rule = rules.get(tablespace.name)
        place = Path(os.path.realpath(rule)) if rule else _original_place(tablespace, target)
        what = f"tablespace {tablespace.name}"
        other = taken.setdefault(place.resolve(), what)
        if other != what or any(entry.tablespace.oid == tablespace.oid for entry in result):
            raise OperationError(
                f"{what} would go to {place}, which is {other if other != what else 'that of the same oid'}",
                hint=f"give it a directory of its own with --tablespace {tablespace.name}:LOCATION",
            )
        result.append(TablespacePlan(tablespace, place))
    return tuple(result)


def why_unusual(place: Path, target: Path) -> str | None:
    """Return why no tablespace belongs into ``place``, as a phrase; None if it may be a place for one."""
    text = os.path.realpath(place)
    if text == "/":
        return "the root of the file system"
    if not _is_below(text, _USUAL) and (system := _is_below(text, _SYSTEM)):
        return f"below {system}, which is the system's"
    if any(part.startswith(".") for part in Path(text).parts):
        return "a hidden directory, or below one"
    if Path(text).is_relative_to(target.resolve()):
        return f"inside the recovery directory {target}"
    return None


def _original_place(tablespace: Tablespace, target: Path) -> Path:
    name, location = tablespace.name, tablespace.location
    if location == f"pg_tblspc/{tablespace.oid}":
        # In-place tablespaces (PostgreSQL 15 and later) have a location relative to PGDATA.
        return target / location
    hint = f"confirm it with --tablespace {name}:{location}, or give another place"
    if not location.startswith("/") or "\0" in location or "\n" in location:
        raise OperationError(
            f"tablespace {name} was at {location!r}, which is no place for one",
            hint=f"give it one with --tablespace {name}:LOCATION; look who can write to the bucket",
        )
    if unusual := why_unusual(Path(location), target):
        raise OperationError(
            f"tablespace {name} would be written to {location}, as the backup says; that is {unusual}", hint=hint
        )
    log.warning(
        "tablespace %s goes to %s, where it was (hint: --tablespace %s:LOCATION puts it elsewhere)",
        name,
        location,
        name,
    )
    return Path(location)


def _is_below(text: str, places: tuple[str, ...]) -> str | None:
    return next((place for place in places if f"{text}/".startswith(f"{os.path.realpath(place)}/")), None)
