"""Loggers that load Python's logging when there is something to say.

``wal-archive`` and ``wal-restore`` run once per segment and mostly say nothing. Loading logging, and what it loads to
print traces, would cost them more than compressing the segment. All our modules use these loggers and no others, since
only these know when to set logging up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40

_STEERING = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_level = WARNING
_open_file: Callable[[], TextIO] | None = None
_diverted: Callable[[str], None] | None = None
_sink: Callable[[int, str], None] | None = None
_owed: list[bool] = []
"""Holds an item while ``configure`` has been called and logging isn't set up."""


def escape_controls(text: str) -> str:
    """Return ``text`` with escapes (``\\x1b``) instead of what a terminal acts on: control characters, line ends,
    marks that turn the direction of writing, and halves of characters.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    control = character < " " or "\x7f" <= character <= "\x9f" or character in _STEERING
    half = "\ud800" <= character <= "\udfff"
    return character.encode("unicode_escape").decode("ascii") if control or half else character


class Logger:
    """The logger of this name in Python's logging, from the first line on that isn't below the level."""

    def __init__(self, name: str) -> None:
        self._name = name

    def log(self, level: int, message: str, *args: object, exc_info: Any = None) -> None:
        if enabled(level) or "logging" in sys.modules:
            _logging().getLogger(self._name).log(level, message, *args, exc_info=exc_info)

    def debug(self, message: str, *args: object, exc_info: Any = None) -> None:
        self.log(DEBUG, message, *args, exc_info=exc_info)

    def info(self, message: str, *args: object) -> None:
        self.log(INFO, message, *args)

    def warning(self, message: str, *args: object) -> None:
        self.log(WARNING, message, *args)

    def error(self, message: str, *args: object, exc_info: Any = None) -> None:
        self.log(ERROR, message, *args, exc_info=exc_info)


class _LateFile:
    """A text file that is opened for the first line: a process that says nothing must leave the last one's lines."""

    def __init__(self, open_file: Callable[[], TextIO]) -> None:
        self._open = open_file
        self._file: TextIO | None = None

    def write(self, text: str) -> None:
        if self._file is None:
            self._file = self._open()
        self._file.write(text)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()


class _StandardError:
    """Standard error as it is now, or what draws on it meanwhile (:func:`divert`)."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> None:
        if _diverted is not None:
            _diverted(text)
        elif self._stream is not None:
            self._stream.write(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()


def get_logger(name: str) -> Logger:
    """Return the logger called ``name``; all of ours are below ``barman_cloud``."""
    return Logger(name)


def configure(
    verbosity: int,
    open_file: Callable[[], TextIO] | None = None,
    sink: Callable[[int, str], None] | None = None,
) -> None:
    """Log our own lines to stderr, or to the file that ``open_file`` returns, which the first line asks for.

    With ``sink`` they are given to it instead, each with its level. These are WARNING and above, one level more for
    each ``-v``, one less for each ``-q``.
    """
    global _level, _open_file, _sink
    _level, _open_file, _sink = max(DEBUG, WARNING - 10 * verbosity), open_file, sink
    _owed[:] = [True]
    if "logging" in sys.modules:
        _logging()


def include(level: int) -> None:
    """Log lines of ``level`` as well."""
    global _level
    _level = min(_level, level)
    if "logging" in sys.modules:
        _logging().getLogger("barman_cloud").setLevel(_level)


def always(name: str) -> None:
    """Log lines of the logger ``name`` at INFO and above whatever the level is."""
    logging = _logging()
    logging.getLogger(name).setLevel(min(_level, INFO))


def divert(write: Callable[[str], None] | None) -> None:
    """Give lines for standard error to ``write``, which draws there as well; None ends it."""
    global _diverted
    _diverted = write


def silence(libraries: Iterable[str]) -> None:
    """Keep libraries from printing warnings, which are of many lines, beside ours: Python does so without a handler."""
    logging = _logging()
    for library in libraries:
        logging.getLogger(library).addHandler(logging.NullHandler())


def enabled(level: int) -> bool:
    """Tell whether lines of ``level`` are logged."""
    return level >= _level


def _logging() -> Any:
    """Return Python's logging, set up."""
    import logging

    try:
        _owed.pop()  # by one thread
    except IndexError:
        return logging

    class Formatter(logging.Formatter):
        def format(self, record: Any) -> str:
            return "\n".join(map(escape_controls, super().format(record).split("\n")))

    class Sink(logging.Handler):
        def emit(self, record: Any) -> None:
            if _sink is not None:
                _sink(record.levelno, record.getMessage())

    handler = Sink() if _sink else logging.StreamHandler(_LateFile(_open_file) if _open_file else _StandardError())
    handler.setFormatter(Formatter("%(asctime)s [%(process)d] %(levelname)s: %(message)s"))
    # Only our own logger: libraries at DEBUG would print request headers, credentials among them.
    ours = logging.getLogger("barman_cloud")
    if _sink:
        ours.handlers.clear()  # the sink may change, once the configuration is read
    ours.addHandler(handler)
    ours.propagate = False
    ours.setLevel(_level)
    return logging
