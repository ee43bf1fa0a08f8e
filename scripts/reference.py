"""Write the reference pages that the code itself knows: every command's options, and the exit codes.

``python -m scripts.reference`` writes the pages; ``--check`` only tells (exit 1) whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from barman_cloud import errors
from barman_cloud.cli.command import load
from barman_cloud.cli.commands import PROGRAMS, SHORT, SUMMARIES
from barman_cloud.cli.parser import Parser
from scripts.configuration_page import configuration_page
from scripts.server_page import server_page

PAGES = Path(__file__).parent.parent / "docs" / "reference"


def option_rows(parser: Parser) -> Iterator[str]:
    """Yield one table row for each option and positional of a command."""
    for action in parser._actions:
        if action.option_strings:
            value = (
                ""
                if action.nargs == 0
                else " " + (action.metavar or "|".join(action.choices or ()) or action.dest.upper())
            )  # type: ignore[operator]
            name = ", ".join(f"`{flag}`" for flag in action.option_strings) + (f" `{value.strip()}`" if value else "")
        else:
            name = f"**`{action.dest}`**"
        help_text = (action.help or "").replace("%%", "%").replace("|", "\\|")
        yield f"| {name.replace('|', chr(92) + '|')} | {help_text} |"


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def commands_page() -> str:
    """Return the page of all commands and their options."""
    lines = [
        "# Commands",
        "",
        "Made by `make docs` from the parsers. Each command is a subcommand of `barman-cloud`; those that Barman has",
        "too are installed as `barman-cloud-COMMAND` as well.",
        "Options and positionals (bold) mix in any order; long options may be abbreviated.",
        f"{_listed([f'`{short}` is short for `{name}`' for short, name in SHORT.items()])}: `barman-cloud list main`.",
        "",
        "`barman-cloud completion bash` (or `zsh`, `fish`) prints the script that makes a shell complete commands,",
        "options, servers and backups. Load it with `source <(barman-cloud completion bash)` in `~/.bashrc`, the same",
        "with `zsh` in `~/.zshrc` (after `compinit`), or `barman-cloud completion fish | source` in `config.fish`.",
        "",
        "The scripts and the manual pages are installed as well: by the Debian package where shells and `man` look, by",
        "`pip` in `share` of the environment. There `man` finds the pages if `bin` is in the `PATH` (else",
        "`man -M /opt/barman-cloud/share/man barman-cloud-backup`); bash (with the package `bash-completion`) and fish",
        "find the scripts with",
        "`export XDG_DATA_DIRS=/opt/barman-cloud/share:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}`,",
        "zsh with `fpath=(/opt/barman-cloud/share/zsh/site-functions $fpath)` before `compinit`.",
    ]
    for name, summary in SUMMARIES.items():
        parser = Parser(prog=f"barman-cloud {name}")
        load(name).add_arguments(parser)
        lines += [
            "",
            f"## barman-cloud{'-' if name in PROGRAMS else ' '}{name}",
            "",
            summary,
            "",
            "| option | meaning |",
            "| --- | --- |",
            *option_rows(parser),
        ]
    return "\n".join(lines) + "\n"


def error_rows(kind: type[errors.BarmanCloudError], depth: int = 0) -> Iterator[str]:
    """Yield one table row for each class of the error tree, parents first."""
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    yield f"| {'&nbsp;' * 4 * depth}`{kind.__name__}` | {kind.exit_code} | {summary} |"
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_rows(child, depth + 1)


def exit_codes_page() -> str:
    """Return the page of exit codes."""
    head = """# Exit codes

Made by `make docs` from `errors.py`. An error is one line on stderr; what to do next stands behind it in brackets.

| code | meaning |
| --- | --- |
| 0 | done, or nothing to do |
| 1 | the store answered, but what was asked can't be done; `wal-restore`: not in the archive |
| 2 | the store can't be reached (`wal-restore`, `check-wal-archive`, `check`, `verify`, `doctor`, `--test`) |
| 3 | bad command line, retention policy, tablespace rule or WAL name |
| 4 | everything else; for the other commands a lost connection too |
| 63 | `backup` as Barman's hook: the backup isn't DONE |
| 130 | `wal-restore --abort-recovery-on-error`: any failure that isn't "not in the archive" |

PostgreSQL takes every code of `wal-restore` from 1 to 125 for the end of the archive;
[what that means, and how recovery is made to stop instead](../how-to/wal-archiving.md#restore).

When a command gives up a store that doesn't answer, or fails again and again, is told in [time-outs](timeouts.md).

`--test` ends with 0 (reachable), 1 (the bucket doesn't exist), 2 (unreachable) or 4. From the moment it has spoken to
PostgreSQL, `backup` ends with 1 for every failure.

| error | code | meaning |
| --- | --- | --- |
"""
    return head + "\n".join(error_rows(errors.BarmanCloudError)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    stale = []
    pages = {
        "commands.md": commands_page(),
        "configuration.md": configuration_page(),
        "exit-codes.md": exit_codes_page(),
        "server-commands.md": server_page(),
    }
    for name, text in pages.items():
        path = PAGES / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        print(f"out of date, run 'make docs': {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
