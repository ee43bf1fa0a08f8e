"""Loggers that load Python's logging when there is something to say.

``wal-archive`` and ``wal-restore`` run once per segment and mostly say nothing. Loading logging, and what it loads to
print traces, would cost them more than compressing the segment. Modules on their path use these loggers.
"""

from __future__ import annotations

import sys
from typing import Any

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40

_level = WARNING
_owed: list[int] = []
"""The level that was asked for before logging was loaded."""


class Logger:
    """The logger of this name in Python's logging, from the first line on that isn't below the level."""

    def __init__(self, name: str) -> None:
        self._name = name

    def log(self, level: int, message: str, *args: object, exc_info: Any = None) -> None:
        if enabled(level) or "logging" in sys.modules:
            _logging().getLogger(self._name).log(level, message, *args, exc_info=exc_info)

    def debug(self, message: str, *args: object) -> None:
        self.log(DEBUG, message, *args)

    def info(self, message: str, *args: object) -> None:
        self.log(INFO, message, *args)

    def warning(self, message: str, *args: object) -> None:
        self.log(WARNING, message, *args)

    def error(self, message: str, *args: object, exc_info: Any = None) -> None:
        self.log(ERROR, message, *args, exc_info=exc_info)


def get_logger(name: str) -> Logger:
    """Return the logger called ``name``; all of ours are below ``barman_cloud``."""
    return Logger(name)


def configure(verbosity: int) -> None:
    """Log our own lines to stderr: WARNING and above, one level more for each ``-v``, one less for each ``-q``."""
    global _level
    _level = max(DEBUG, WARNING - 10 * verbosity)
    _owed[:] = [_level]
    if "logging" in sys.modules:
        _logging()


def enabled(level: int) -> bool:
    """Tell whether lines of ``level`` are logged."""
    return level >= _level


def _logging() -> Any:
    """Return Python's logging, set up."""
    import logging

    try:
        level = _owed.pop()  # by one thread
    except IndexError:
        pass
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s [%(process)d] %(levelname)s: %(message)s"))
        # Only our own logger: libraries at DEBUG would print request headers, credentials among them.
        ours = logging.getLogger("barman_cloud")
        ours.addHandler(handler)
        ours.propagate = False
        ours.setLevel(level)
    return logging
