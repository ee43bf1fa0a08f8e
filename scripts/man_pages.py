"""Write the manual pages from the parsers: ``man/man1``, which the wheel installs.

``python -m scripts.man_pages`` writes them; ``--check`` only tells (exit 1) whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Action
from collections.abc import Iterator
from pathlib import Path

from barman_cloud import __version__
from barman_cloud.cli.command import load
from barman_cloud.cli.commands import PROGRAMS, SUMMARIES
from barman_cloud.cli.examples import DOCUMENTATION, EXAMPLES
from barman_cloud.cli.parser import Parser

PAGES = Path(__file__).parent.parent / "man" / "man1"
_EXIT = (
    ("0", "done, or nothing to do"),
    ("1", "the store answered, but what was asked can't be done"),
    ("2", "the store can't be reached (wal-restore, check-wal-archive, check, verify, doctor and --test)"),
    ("3", "bad command line, retention policy, tablespace rule or WAL name"),
    ("4", "everything else; for the other commands a lost connection too"),
)


def roff(text: str) -> str:
    """Return text as troff reads it: backslashes, dashes, and dots and quotes at the beginning of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.splitlines())


def page(name: str) -> str:
    """Return the page of one command."""
    parser = Parser(prog=program(name))
    load(name).add_arguments(parser)
    positionals = [action for action in parser._actions if not action.option_strings]
    words = " ".join(f"[\\fI{roff(a.dest)}\\fR]" if a.nargs == "?" else f"\\fI{roff(a.dest)}\\fR" for a in positionals)
    lines = [
        f'.TH "{title(name).upper()}" "1" "" "barman\\-cloud {__version__}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{roff(title(name))} \\- {roff(SUMMARIES[name])}",
        ".SH SYNOPSIS",
        f".B {roff(program(name))}",
        f"[\\fIoptions\\fR] {words}",
        ".SH DESCRIPTION",
        roff(SUMMARIES[name]),
        *(line for action in positionals for line in entry(action)),
        ".SH OPTIONS",
        *(line for action in parser._actions if action.option_strings for line in entry(action)),
        ".SH EXIT STATUS",
        *(line for code, meaning in _EXIT for line in (".TP", f".B {code}", roff(meaning))),
        ".SH EXAMPLES",
        *(line for example in EXAMPLES[name] for line in shown(name, *example)),
        ".SH SEE ALSO",
        roff(", ".join(f"{title(other)}(1)" for other in SUMMARIES if other != name)),
        ".PP",
        ".nf",
        roff(f"{DOCUMENTATION}#{program(name).replace(' ', '-')}"),
        ".fi",
    ]
    return "\n".join(lines) + "\n"


def program(name: str) -> str:
    return f"barman-cloud{'-' if name in PROGRAMS else ' '}{name}"


def title(name: str) -> str:
    return f"barman-cloud-{name}"


def entry(action: Action) -> Iterator[str]:
    """Yield the lines of one option or positional."""
    yield ".TP"
    if action.option_strings:
        value = (
            "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest)
        )
        names = ", ".join(f"\\fB{roff(flag)}\\fR" for flag in action.option_strings)
        yield f"{names} \\fI{roff(value.upper() if not action.choices else value)}\\fR" if value else names
    else:
        yield f"\\fI{roff(action.dest)}\\fR"
    yield roff((action.help or "").replace("%%", "%"))


def shown(name: str, what: str, words: str) -> Iterator[str]:
    yield ".PP"
    yield f"{roff(what[0].upper() + what[1:])}:"
    yield from (".PP", ".nf", roff(f"    {program(name)} {words}"), ".fi")


def umbrella() -> str:
    """Return the page of ``barman-cloud`` itself."""
    lines = [
        f'.TH "BARMAN\\-CLOUD" "1" "" "barman\\-cloud {__version__}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        "barman\\-cloud \\- back PostgreSQL up to object storage, archive WAL, and recover",
        ".SH SYNOPSIS",
        ".B barman\\-cloud",
        "[\\fB\\-c\\fR \\fIFILE\\fR] \\fICOMMAND\\fR [\\fIoptions\\fR] \\fIURL SERVER\\fR ...",
        ".SH COMMANDS",
        *(
            line
            for name, summary in SUMMARIES.items()
            for line in (".TP", f"\\fB{roff(name)}\\fR", roff(f"{summary} See {title(name)}(1)."))
        ),
        ".TP",
        "\\fBcompletion\\fR \\fIbash|zsh|fish\\fR",
        roff("Print the script that makes a shell complete commands, options, servers and backups."),
        ".SH SEE ALSO",
        ".nf",
        roff(DOCUMENTATION),
        ".fi",
    ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Return every page by the name of its file."""
    return {"barman-cloud.1": umbrella(), **{f"{title(name)}.1": page(name) for name in SUMMARIES}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    PAGES.mkdir(parents=True, exist_ok=True)
    stale = []
    made = pages()
    for name, text in made.items():
        path = PAGES / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    stale += [path.name for path in PAGES.iterdir() if path.name not in made]
    if check and stale:
        print(f"out of date, run 'make docs': {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
