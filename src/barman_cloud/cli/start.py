"""Where the commands start, and how they end: at once.

``barman-cloud-wal-archive`` and ``barman-cloud-wal-restore`` are as quick as Python can. With ``--parallel``, most
calls find their work done by an earlier one. They are answered here, before the parser, logging or a store is imported;
everything else goes on to the command's own module.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # as in typing, whose import would cost more than the short way takes
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def _starting(module: str) -> Callable[[], NoReturn]:
    """Return an entry point: it runs a command's module and ends the process with its exit code."""

    def start() -> NoReturn:
        from importlib import import_module

        try:
            code = import_module(f"barman_cloud.cli.{module}").main()
        except BaseException as error:  # noqa: BLE001
            code = _ended_by(error, interrupted=1)
        _leave(code)

    return start


umbrella = _starting("main")
backup = _starting("backup")
backup_delete = _starting("backup_delete")
backup_keep = _starting("backup_keep")
backup_list = _starting("backup_list")
backup_show = _starting("backup_show")
check_wal_archive = _starting("check_wal_archive")
restore = _starting("restore")


def wal_archive() -> NoReturn:
    """Run ``barman-cloud-wal-archive`` and end the process with its exit code."""
    gc.disable()  # these processes end before there is anything to collect
    try:
        from barman_cloud.deadline import Deadline
        from barman_cloud.wal import archive_spool

        deadline = Deadline.of_command_line("wal-archive", sys.argv[1:])
        if archive_spool.answer(sys.argv[1:], deadline):
            _leave(0)
        from barman_cloud.cli.wal_archive import main

        code = main(deadline)
    except BaseException as error:  # noqa: BLE001
        code = _ended_by(error, interrupted=130)
    _leave(code)


def wal_restore() -> NoReturn:
    """Run ``barman-cloud-wal-restore`` and end the process with its exit code."""
    gc.disable()
    try:
        from barman_cloud.deadline import Deadline
        from barman_cloud.wal import restore_spool

        deadline = Deadline.of_command_line("wal-restore", sys.argv[1:])
        if restore_spool.answer(sys.argv[1:], deadline):
            _leave(0)
        from barman_cloud.cli.wal_restore import main

        code = main(deadline)
    except BaseException as error:  # noqa: BLE001
        code = _ended_by(error, interrupted=130)  # above 125, PostgreSQL stops recovery
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End at once, without taking interpreter and store client down.

    That takes longer than sending a segment, and waits for threads that may wait for a store which doesn't answer.
    Nothing is lost with it: what the commands do is durable when they return, and stderr holds no complete line back.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # the version, or the help of the umbrella; commands did it themselves
    except OSError as error:
        code = code or _unwritten(error)
    os._exit(code)


def _ended_by(error: BaseException, *, interrupted: int) -> int:
    """Return the exit code for whatever came out of a command, after one line that says what.

    Commands handle errors themselves; this is for what goes wrong around them. Uncaught it would end with 1, which
    means "not in the archive" to who calls ``wal-restore``.
    """
    if isinstance(error, SystemExit | GeneratorExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        return interrupted  # not even the message about the first one got through
    if isinstance(error, OSError):
        return _unwritten(error)
    reason = str(error).split("\n", 1)[0] or type(error).__name__
    what = "the installation is incomplete" if isinstance(error, ImportError) else "unexpected error"
    print(f"{sys.argv[0]}: {what}: {reason}", file=sys.stderr)
    return 4


def _unwritten(error: OSError) -> int:
    """Say in one line which file an error is about: standard output if it names none."""
    print(f"{sys.argv[0]}: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
    return 4
