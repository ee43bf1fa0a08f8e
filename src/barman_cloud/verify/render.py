"""Reports as people and programs read them: a table, JSON, one line for Nagios, and metrics for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

from barman_cloud.verify.findings import Finding, Level, Report, worst

_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.CRITICAL: "31", Level.UNKNOWN: "35"}
_MARKS = {Level.OK: "OK", Level.WARNING: "WARNING", Level.CRITICAL: "FAILED", Level.UNKNOWN: "UNKNOWN"}
_PREFIX = "barman_cloud"


def text(report: Report, *, colour: bool = False, picture: str | None = None) -> str:
    """Return the table for people: a line for each finding, and the next step below what isn't OK."""
    width = max((len(finding.subject) for finding in report.findings), default=0)
    lines = [f"{report.command} of {report.server} at {report.url}: {_mark(report.level, colour)}", ""]
    for finding in report.findings:
        lines.append(f"  {_mark(finding.level, colour, 8)} {finding.subject:{width}}  {finding.message}")
        if finding.level is not Level.OK and finding.hint:
            lines.append(f"  {'':8} {'':{width}}  -> {finding.hint}")
    if report.recoverable:
        lines += ["", f"  {recoverable_text(report)}"]
    if picture:
        lines += ["", f"  {picture}"]
    return "\n".join(lines)


def recoverable_text(report: Report) -> str:
    """Return the moments that can be restored as a sentence: ``any moment from … to …, but not … to …``."""
    spans = report.recoverable
    if not spans:
        return "no moment can be restored"
    sentence = f"any moment from {_time(spans[0].start)} to {_time(spans[-1].end)} can be restored"
    gaps = [f"after {_time(one.end)} until {_time(two.start)}" for one, two in pairwise(spans)]
    return f"{sentence}, but not {' or '.join(gaps)}" if gaps else sentence


def as_json(reports: Sequence[Report]) -> str:
    """Return one document for all servers, in the order given."""
    return json.dumps({"version": 1, "servers": [report.to_json() for report in reports]}, indent=2)


def nagios(reports: Sequence[Report]) -> tuple[str, int]:
    """Return the line of a Nagios plugin and its exit code (Monitoring Plugins guidelines, 2.1 and 2.4)."""
    level = worst(report.level for report in reports)
    parts = []
    for report in reports:
        if report.problems:
            parts.append(f"{report.server}: " + "; ".join(finding.message for finding in report.problems))
        else:
            count = len(report.findings)
            parts.append(f"{report.server}: {count} check{'' if count == 1 else 's'} passed")
    data = " ".join(
        f"'{report.server}_{name}'={value:g}" for report in reports for name, value in sorted(report.metrics.items())
    )
    line = f"BARMAN-CLOUD {level.name} - {' | '.join(parts) if len(parts) == 1 else ', '.join(parts)}".replace("|", "/")
    return (f"{line} | {data}" if data else line), int(level)


def prometheus(reports: Sequence[Report]) -> str:
    """Return metrics in Prometheus' text format (its documentation, "Exposition formats")."""
    lines: list[str] = []
    names = sorted({name for report in reports for name in report.metrics})
    for name in names:
        lines += [f"# HELP {_PREFIX}_{name} {name.replace('_', ' ')}", f"# TYPE {_PREFIX}_{name} gauge"]
        lines += [
            f"{_PREFIX}_{name}{{{_labels(report)}}} {report.metrics[name]!r}"
            for report in reports
            if name in report.metrics
        ]
    lines += [f"# HELP {_PREFIX}_finding level of a finding: 0 ok, 1 warning, 2 critical, 3 unknown"]
    lines += [f"# TYPE {_PREFIX}_finding gauge"]
    for report in reports:
        for subject, level in _by_subject(report.findings):
            lines.append(f'{_PREFIX}_finding{{{_labels(report)},subject="{_escaped(subject)}"}} {int(level)}')
    return "\n".join(lines) + "\n"


def _by_subject(findings: Iterable[Finding]) -> list[tuple[str, Level]]:
    levels: dict[str, Level] = {}
    for finding in findings:
        levels[finding.subject] = worst((levels.get(finding.subject, Level.OK), finding.level))
    return sorted(levels.items())


def _labels(report: Report) -> str:
    return f'server="{_escaped(report.server)}",command="{_escaped(report.command)}"'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _mark(level: Level, colour: bool, width: int = 0) -> str:
    mark = f"{_MARKS[level]:{width}}"
    return f"\x1b[{_COLOURS[level]}m{mark}\x1b[0m" if colour else mark


def _time(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}"
