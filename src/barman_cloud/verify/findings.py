"""The vocabulary of check, verify and drill: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """How bad a finding is; the numbers are the exit codes of Nagios plugins (Monitoring Plugins guidelines, 2.4)."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3
    """It could not be found out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What was looked at, always in the same words: a slug such as ``newest-backup``."""
    level: Level
    message: str
    """One line for people."""
    hint: str | None = None
    """The next step, for whatever isn't OK."""
    objects: tuple[str, ...] = ()
    """What it is about: backup ids, WAL files, URLs of objects."""
    numbers: tuple[tuple[str, float], ...] = ()
    """What was measured, for the metrics of the report."""

    @property
    def problem(self) -> bool:
        return self.level is not Level.OK

    def with_numbers(self, numbers: Mapping[str, float]) -> Finding:
        """Return the finding with what was measured, by the names of metrics (:attr:`Report.metrics`)."""
        return replace(self, numbers=tuple(numbers.items()))

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "level": self.level.name.lower(),
            "message": self.message,
            "hint": self.hint,
            "objects": list(self.objects),
        }


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Moments that can be restored, both ends included."""

    start: datetime
    end: datetime

    def to_json(self) -> dict[str, str]:
        return {"from": self.start.isoformat(), "to": self.end.isoformat()}


@dataclass(frozen=True, slots=True)
class Report:
    """What one command found out about one server."""

    command: str
    """``check``, ``verify`` or ``drill``."""
    url: str
    server: str
    moment: datetime
    findings: tuple[Finding, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers for monitoring: name (Prometheus form, without prefix) to value; times in seconds since 1970."""
    recoverable: tuple[TimeRange, ...] = ()
    backup_times: tuple[datetime, ...] = ()
    """When the complete backups ended."""

    @property
    def level(self) -> Level:
        """The worst level; UNKNOWN counts more than WARNING and less than CRITICAL."""
        return worst(finding.level for finding in self.findings)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What isn't OK, the worst first."""
        bad = [finding for finding in self.findings if finding.level is not Level.OK]
        return tuple(sorted(bad, key=lambda finding: -_WEIGHT[finding.level]))

    def to_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "command": self.command,
            "url": self.url,
            "server": self.server,
            "time": self.moment.isoformat(),
            "level": self.level.name.lower(),
            "findings": [finding.to_json() for finding in self.findings],
            "recoverable": [span.to_json() for span in self.recoverable],
            "metrics": dict(self.metrics),
        }


_WEIGHT = {Level.OK: 0, Level.WARNING: 1, Level.UNKNOWN: 2, Level.CRITICAL: 3}


def worst(levels: Iterable[Level]) -> Level:
    return max(levels, key=_WEIGHT.__getitem__, default=Level.OK)


def ok(subject: str, message: str, *objects: str) -> Finding:
    return Finding(subject, Level.OK, message, objects=objects)


def warning(subject: str, message: str, hint: str, *objects: str) -> Finding:
    return Finding(subject, Level.WARNING, message, hint, objects)


def critical(subject: str, message: str, hint: str, *objects: str) -> Finding:
    return Finding(subject, Level.CRITICAL, message, hint, objects)


def unknown(subject: str, message: str, hint: str | None = None, *objects: str) -> Finding:
    return Finding(subject, Level.UNKNOWN, message, hint, objects)
