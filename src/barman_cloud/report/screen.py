"""Live lines at the bottom of a terminal, laid out and coloured by rich.

rich knows colours (and ``NO_COLOR``), the size of the terminal and how wide characters are. The cursor is moved here:
rich's own ``Live`` hides it, and a command that is killed would leave it hidden; here a kill leaves the last lines and
the prompt below them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from barman_cloud.logs import escape_controls
from barman_cloud.report.progress import State
from barman_cloud.report.progress_text import fields, fit, item_text

_STYLES = {"phase": "bold", "percent": "cyan", "eta": "cyan", "elapsed": "cyan", "ratio": "dim", "count": "dim"}
_SHORTEST_BAR = 8
_LONGEST_BAR = 40
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"


class Screen:
    """Draws below whatever else is written to the terminal. May be used by several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._lock = threading.RLock()
        self._rows = 0
        """Rows that the live lines take now."""
        self._turns = 0

    def draw(self, state: State, rate: float | None) -> None:
        """Show a state in place of the one before, if the command is in the terminal's foreground."""
        if not _in_foreground(self._stream):
            return
        with self._lock:
            size = self._console.size = _size_of(self._stream)
            # A full row would make some terminals go on in the next one.
            lines = self._lines(state, rate, max(size.width - 1, 1))[: max(size.height - 1, 1)]
            self._turns += 1
            self._put(f"{self._erased()}{self._render(lines, size.width)}", len(lines))

    def write(self, text: str) -> None:
        """Write whole lines above the live lines."""
        with self._lock:
            self._put(f"{self._erased()}{text}", 0)

    def clear(self) -> None:
        """Take the live lines off the screen."""
        with self._lock:
            if self._rows:
                self._put(self._erased(), 0)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the live lines off the screen meanwhile."""
        with self._lock:
            self.clear()
            yield

    def _put(self, text: str, rows: int) -> None:
        self._rows = rows
        self._stream.write(text)
        self._stream.flush()

    def _erased(self) -> str:
        """Return what takes the live lines off the screen.

        Where a terminal that became narrower has broken them into more rows, the first of these stay: going up farther
        would take away what isn't ours in terminals that cut instead.
        """
        return f"\x1b[{self._rows}F\x1b[J" if self._rows else ""

    def _lines(self, state: State, rate: float | None, width: int) -> list[RenderableType]:
        unicode = not self._console.options.ascii_only
        spinner = _SPINNER if unicode else _PLAIN_SPINNER
        turning = spinner[self._turns % len(spinner)]
        chosen = fit(fields(state, rate, unicode=unicode), max(width - 2, 1))
        room = width - 2 - sum(len(field.text) + 2 for field in chosen)
        grid = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = []
        for field in chosen:
            text = f"{turning} {field.text}" if field.kind == "phase" and width > 2 else field.text
            cells.append(Text(text, style=_STYLES.get(field.kind, ""), no_wrap=True))
            if field.kind == "phase" and state.total is not None and room >= _SHORTEST_BAR:
                cells.append(ProgressBar(max(state.total, 1), min(state.done, state.total), min(room, _LONGEST_BAR)))
        for _ in cells:
            grid.add_column(no_wrap=True)
        grid.add_row(*cells)
        lines: list[RenderableType] = [grid]
        if items := self._items(state, width, unicode):
            lines.append(Text(items, style="dim", no_wrap=True))
        return lines

    @staticmethod
    def _items(state: State, width: int, unicode: bool) -> str:
        """Return as many of the items in work as fit."""
        separator = " · " if unicode else ", "
        words = [escape_controls(state.position)] if state.position else []
        words += [item_text(item) for item in state.items if item.name]
        for count in range(len(words), 0, -1):
            more = f"{separator}+{len(words) - count}" if count < len(words) else ""
            line = f"  {separator.join(words[:count])}{more}"
            if len(line) <= width:
                return line
        return f"  {words[0]}"[:width] if words else ""

    def _render(self, lines: list[RenderableType], width: int) -> str:
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line, no_wrap=True, overflow="crop", crop=True, width=width, end="\n")
        text = captured.get()
        return text if text.endswith("\n") or not lines else f"{text}\n"


def _in_foreground(stream: TextIO) -> bool:
    """Tell whether the shell lets this command have the terminal; True where that isn't known."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return True


def _size_of(stream: TextIO) -> ConsoleDimensions:
    """Return the size of this very terminal now; rich would take ``COLUMNS``, or ask that of standard input first."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns = rows = 0
    return ConsoleDimensions(columns or 80, rows or 24)
