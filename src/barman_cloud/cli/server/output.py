"""What a server command says: lines or one JSON object, as Barman prints them.

Text: results on stdout, ``WARNING: …`` and ``ERROR: …`` on stderr. JSON: one object on stdout without a line end, keys
in alphabetical order, with the lines of a run as ``_INFO``, ``_WARNING`` and ``_ERROR``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from barman_cloud import logs
from barman_cloud.logs import escape_controls
from barman_cloud.report.terminal import StandardOutput, aside, flush, write


class Output:
    """Where a command says what it has to say. ``exit_code`` becomes 1 with the first error."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.exit_code = 0
        self.quiet = quiet
        self._document: dict[str, Any] = {}
        self.silent = False
        """No JSON object is printed: standard output holds something else."""

    def info(self, line: str) -> None:
        """Tell what is being done."""
        self._lines("_INFO", line)

    def warning(self, line: str) -> None:
        self._lines("_WARNING", line)

    def error(self, line: str, hint: str | None = None) -> None:
        """Tell of a failure; the command ends with 1."""
        self.exit_code = max(self.exit_code, 1)
        self._lines("_ERROR", f"{line} (hint: {hint})" if hint else line)

    def text(self, text: str) -> None:
        """Print whole lines that JSON has in another form."""
        if not self.as_json and not self.quiet and text:
            StandardOutput(tabs=True).write(text)
            flush()

    def result(self, server: str | None, value: Any) -> None:
        """Add to the JSON object: the value of a server, or keys of a mapping if ``server`` is None."""
        if server is None:
            self._document.update(value)
        elif isinstance(value, Mapping):
            self._document.setdefault(server, {}).update(value)
        else:
            self._document[server] = value

    def raw(self, text: str) -> None:
        """Print something that is the same in both forms; no JSON object follows."""
        self.silent = True
        if not self.quiet:
            write(text)

    def logged(self, level: int, message: str) -> None:
        """Take a line of the log of what the command is made of."""
        if level >= logs.ERROR:
            self._lines("_ERROR", message)
        elif level >= logs.WARNING:
            self.warning(message)
        elif self.debug:
            _on_stderr(f"{'INFO' if level >= logs.INFO else 'DEBUG'}: {escape_controls(message)}")

    def finish(self) -> None:
        """Print the JSON object."""
        if self.as_json and not self.silent and not self.quiet:
            write(json.dumps(self._document, sort_keys=True))

    def _lines(self, kind: str, line: str) -> None:
        if self.as_json:
            self._document.setdefault(kind, []).append(line)
        elif kind == "_INFO":
            self.text(f"{line}\n")
        else:
            _on_stderr(f"{kind[1:]}: {escape_controls(line)}")


def _on_stderr(line: str) -> None:
    with aside():
        print(line, file=sys.stderr)
