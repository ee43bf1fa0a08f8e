"""Times as ``backup.info`` and the command line write them.

A time is always an aware ``datetime`` that keeps the offset it was written with: listings show it unconverted, and
comparisons are of instants.
"""

from __future__ import annotations

import re
import time as time_module
from datetime import UTC, datetime

_POSIX_ZONE = re.compile(r"([A-Za-z]{3,})([+-])(\d{1,2}(?::\d\d)?)\s*$")


class UnknownZoneError(ValueError):
    """A time zone is named that may be any of several, and isn't that of this machine."""


def parse_time(text: str) -> datetime:
    """Return the instant that ``text`` names; a text without a zone is in the local zone of this machine.

    Any common form is understood: ISO 8601 with a blank or ``T``, ``Z`` or an offset, the form of C's ``ctime``, a date
    alone (its midnight). Raises ``ValueError`` with one line for anything else. What ``EST`` may mean isn't guessed at,
    unless the local zone is called so.

    Where a text can be read in two ways, it is read as PostgreSQL reads it: ``UTC+9`` is nine hours *behind* UTC
    (PostgreSQL docs, B.5, "POSIX Time Zone Specifications"), an hour that exists twice means standard time, and one
    that is skipped is counted from the time before the change. :func:`doubt_about` tells of these.
    """
    time = _parse(text)
    try:
        return time if time.tzinfo else time.replace(fold=1).astimezone()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text.strip()!r} is out of the range of times") from error


def doubt_about(text: str) -> str | None:
    """Return one line about a second way to read ``text``, which :func:`parse_time` did not take; None without one."""
    taken = parse_time(text)
    if zone := _POSIX_ZONE.search(text):
        name, sign, hours = zone.groups()
        side, other = ("behind", "+") if sign == "+" else ("ahead of", "-")
        return (
            f"{name}{sign}{hours} is {hours} hours {side} UTC to PostgreSQL, so the time is {format_time(taken)}; "
            f"for the other direction write {other}{hours.zfill(2)} without {name}"
        )
    time = _parse(text)
    if time.tzinfo is not None or time.astimezone() == taken:
        return None
    if taken.replace(tzinfo=None, fold=0) == time.replace(fold=0):
        first = format_time(time.astimezone())
        return f"the clocks were set back, so this time exists twice; taken for {format_time(taken)}, not for {first}"
    return f"the clocks were set forward, so this time doesn't exist; taken for {format_time(taken)}"


def _parse(text: str) -> datetime:
    text = text.strip()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _parse_loosely(text)


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


def with_offset_in_minutes(time: datetime) -> datetime:
    """Return the same instant, in UTC if its offset has seconds, as local times before the age of zones do."""
    offset = time.utcoffset()
    return time if offset is None or offset.total_seconds() % 60 == 0 else _in_utc(time)


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:  # the first or the last day that there is
        return time.replace(tzinfo=UTC)
