"""What all commands share: the parser, logging, ``--test``, and exit codes.

A command module holds ``COMMAND`` and a ``main()`` of one line; what it is about is in ``add_arguments`` and ``run``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.cli.plain import Arguments, PlainParser
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, BucketNotFoundError, ConnectivityError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Declarations
    from barman_cloud.config.server import Server

log = logs.get_logger("barman_cloud")


class Command(NamedTuple):
    """One command. ``run`` gets the parsed arguments and returns an exit code, None meaning 0."""

    name: str
    add_arguments: Callable[[Declarations], None]
    run: Callable[[Arguments], int | None]
    validate: Callable[[Arguments], None] | None = None
    """Checks of argument values that come before anything else, ``--test`` included."""
    connectivity_exit_code: int = 4
    """The original commands answer 4 to a lost connection, except those that PostgreSQL or an operator listens to."""
    interrupt_exit_code: int | None = None
    """Exit code after SIGINT; None: the signal kills the process, as a shell expects."""
    has_own_test: bool = False
    """``--test`` is handled by ``run`` itself."""
    run_all: Callable[[Arguments, Sequence[Arguments], Mapping[str, str]], int] | None = None
    """Runs it for all servers of the configuration, which are called ``all``, and returns its exit code.

    It gets what is common, what is meant for each server, and why some servers can't be used, by their names.
    """
    configured: bool = False
    """It works on the servers of the configuration: no URL is put before a server's name."""
    per_segment: bool = False
    """PostgreSQL runs it for each segment: what shows how far it is, is loaded only for a terminal or when asked."""


class Configured(NamedTuple):
    """What a command line of the umbrella has to do with the configuration."""

    file: str | None = None
    """The main file, if it was named by ``-c``."""
    server: Server | None = None
    """The server whose name stood for a URL and options."""


class LinesForAll(NamedTuple):
    """The command lines of one command for all servers."""

    shared: list[str]
    """The line without a server, for what is common."""
    servers: list[tuple[list[str], Server]]
    errors: dict[str, str]
    """Why servers can't be used, by their names."""


def load(name: str) -> Command:
    """Import the module of the command ``name`` (see ``commands``) and return the command."""
    from importlib import import_module

    command: Command = import_module(f"barman_cloud.cli.{name.replace('-', '_')}").COMMAND
    return command


def main(
    command: Command,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    deadline: Deadline | None = None,
    configured: Configured | None = None,
) -> int:
    """Run ``command`` and return its exit code; errors are logged here and nowhere else.

    ``deadline`` is that of a command which began before it came here.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = parse(command, words, prog)
    if configured:
        args.configuration_file, args.server = configured
    args.deadline = deadline or args.deadline
    return guarded(command, args, lambda: _run(command, args))


def guarded(command: Command, args: Arguments, run: Callable[[], int]) -> int:
    """Return what ``run`` returns, or the exit code of the error that it raises, which is logged."""
    logs.configure(args.verbose - args.quiet)
    if command.interrupt_exit_code is None:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = run()
        if "barman_cloud.report.terminal" in sys.modules:  # or nothing was written
            from barman_cloud.report.terminal import flush

            flush()  # what can't be written is an error like any other
        return code
    except BarmanCloudError as error:
        _log_error(str(error), error.hint)
        return _code_of(command, error)
    except KeyboardInterrupt as error:
        _log_error("interrupted", None)
        return _code_of(command, error)
    except BrokenPipeError:
        from barman_cloud.report.terminal import give_up_stdout

        give_up_stdout()  # the reader of our output went away
        return 4
    except OSError as error:
        _log_error(describe(error), _hint_of(error))
        return 4
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the last resort: one line for the user, the trace for -vv
        _log_error(describe(error), None)
        return 4


def run_for_all(command: Command, lines: LinesForAll, prog: str, file: str | None) -> int:
    """Run ``command`` for many servers at once and return its exit code; each has a command line of its own."""
    shared = parse(command, lines.shared, prog)
    given = []
    for words, server in lines.servers:
        args = parse(command, words, prog)
        args.configuration_file, args.server = file, server
        given.append(args)
    assert command.run_all is not None
    run_all = command.run_all
    return guarded(command, shared, lambda: _shown(command, shared, lambda args: run_all(args, given, lines.errors)))


def parse(command: Command, words: list[str], prog: str | None = None) -> Arguments:
    """Return the values of a command line, itself, and the deadline that begins now.

    A wrong one ends the process with 3, ``--help`` with 0.
    """
    plain = PlainParser()
    command.add_arguments(plain)
    args = plain.parse(words)
    if args is None:
        from barman_cloud.cli.commands import SUMMARIES
        from barman_cloud.cli.parser import Parser

        parser = Parser(prog=prog or f"barman-cloud-{command.name}", description=SUMMARIES[command.name])
        parser.command = command.name
        command.add_arguments(parser)
        args = parser.parse_args(words, Arguments())
    args.command_line = words
    args.deadline = Deadline.of_command(command.name, args.timeout, test=args.test)
    args.is_umbrella = prog is not None
    args.is_shown = False
    return args


def _run(command: Command, args: Arguments) -> int:
    if command.validate:
        command.validate(args)
    return _shown(command, args, test_connectivity if args.test and not command.has_own_test else command.run)


def _shown(command: Command, args: Arguments, run: Callable[[Arguments], int | None]) -> int:
    """Run it, and show how far it is to who looks or reads: nobody has to take a silent command for a dead one."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty() and not (command.per_segment and _is_postgres_s())
    asked = args.progress != "auto" or args.json_summary if command.per_segment else hasattr(args, "progress")
    if not on_terminal and not asked:
        return run(args) or 0
    from barman_cloud.cli import showing

    def judge(error: BaseException) -> tuple[int, str]:
        line = "interrupted" if isinstance(error, KeyboardInterrupt) else describe(error)
        return _code_of(command, error), line

    return showing.run(command.name, run, args, judge)


def _is_postgres_s() -> bool:
    """Tell whether PostgreSQL has started this process: in a container with a terminal, nobody sits before that.

    Each of its processes is the leader of a session, which what it starts belongs to (``InitPostmasterChild``).
    """
    try:
        with open(f"/proc/{os.getsid(0)}/comm", encoding="utf-8") as name:
            return name.read().strip() in ("postgres", "postmaster")
    except OSError:
        return False


def _code_of(command: Command, error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, ConnectivityError):
        return command.connectivity_exit_code
    if isinstance(error, BarmanCloudError):
        return error.exit_code
    return command.interrupt_exit_code or 1 if isinstance(error, KeyboardInterrupt) else 4


def test_connectivity(args: Arguments) -> int:
    """Ask once whether the bucket can be reached and exists: 0, or 1 (missing), 2 (unreachable), 4 (anything else)."""
    from barman_cloud.cli.options import store_from, url_from

    with store_from(args) as store:
        try:
            store.check()
        except BucketNotFoundError as error:
            _log_error(str(error), error.hint)
            return 1
        except ConnectivityError as error:
            _log_error(str(error), error.hint)
            return 2
    if args.is_shown:
        from barman_cloud.report.summary import Summary

        args.summary = Summary(f"{url_from(args)}: the bucket is there", moved=False)
    return 0


def describe_os_error(error: OSError) -> str:
    """Return one line for an operating system error: what, and on which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def describe(error: BaseException) -> str:
    """Return one line for any exception. Libraries raise some that aren't ``Exception``s, such as a panic of Rust's."""
    if isinstance(error, BarmanCloudError):
        return str(error)
    if isinstance(error, OSError):
        return describe_os_error(error)
    lines = str(error).split("\n", 1)[0].strip()
    return f"unexpected {type(error).__name__}: {lines or 'no message'}"


def _hint_of(error: OSError) -> str | None:
    """Return what to do about the errors of a file system that people meet at night."""
    import errno

    return {
        errno.ENOSPC: "free some room there, and run the command again",
        errno.EDQUOT: "raise the quota of this user, or free some room, and run the command again",
        errno.EROFS: "the file system is read-only: see dmesg for why, and mount it read-write",
        errno.EACCES: "let this user read and write it, or run the command as the user that PostgreSQL runs as",
    }.get(error.errno or 0)


def _log_error(message: str, hint: str | None) -> None:
    log.error("%s (hint: %s)" if hint else "%s%s", message, hint or "", exc_info=logs.enabled(logs.DEBUG))
