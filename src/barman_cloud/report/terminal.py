"""The one way of text to standard output: names come from buckets, and must neither steer a terminal nor stop a list.

What a terminal would act on, and what its encoding lacks, is shown as an escape: ``\\x1b``, ``\\u202e``, ``\\xe9``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from barman_cloud.logs import escape_controls

STDOUT = "standard output"

_aside: Callable[[], AbstractContextManager[None]] = nullcontext


def set_aside(aside: Callable[[], AbstractContextManager[None]]) -> None:
    """Enter what ``aside`` returns around each write: it keeps what is drawn on the same terminal off the screen."""
    global _aside
    _aside = aside


def aside() -> AbstractContextManager[None]:
    """Return a context in which nothing is drawn, for what goes to standard error by another way than the log."""
    return _aside()


def printable(text: str, encoding: str | None = None) -> str:
    """Return ``text`` as one line without control characters, line ends included.

    With ``encoding``, characters that it doesn't have are escaped as well.
    """
    text = escape_controls(text)
    return text if encoding is None else text.encode(encoding, "backslashreplace").decode(encoding)


class StandardOutput:
    """Writes lines to standard output; whatever keeps them from being written is an ``OSError`` that says so."""

    def __init__(self, *, tabs: bool = False) -> None:
        """``tabs`` are written as they are."""
        self._tabs = tabs

    def write(self, text: str) -> int:
        """Write text of whole lines, whose parts are made :func:`printable`, and return its length."""
        stream = sys.stdout
        if stream is None:
            raise OSError(errno.EBADF, "it is closed", STDOUT)
        encoding = stream.encoding or "ascii"
        try:
            with _aside():
                stream.write("\n".join(self._printable(line, encoding) for line in text.split("\n")))
        except OSError as error:
            error.filename = STDOUT
            raise
        return len(text)

    def _printable(self, line: str, encoding: str) -> str:
        parts = line.split("\t") if self._tabs else [line]
        return "\t".join(printable(part, encoding) for part in parts)


def write(text: str) -> None:
    """Write text of whole lines to standard output, at once; errors as :class:`StandardOutput` raises them."""
    StandardOutput().write(text)
    flush()


def flush() -> None:
    """Write what standard output still holds back."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        error.filename = STDOUT
        raise


def give_up_stdout() -> None:
    """Let what is still unwritten go nowhere, so that the interpreter doesn't try, and fail, once more at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
