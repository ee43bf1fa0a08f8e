"""PostgreSQL's configuration files, as ``guc-file.l`` reads them: one setting or ``include`` in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

INCLUDES = frozenset({"include", "include_if_exists", "include_dir"})

_LINE = re.compile(
    rb"""\s* (?P<name>[A-Za-z_\x80-\xff][\w$\x80-\xff]*(?:\.[A-Za-z_\x80-\xff][\w$\x80-\xff]*)?)
    (?: \s*=\s* | \s+ | (?=') )
    (?: '(?P<quoted>(?:[^'\\\n]|\\.|'')*)' | (?P<plain>[^\s'\#=]+) )
    \s* (?:\#.*)? $""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)|''", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Entry(NamedTuple):
    """A setting; ``line`` counts from 1, ``name`` is in lower case, ``value`` without its quotes."""

    line: int
    name: str
    value: str


def entries(content: bytes) -> Iterator[Entry]:
    """Yield the settings of a file, in order; what PostgreSQL would call a syntax error is passed over.

    Bytes that aren't UTF-8 come back from ``value`` by ``os.fsencode``.
    """
    for number, line in enumerate(content.split(b"\n"), 1):
        match = _LINE.match(line.rstrip(b"\r"))
        if match is None:
            continue
        name = match["name"].decode("utf-8", "surrogateescape").lower()
        if match["quoted"] is not None:
            value = _ESCAPE.sub(_unescape, match["quoted"].decode("utf-8", "surrogateescape"))
        else:
            value = match["plain"].decode("utf-8", "surrogateescape")
        yield Entry(number, name, value)


def quoted(value: str) -> str:
    """Return a value as it stands in a file: a backslash starts an escape inside quotes, a quote is doubled."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if escape is None:
        return "'"
    return chr(int(escape, 8) & 0xFF) if escape[0] in "01234567" else _ESCAPED.get(escape, escape)
