"""How chains of incremental backups are shown, beside what Barman's commands show."""

from __future__ import annotations

from collections.abc import Mapping

from barman_cloud.catalog.descent import ChainFacts
from barman_cloud.report.text import Section, size, table

_WIDTHS = (20, 15, 20, 15, 15, 10)
_TITLES = ("Backup ID", "Type", "Parent", "Stored", "Whole Chain", "Saved")


def as_text(facts: Mapping[str, ChainFacts]) -> str:
    """Return a table of all backups, ids ascending, after an empty line."""
    rows = [(backup_id, *_values(facts[backup_id])) for backup_id in sorted(facts)]
    return "\n" + table(_WIDTHS, [_TITLES, *rows])


def section(facts: ChainFacts) -> Section:
    """Return the section of one backup."""
    lines: list[tuple[str, object]] = list(zip(_TITLES[1:], _values(facts), strict=True))
    lines.append(("Chain", ", ".join(facts.chain)))
    return Section("Chain information", [[(label, value) for label, value in lines if value]])


def _values(facts: ChainFacts) -> tuple[str, ...]:
    saved = "" if facts.saved is None else f"{facts.saved:.1f}%"
    return facts.type, facts.parent or "", size(facts.stored), size(facts.chain_size), saved
