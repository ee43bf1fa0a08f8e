"""Tables of figures in ``docs/explanation/performance.md``, each between two comments that name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/explanation/performance.md"


def write_table(name: str, lines: Sequence[str]) -> None:
    """Replace the table ``name``; ValueError if the page has no place for it."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    start = page.index(begin) + len(begin)
    text = "".join(f"{line}\n" for line in lines)
    PAGE.write_text(page[:start] + text + page[page.index(end, start) :], encoding="utf-8")
