"""Printing what check and verify found."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from barman_cloud.cli import options
from barman_cloud.report.terminal import write
from barman_cloud.verify import render
from barman_cloud.verify.findings import Level
from barman_cloud.verify.picture import draw

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments
    from barman_cloud.verify.findings import Report


def show(args: Arguments, *reports: Report, timeline: bool = True) -> int:
    """Print reports as ``--format`` says, and return the exit code: 1 if something is wrong or couldn't be told.

    ``timeline``: with a picture of what can be restored.
    """
    if args.format == "json":
        write(f"{render.as_json(reports)}\n")
    else:
        write("\n".join(_as_text(report, timeline=timeline) for report in reports))
    return 1 if any(report.level in (Level.CRITICAL, Level.UNKNOWN) for report in reports) else 0


def _as_text(report: Report, *, timeline: bool) -> str:
    stream = sys.stdout
    terminal = stream is not None and stream.isatty()
    picture = None
    if timeline:
        picture = draw(report.backup_times, report.recoverable, report.moment, unicode=options.writes_unicode())
    return f"{render.text(report, colour=terminal and not os.environ.get('NO_COLOR'), picture=picture)}\n"
