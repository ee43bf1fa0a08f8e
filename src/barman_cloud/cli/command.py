"""What all commands share: the parser, logging, ``--test``, and exit codes.

A command module holds ``COMMAND`` and a ``main()`` of one line; what it is about is in ``add_arguments`` and ``run``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from barman_cloud.errors import BarmanCloudError, BucketNotFoundError, ConnectivityError

log = logging.getLogger("barman_cloud")

SUMMARIES = {
    "backup": "Take a base backup of a PostgreSQL cluster and store it.",
    "backup-delete": "Delete backups, by name or by retention policy, and the WAL that no other backup needs.",
    "backup-keep": "Keep a backup regardless of retention policies, release it, or tell whether it is kept.",
    "backup-list": "List the backups of a server.",
    "backup-show": "Show one backup in detail.",
    "check-wal-archive": "Check that the WAL archive is safe to use for a new cluster.",
    "restore": "Restore a base backup into a directory.",
    "wal-archive": "Store one WAL file; for archive_command.",
    "wal-restore": "Fetch one WAL file; for restore_command.",
}


class Command(NamedTuple):
    """One command. ``run`` gets the parsed arguments and returns an exit code, None meaning 0."""

    name: str
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int | None]
    validate: Callable[[argparse.Namespace], None] | None = None
    """Checks of argument values that come before anything else, ``--test`` included."""
    connectivity_exit_code: int = 4
    """The original commands answer 4 to a lost connection, except those that PostgreSQL or an operator listens to."""
    interrupt_exit_code: int | None = None
    """Exit code after SIGINT; None: the signal kills the process, as a shell expects."""
    has_own_test: bool = False
    """``--test`` is handled by ``run`` itself."""


class Parser(argparse.ArgumentParser):
    """GNU-like parser of the original commands: usage errors end with 3, help is only ``--help``.

    Options that the original commands don't have are added with :meth:`add_extension`; they must be spelled out, so
    that no abbreviation that works today becomes ambiguous.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._extensions: set[str] = set()
        self.extra_positional: str | None = None
        """A trailing optional positional: filled from what argparse, before Python 3.13, finds behind later options."""
        kwargs.setdefault("add_help", False)
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, **kwargs)

    def add_extension(
        self, *flags: str, group: argparse._ActionsContainer | None = None, **kwargs: Any
    ) -> argparse.Action:
        """Declare an option of ours that can't be abbreviated."""
        self._extensions.update(flags)
        return (group or self).add_argument(*flags, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: error: {message}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        values, rest = self.parse_known_args(args, namespace)
        missing = self.extra_positional
        if len(rest) == 1 and not rest[0].startswith("-") and missing and getattr(values, missing) is None:
            setattr(values, missing, rest.pop())
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return values

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        candidates: list[Any] = super()._get_option_tuples(option_string)
        return [found for found in candidates if not self._extensions.intersection(found[0].option_strings)]


class _HelpFormatter(argparse.HelpFormatter):
    """Knows the width of the terminal without shutil, which argparse would load, and bz2 and lzma with it."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, width=_terminal_width() - 2, **kwargs)


def _terminal_width() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) or 80
    except (OSError, ValueError):
        return 80


def main(command: Command, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run ``command`` and return its exit code; errors are logged here and nowhere else."""
    parser = Parser(prog=prog or f"barman-cloud-{command.name}", description=SUMMARIES[command.name])
    command.add_arguments(parser)
    args = parser.parse_args(argv)
    args.command_line = list(sys.argv[1:] if argv is None else argv)
    configure_logging(args.verbose - args.quiet)
    if command.interrupt_exit_code is None:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return _run(command, args)
    except BarmanCloudError as error:
        _log_error(str(error), error.hint)
        if isinstance(error, ConnectivityError):
            return command.connectivity_exit_code
        return error.exit_code
    except KeyboardInterrupt:
        _log_error("interrupted", None)
        return command.interrupt_exit_code or 1
    except BrokenPipeError:
        # The reader of our output went away; a second flush at exit must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 4
    except OSError as error:
        _log_error(describe_os_error(error), None)
        return 4
    except Exception as error:  # noqa: BLE001 - the last resort: one line for the user, the trace for -vv
        _log_error(
            f"unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}", None
        )
        return 4


def _run(command: Command, args: argparse.Namespace) -> int:
    if command.validate:
        command.validate(args)
    if args.test and not command.has_own_test:
        return test_connectivity(args)
    return command.run(args) or 0


def test_connectivity(args: argparse.Namespace) -> int:
    """Ask once whether the bucket can be reached and exists: 0, or 1 (missing), 2 (unreachable), 4 (anything else)."""
    from barman_cloud.cli.options import store_from

    with store_from(args) as store:
        try:
            store.check()
        except BucketNotFoundError as error:
            _log_error(str(error), error.hint)
            return 1
        except ConnectivityError as error:
            _log_error(str(error), error.hint)
            return 2
    return 0


def configure_logging(verbosity: int) -> None:
    """Log our own lines to stderr: WARNING and above, one level more for each ``-v``, one less for each ``-q``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(levelname)s: %(message)s"))
    # Only our own logger: libraries at DEBUG would print request headers, credentials among them.
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(max(logging.DEBUG, logging.WARNING - 10 * verbosity))


def describe_os_error(error: OSError) -> str:
    """Return one line for an operating system error: what, and on which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _log_error(message: str, hint: str | None) -> None:
    log.error("%s (hint: %s)" if hint else "%s%s", message, hint or "", exc_info=log.isEnabledFor(logging.DEBUG))
