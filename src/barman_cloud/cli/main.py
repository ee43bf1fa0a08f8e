"""The umbrella command ``barman-cloud``: the same commands as subcommands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches

from barman_cloud import __version__
from barman_cloud.cli.command import Configured, load, run_for_all
from barman_cloud.cli.command import main as run_command
from barman_cloud.cli.commands import OWN, PROGRAMS, SHORT, SUMMARIES
from barman_cloud.cli.names import lines_for_all, resolved
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.terminal import write


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``barman-cloud SUBCOMMAND …`` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    file = None
    if len(arguments) > 1 and arguments[0] in ("-c", "--config"):
        file, arguments = arguments[1], arguments[2:]
    name = SHORT.get(arguments[0], arguments[0]) if arguments else None
    if name in SUMMARIES:
        command = load(name)
        words, server = arguments[1:], None
        try:
            if command.run_all and (lines := lines_for_all(command, words, file)):
                return run_for_all(command, lines, f"barman-cloud {name}", file)
            if not command.configured:
                words, server = resolved(command, words, file)
        except BarmanCloudError as error:
            hint = f" (hint: {error.hint})" if error.hint else ""
            print(f"barman-cloud: error: {error}{hint}", file=sys.stderr)
            return error.exit_code
        return run_command(command, words, prog=f"barman-cloud {name}", configured=Configured(file, server))
    if name in ("completion", "__complete"):
        from barman_cloud.cli import completion

        return completion.main(arguments[1:]) if name == "completion" else completion.answer("".join(arguments[1:2]))
    if name == "server":
        from barman_cloud.cli.server.main import main as run_server

        return run_server(arguments[1:], file)
    if name in ("-V", "--version"):
        write(f"barman-cloud {__version__}\n")
        return 0
    if name in ("--help", "-h", "help"):
        write(f"{_help()}\n")
        return 0
    close = get_close_matches(name or "", [*SUMMARIES, *SHORT, "server", "completion"], 1)
    problem = f"unknown command '{name}'" if name else "a command is needed"
    if close:
        problem += f"; is it '{close[0]}'?"
    print(f"barman-cloud: error: {problem}; 'barman-cloud --help' lists them", file=sys.stderr)
    return 3


def _help() -> str:
    width = max(map(len, SUMMARIES))
    return "\n".join(
        [
            "usage: barman-cloud [-c FILE] COMMAND [options] URL SERVER …",
            "       barman-cloud [-c FILE] COMMAND [options] SERVER …      with a configuration, or BARMAN_CLOUD_URL",
            "       (BARMAN_CLOUD_SERVER holds the server where the line names none)",
            "",
            *(f"  {name:{width}}  {summary}" for name, summary in OWN.items()),
            "",
            f"  {'server':{width}}  Barman's server commands, word for word: 'barman-cloud server --help' lists them.",
            "",
            "Also installed as barman-cloud-COMMAND:",
            "",
            *(f"  {name:{width}}  {summary}" for name, summary in PROGRAMS.items()),
            "",
            f"Shorter: {', '.join(f'{short} for {name}' for short, name in SHORT.items())}.",
            "'barman-cloud COMMAND --help' tells the options of one.",
            "'barman-cloud completion bash' (or zsh, fish) prints what makes a shell complete them.",
        ]
    )
