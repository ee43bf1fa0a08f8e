"""Times as ``backup.info`` and the command line write them.

A time is always an aware ``datetime`` that keeps the offset it was written with: listings show it unconverted, and
comparisons are of instants.
"""

from __future__ import annotations

import time as time_module
from datetime import datetime


class UnknownZoneError(ValueError):
    """A time zone is named that may be any of several, and isn't that of this machine."""


def parse_time(text: str) -> datetime:
    """Return the instant that ``text`` names; a text without a zone is in the local zone of this machine.

    Any common form is understood: ISO 8601 with a blank or ``T``, ``Z`` or an offset, the form of C's ``ctime``, a date
    alone (its midnight). Raises ``ValueError`` with one line for anything else. What ``EST`` may mean isn't guessed at,
    unless the local zone is called so.
    """
    text = text.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = _parse_loosely(text)
    try:
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is out of the range of times") from error


def _parse_loosely(text: str) -> datetime:
    from dateutil import parser

    try:
        parser.parse(text, tzinfos=_require_known_zone)
        return parser.parse(text)
    except UnknownZoneError:
        raise
    except (ValueError, ArithmeticError, TypeError) as error:  # dateutil counts in Decimal
        raise ValueError(f"{text!r} is not a date and time") from error


def _require_known_zone(name: str | None, offset: int | None) -> None:
    """Refuse a name such as ``EST``, which dateutil would take for the local zone; called by it for each text."""
    if name is not None and offset is None and name not in time_module.tzname:
        raise UnknownZoneError(f"time zone {name!r} is not known here; write an offset such as +02:00")


def format_time(time: datetime) -> str:
    """Return ``YYYY-MM-DD HH:MM:SS[.ffffff]±HH:MM``, the form of ``backup.info``."""
    return time.isoformat(sep=" ")


def format_to_the_second(time: datetime) -> str:
    """Return ``YYYY-MM-DD HH:MM:SS`` in the offset that the time was written with, the form of the console list."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
