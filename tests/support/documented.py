"""The blocks of code in the documentation, and what the pages say about running them.

A comment right before a block of shell or SQL says what isn't visible in it::

    <!-- not run: needs systemd -->       why no test runs it; our parsers look at its commands all the same
    <!-- run: s3 -->                      only in the variant of that name (``tests/support/scenes``)

Without a comment, the test of the page runs it (``tests/integration/test_documented_blocks.py``).
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.support.privileges import PROJECT

PAGES = sorted(
    [
        *(PROJECT / "docs").rglob("*.md"),
        *PROJECT.glob("*.md"),
        *(PROJECT / "packaging").rglob("*.md"),
        PROJECT / "benchmarks/README.md",
    ],
    key=lambda page: page.relative_to(PROJECT),
)
SHELL = ("console", "sh", "bash", "shell")
RUN = (*SHELL, "sql")
"""The languages of blocks that are run, or say why not."""
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- (not run|run): ([^\n]+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its fence, from 1."""
    language: str
    body: str
    reason: str = ""
    """Why no test runs it."""
    variant: str = ""
    """The only variant of the page that has it; empty means all."""

    @property
    def place(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """What is typed, each with its continuation lines; of a console, what is printed is left out."""
        if self.language != "console":
            return [self.body]
        found: list[str] = []
        continued = False
        for line in self.body.splitlines():
            typed = re.match(r"[$#] (.*)", line)
            if typed:
                found.append(typed[1])
            elif continued:
                found[-1] += f"\n{line}"
            continued = bool(typed or continued) and line.endswith("\\")
        return found


def name_of(page: Path) -> str:
    """Return a page's path within the project."""
    return str(page.relative_to(PROJECT))


def blocks(page: Path) -> list[Block]:
    """Return all blocks of a page, in their order."""
    return blocks_of(page, page.read_text())


def blocks_of(page: Path, text: str) -> list[Block]:
    """Return the blocks of a text that stands for a page."""
    found = []
    for match in _BLOCK.finditer(text):
        mark = _MARK.search(text[: match.start()])
        kind, said = mark.groups() if mark else ("", "")
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start()) + 1,
                match["language"],
                textwrap.dedent(match["body"]) if match["indent"] else match["body"],
                reason=said if kind == "not run" else "",
                variant=said if kind == "run" else "",
            )
        )
    return found
