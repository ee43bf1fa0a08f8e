"""Python literals on one line, as ``backup.info`` holds its structures, read without trust in who wrote them."""

from __future__ import annotations

import ast
import math
import threading
import warnings
from typing import Any

_INTEGERS = range(-(1 << 63), 1 << 63)

_evaluating = threading.Lock()


def evaluate(text: str) -> Any:
    """Return the value of a literal: text, numbers, booleans, None, and lists, tuples and dicts of these.

    ``ValueError`` for anything else, for numbers that other programs can't read as JSON, and for what is nested too
    deeply.
    """
    # CPython 3.11 counts the depth of the tree in a place that threads share, and raises SystemError when another one
    # was there meanwhile; a garbage collection is enough for that. The filter of warnings is shared as well.
    with _evaluating, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape sequence: the value is well defined all the same
        try:
            value = ast.literal_eval(text)
            _require_plain(value)
        except (SyntaxError, TypeError, AttributeError, RecursionError, MemoryError, SystemError) as error:
            raise ValueError(f"not a literal: {type(error).__name__}") from error
    return value


def integer(text: str) -> int:
    """Return an integer of 64 bits; ``ValueError`` if ``text`` isn't one."""
    return _require_integer(int(text))


def _require_plain(value: Any) -> None:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is not text")
        for item in value.values():
            _require_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item)
    elif isinstance(value, int):
        _require_integer(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that is not finite")
    elif not (value is None or isinstance(value, str)):
        raise ValueError(f"a value of type {type(value).__name__}")


def _require_integer(value: int) -> int:
    if value not in _INTEGERS:
        raise ValueError("an integer of more than 64 bits")
    return value
