"""What PostgreSQL needs to recover a restored cluster: ``restore_command``, the recovery target, the signal file.

PostgreSQL docs, 26.3.5 (recovering using a continuous archive backup) and 19.5.5-6 (archive recovery, recovery target).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.errors import OperationError, UsageError
from barman_cloud.postgres.config_file import quoted
from barman_cloud.postgres.wal import format_lsn
from barman_cloud.restore.durability import replace_file
from barman_cloud.restore.files import owner_of, read_file

log = logs.get_logger(__name__)

OLDEST_VERSION = 120000
"""Older servers have ``recovery.conf``."""

_TARGETS = (
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
)
_BEGIN = "# begin recovery settings"
_END = "# end recovery settings"
_BLOCK = re.compile(rf"^{_BEGIN}$.*?^{_END}$\n?".encode(), re.DOTALL | re.MULTILINE)
_SIGNALS = {False: "recovery.signal", True: "standby.signal"}


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """Where recovery gets its WAL from, and where it ends. At most one of the five targets may be set."""

    restore_command: str
    time: datetime | None = None
    lsn: int | None = None
    name: str | None = None
    xid: str | None = None
    immediate: bool = False
    timeline: int | str | None = None
    """A number, ``latest`` or ``current``; None: PostgreSQL's default, which is ``latest``."""
    exclusive: bool = False
    action: str | None = None
    standby: bool = False
    primary_conninfo: str | None = None
    """Where a standby streams WAL from; None: from the archive alone, or as the restored settings say."""
    conf: str = "postgresql.auto.conf"
    """The file that the settings are written to: a path, from the data directory on if it isn't absolute."""

    def __post_init__(self) -> None:
        if len(self.targets()) > 1:
            raise UsageError(
                "more than one recovery target", hint="give one of a time, an LSN, a name, a transaction or 'immediate'"
            )
        if not self.targets() and (self.action or self.exclusive):
            raise UsageError("an action or 'exclusive' without a recovery target means nothing")

    def targets(self) -> dict[str, str]:
        """Return the target as PostgreSQL's parameter and value; empty for recovery to the end of the archive."""
        values = {
            "recovery_target": "immediate" if self.immediate else None,
            "recovery_target_lsn": format_lsn(self.lsn) if self.lsn is not None else None,
            "recovery_target_name": self.name,
            "recovery_target_time": self.time.isoformat(" ") if self.time else None,
            "recovery_target_xid": self.xid,
        }
        return {name: value for name, value in values.items() if value is not None}

    def parameters(self) -> dict[str, str]:
        """Return all parameters in the order in which they have to stand.

        PostgreSQL starts with one target at most, wherever the others are set, so the other ones are emptied; and it
        demands that they are emptied before the one is set.
        """
        chosen = self.targets()
        values = {"restore_command": self.restore_command}
        values.update((name, "") for name in _TARGETS if name not in chosen)
        values.update(chosen)
        if self.exclusive:
            values["recovery_target_inclusive"] = "off"
        if self.timeline is not None:
            values["recovery_target_timeline"] = str(self.timeline)
        if self.action:
            values["recovery_target_action"] = self.action
        if self.primary_conninfo:
            values["primary_conninfo"] = self.primary_conninfo
        return values

    def check(self, info: BackupInfo) -> None:
        """Raise ``OperationError`` if recovery from this backup can't be set up so; ``reach`` looks for the rest."""
        if (info.version or OLDEST_VERSION) < OLDEST_VERSION:
            raise OperationError(
                f"backup {info.backup_id} is of a PostgreSQL older than 12, whose recovery settings aren't written"
            )


def restore_command(
    program: str,
    options: Sequence[str],
    url: str,
    server: str,
    *,
    abort_on_error: bool = True,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Return a ``restore_command`` that runs ``program`` (``barman-cloud-wal-restore``) for this store and server.

    PostgreSQL takes an exit code of 1 to 125 for "not in the archive", which ends recovery: with ``abort_on_error`` a
    damaged segment or a store that fails ends it with an error instead of an early promotion (PostgreSQL docs, 26.3.5).
    ``environ`` are variables that the program needs and the recovered machine may lack.
    """
    abort = ["--abort-recovery-on-error"] if abort_on_error else []
    variables = ["env", *(f"{name}={value}" for name, value in environ.items())] if environ else []
    fixed = shlex.join([*variables, program, *abort, *options, url, server]).replace("%", "%%")
    return f"{fixed} %f %p"


def write(directory: Path, settings: RecoverySettings, backup_id: str) -> None:
    """Append ``settings`` to their file and create the signal file, both for the directory's owner.

    PostgreSQL reads ``postgresql.auto.conf`` last, so that in there these values hold against ``postgresql.conf``.
    All is on disk when this returns.
    """
    conf = directory / settings.conf
    lines = [_BEGIN, f"# Recovery of backup {backup_id}, written by barman-cloud-restore."]
    lines += [f"{name} = {_quoted(value)}" for name, value in settings.parameters().items()]
    owner = owner_of(directory)
    found, mode = read_file(conf)
    # What an earlier restore wrote, if the file still has it, is replaced.
    before = _BLOCK.sub(b"", found).rstrip(b"\n")
    content = (before + b"\n" if before else b"") + "\n".join([*lines, _END, ""]).encode()
    replace_file(conf, content, mode, owner)
    (directory / _SIGNALS[not settings.standby]).unlink(missing_ok=True)
    replace_file(directory / _SIGNALS[settings.standby], b"", 0o600, owner)


def explain(settings: RecoverySettings, directory: Path) -> list[str]:
    """Return what was set and why, one line each, for the user."""
    target = settings.targets()
    where = ", ".join(f"{name} = {value}" for name, value in target.items()) or "none: to the end of the archived WAL"
    timeline = settings.timeline if settings.timeline is not None else "latest (PostgreSQL's default)"
    lines = [
        f"Recovery settings in {directory / settings.conf}:",
        f"  restore_command    {settings.restore_command}",
        f"  recovery target    {where}{' (exclusive)' if settings.exclusive else ''}",
        f"  timeline           {timeline}",
    ]
    if target:
        lines.append(
            f"  at the target      {settings.action or 'pause (PostgreSQL default; then pg_wal_replay_resume())'}"
        )
    if settings.primary_conninfo:
        lines.append("  primary_conninfo   as given")  # it may hold a password
    mode = "standby: keeps following" if settings.standby else "recovers, then opens for writing"
    lines.append(f"  signal file        {_SIGNALS[settings.standby]} ({mode})")
    return lines


def _quoted(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise UsageError(f"a recovery setting must be one line: {value!r}")
    return quoted(value)
