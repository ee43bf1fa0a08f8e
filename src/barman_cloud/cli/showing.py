"""Running a command whose progress is shown and whose end is told: on a terminal every one, elsewhere what is asked.

Whatever a command waits for, its terminal has a live line that moves.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.errors import BarmanCloudError, UsageError
from barman_cloud.report import live, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.cli.plain import Arguments
    from barman_cloud.report.progress import Progress
    from barman_cloud.report.summary import Outcome

log = logs.get_logger(__name__)


def run(
    name: str,
    function: Callable[[Arguments], int | None],
    args: Arguments,
    judge: Callable[[BaseException], tuple[int, str]],
) -> int:
    """Run ``function``, show how far it is, and tell at its end what ``args.summary`` says.

    ``judge`` tells the exit code of an error and its line; it is raised as it is. Raises ``UsageError`` if the file of
    ``--json-summary`` can't be there.
    """
    file = Path(args.json_summary) if getattr(args, "json_summary", None) else None
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"--json-summary: there is no directory {file.absolute().parent}", hint="make it first")
    verbosity = args.verbose - args.quiet
    mode = live.mode_of(getattr(args, "progress", live.AUTO), verbosity, sys.stderr)
    args.summary = None
    args.is_shown = True
    began = time.time()
    with progress.watched() as work:
        try:
            with live.shown(work, mode, name):
                code = function(args) or 0
        except BaseException as error:
            if file is not None:
                hint = error.hint if isinstance(error, BarmanCloudError) else None
                _write(file, work, _outcome(name, args, began, *judge(error), hint), args)
            raise
        if file is not None:
            _write(file, work, _outcome(name, args, began, code), args)
        _tell(args, work, time.time() - began, verbosity)
    return code


@contextmanager
def waiting() -> Iterator[None]:
    """Show that the store is asked, on a terminal, for what isn't a command by itself; within one, nothing more."""
    if progress.is_watched():
        yield
        return
    with progress.watched() as work, live.shown(work, live.mode_of(live.AUTO, 0, sys.stderr), ""):
        yield


def _tell(args: Arguments, work: Progress, seconds: float, verbosity: int) -> None:
    """Write the summary to standard error: bare lines on a terminal, at ``-v`` the log's elsewhere."""
    if args.summary is None or verbosity < 0:
        return
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not on_terminal and verbosity < 1:
        return
    from barman_cloud.report import summary

    for line in summary.lines(args.summary, work, seconds, unicode=live.unicode_on(sys.stderr)):
        if on_terminal:
            print(logs.escape_controls(line), file=sys.stderr)
        else:
            log.info("%s", line)


def _outcome(
    name: str, args: Arguments, began: float, code: int, error: str | None = None, hint: str | None = None
) -> Outcome:
    from datetime import datetime

    from barman_cloud.report.summary import Outcome

    first, last = datetime.fromtimestamp(began).astimezone(), datetime.now().astimezone()
    return Outcome(name, options.url_from(args), args.server_name, code, first, last, error, hint)


def _write(file: Path, work: Progress, outcome: Outcome, args: Arguments) -> None:
    """Write the document; the work is done then, so that a file that can't be written is a WARNING."""
    from barman_cloud.report import summary

    try:
        summary.write(file, args.summary, work, outcome)
    except OSError as error:
        log.warning("--json-summary %s can't be written: %s", file, error.strerror or error)
