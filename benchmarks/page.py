"""Tables of figures in pages of ``docs/explanation``, each between two comments that name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_PAGES = Path(__file__).parents[1] / "docs/explanation"
PERFORMANCE = _PAGES / "performance.md"
INCREMENTALS = _PAGES / "incrementals.md"
MEMORY = _PAGES / "memory.md"


def write_table(name: str, lines: Sequence[str], page: Path = PERFORMANCE) -> None:
    """Replace the table ``name``; ValueError if the page has no place for it."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    start = text.index(begin) + len(begin)
    table = "".join(f"{line}\n" for line in lines)
    page.write_text(text[:start] + table + text[text.index(end, start) :], encoding="utf-8")
