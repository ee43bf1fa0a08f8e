"""Text on stdout: tables, pages of labelled lines, sizes and durations in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from barman_cloud.report.terminal import printable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def moment(when: datetime | None) -> str:
    """Return a moment of UTC to the second, ``-`` for none."""
    return f"{when:%Y-%m-%d %H:%M:%S}Z" if when else "-"


def table(widths: Sequence[int], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in left-aligned columns; a longer value pushes the rest of its row to the right."""
    return "".join(
        "".join(printable(value).ljust(width) for value, width in zip(row, widths, strict=True)) + "\n" for row in rows
    )


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: lines of label and value, below a title or, without one, at the page's own level.

    ``blocks`` are printed one after the other, each followed by an empty line.
    """

    title: str | None
    blocks: Sequence[Sequence[tuple[str, object]]]


def page(heading: str, sections: Iterable[Section]) -> str:
    """Return a page: the heading, then the sections; a section that has no lines is left out."""
    lines = [f"{heading}:"]
    for section in sections:
        indent, width = ("    ", 21) if section.title else ("  ", 23)
        if section.title and any(section.blocks):
            lines.append(f"  {section.title}:")
        for block in filter(None, section.blocks):
            lines += [f"{indent}{printable(label):<{width}}: {printable(str(value))}" for label, value in block]
            lines.append("")
    return "".join(f"{line}\n" for line in lines)


def size(number: int) -> str:
    """Return a size in bytes with the unit that makes it smaller than 1024, such as ``25.5 MiB``."""
    amount = float(number)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as ``1 archive`` or ``2 archives``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a duration such as ``1 hour, 2 minutes``, whole seconds, parts that are zero left out."""
    if seconds < 1:
        return "less than one second"
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = {"day": days, "hour": hours, "minute": minutes, "second": secs}
    return ", ".join(counted(count, unit) for unit, count in parts.items() if count)
