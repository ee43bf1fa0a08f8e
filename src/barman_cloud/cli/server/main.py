"""Runs one server command: global options as Barman's, then the command's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any, NoReturn

from barman_cloud import __version__, logs
from barman_cloud.cli.command import describe
from barman_cloud.cli.server import registry
from barman_cloud.cli.server.output import Output
from barman_cloud.cli.showing import waiting
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.terminal import give_up_stdout

_PROGRAM = "barman-cloud server"
_LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Parser(argparse.ArgumentParser):
    """Argparse, whose usage errors end with 2 as Barman's."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {logs.escape_controls(message)} ('{self.prog} --help' lists the options)\n")


def main(words: Sequence[str], file: str | None = None) -> int:
    """Run ``barman-cloud server WORDS…`` and return its exit code: 0, 1 for any failure, 2 for a wrong command line.

    ``file`` is the configuration that was named before ``server``.
    """
    given = _global_parser().parse_args(list(words))
    if given.command in ("help", None):
        _global_parser().print_help()
        return 0 if given.command else 2
    name = registry.find(given.command)
    if name is None:
        return _unknown(given.command)
    declare, do = registry.functions(name)
    parser = Parser(prog=f"{_PROGRAM} {name}", description=registry.COMMANDS[name].summary or None)
    declare(parser)
    args = parser.parse_args(given.rest)
    output = Output(as_json=given.format == "json", quiet=given.quiet, debug=given.debug)
    return _run(do, args, output, given.config or file, given.log_level)


def _run(do: Any, args: argparse.Namespace, output: Output, file: str | None, level: str | None) -> int:
    from barman_cloud.cli.server.session import Session

    # Lines that are made before the configuration tells where else they go, a warning of its own included.
    logs.configure(2 if output.debug else 0, sink=output.logged)
    try:
        with nullcontext() if output.quiet else waiting(), Session.open(file, output, level) as session:
            do(session, args)
    except BarmanCloudError as error:
        output.error(str(error), error.hint)
    except KeyboardInterrupt:
        output.error("interrupted")
    except BrokenPipeError:
        give_up_stdout()  # the reader of our output went away
        return 1
    except OSError as error:
        output.error(describe(error))
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the last resort: one line, the trace with -d
        if output.debug:
            import traceback

            traceback.print_exc()
        output.error(describe(error))
    try:
        output.finish()
    except OSError as error:
        give_up_stdout()
        print(f"{_PROGRAM}: {describe(error)}", file=sys.stderr)
        return 1
    return output.exit_code


def _global_parser() -> Parser:
    parser = Parser(prog=_PROGRAM, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_list())
    parser.add_argument(
        "-v", "--version", action="version", version=f"barman-cloud {__version__}", help="print the version and exit"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration (default: where Barman looks for it)")
    parser.add_argument("--color", "--colour", choices=("never", "always", "auto"), default="auto", help="no effect")
    parser.add_argument("--log-level", choices=_LEVELS, help="least important lines of log_file")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no results")
    parser.add_argument("-d", "--debug", action="store_true", help="tell on stderr what is done")
    parser.add_argument("-f", "--format", choices=("console", "json"), default="console", help="form of the output")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="its arguments: COMMAND --help tells them")
    return parser


def _list() -> str:
    width = max(map(len, registry.COMMANDS))
    lines = [f"  {name:{width}}  {entry.summary}" for name, entry in sorted(registry.COMMANDS.items()) if entry.summary]
    return "\n".join(["commands:", *lines])


def _unknown(word: str) -> int:
    close = get_close_matches(word, [*registry.COMMANDS, *registry.ALIASES], 1)
    hint = f"; is it '{close[0]}'?" if close else ""
    print(
        f"{_PROGRAM}: error: unknown command '{logs.escape_controls(word)}'{hint} ('{_PROGRAM} --help' lists them)",
        file=sys.stderr,
    )
    return 2
