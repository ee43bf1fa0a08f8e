"""Types of option values: each function takes the text of one argument and returns its value.

``argparse.ArgumentTypeError`` carries the reason; the parser turns it into a usage error (exit 3).
The grammar is that of the original commands, oddities included where scripts may rely on them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

_BACKUP_ID = r"\d{8}T\d{6}"
_RESERVED_NAMES = frozenset(
    ("latest", "last", "oldest", "first", "last-failed", "latest-full", "last-full", "auto"),
)
_SIZE = r"(?ai)(?P<number>\d+(?:\.\d+)?)(?P<unit>(?P<letter>[KMGTPEZY])?(?P<i>I)?B)?"
_LETTERS = "KMGTPEZY"
_TAG_TEXT = r"(?a)[A-Za-z0-9\s_.:/=+\-@]*"
_FIRST_NORMAL_XID = 3
_AGE_UNITS = (("mo", 31 * 86400), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("w", 7 * 86400))
_LOCK_DATE = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{1,6}Z"


def _refusal(reason: str) -> Exception:
    from argparse import ArgumentTypeError  # loaded only to say what is wrong

    return ArgumentTypeError(reason)


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _refusal(f"'{text}' is not an integer") from None


def positive(text: str) -> int:
    value = integer(text)
    if value < 1:
        raise _refusal(f"'{text}' must be at least 1")
    return value


def non_negative(text: str) -> int:
    value = integer(text)
    if value < 0:
        raise _refusal(f"'{text}' must not be negative")
    return value


def size(text: str) -> int:
    """Return a size in bytes. ``KB`` is 1024 and ``KiB`` is 1000, as in the original commands."""
    match = re.fullmatch(_SIZE, text.strip())
    if not match or (match["i"] and not match["letter"]) or ("." in match["number"] and not match["letter"]):
        raise _refusal(f"'{text}' is not a size; write for example 500MB or 1.5GB")
    base = 1000 if match["i"] else 1024
    power = _LETTERS.index(match["letter"].upper()) + 1 if match["letter"] else 0
    number = match["number"]
    value = int(float(number) * base**power) if "." in number else int(number) * base**power
    if value < 1:
        raise _refusal(f"'{text}' must be at least 1 byte")
    return value


def tag(text: str) -> tuple[str, str]:
    """Return (key, value) of ``key,value``; the limits are those that AWS sets for tags."""
    key, comma, value = text.partition(",")
    key, value = key.strip(), value.strip()
    if not comma:
        raise _refusal(f"'{text}' is not of the form key,value")
    if not 1 <= len(key) <= 128 or key.lower().startswith("aws:") or not re.fullmatch(_TAG_TEXT, key):
        raise _refusal(
            f"'{key}' is not a tag key: 1 to 128 of letters, digits, blanks and _.:/=+-@, not starting with 'aws:'"
        )
    if len(value) > 256 or not re.fullmatch(_TAG_TEXT, value):
        raise _refusal(f"'{value}' is not a tag value: at most 256 of letters, digits, blanks and _.:/=+-@")
    return key, value


def tag_record(text: str) -> tuple[str, str]:
    """Return (key, value) of one CSV record with two fields (``"`` quotes); ``ValueError`` otherwise."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a tag isn't valid UTF-8")
    if '"' not in text:  # the csv module costs start-up time that a plain record needn't pay
        fields = text.split(",")
    else:
        import csv

        try:
            fields = next(csv.reader([text]), [])
        except csv.Error as error:
            raise ValueError(f"{text!r} is not of the form key,value ({error})") from None
    if len(fields) != 2:
        raise ValueError(f"'{text}' is not of the form key,value")
    return fields[0], fields[1]


def backup_name(text: str) -> str:
    if not text or re.fullmatch(_BACKUP_ID, text) or text in _RESERVED_NAMES:
        raise _refusal(f"'{text}' can't be a backup name: it is empty, looks like an id, or is a shortcut")
    if "\n" in text or "\r" in text:
        raise _refusal("a backup name must be one line")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _refusal("a backup name must be valid UTF-8")
    return text


def timeline(text: str) -> int | str:
    if text in ("current", "latest"):
        return text
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise _refusal(f"'{text}' is not 'current', 'latest' or a timeline number")
    return number


def transaction_id(text: str) -> str:
    """Return a transaction id, with or without epoch, as PostgreSQL 19 takes it; older servers take any text for 0."""
    if not re.fullmatch(r"(?a)\d{1,20}", text) or int(text) >= 1 << 64:
        raise _refusal(f"'{text}' is not a transaction id: digits only")
    if int(text) & 0xFFFFFFFF < _FIRST_NORMAL_XID:
        raise _refusal(f"'{text}' can't be a transaction: ids begin with {_FIRST_NORMAL_XID}")
    return str(int(text))  # a server takes a number with a leading zero for octal


def compression_level(text: str) -> int | str:
    if text.lower() in ("low", "medium", "high"):
        return text.lower()
    try:
        return int(text)
    except ValueError:
        raise _refusal(f"'{text}' is not 'low', 'medium', 'high' or an integer") from None


def _within(text: str, lowest: int, highest: int, unit: str) -> int:
    value = integer(text)
    if not lowest <= value <= highest:
        raise _refusal(f"'{text}' must be {lowest} to {highest} {unit}")
    return value


def lock_duration(text: str) -> int:
    return _within(text, 1, 36500, "days")


def lock_cool_off(text: str) -> int:
    return _within(text, 1, 72, "hours")


def lock_date(text: str) -> str:
    """Return the text unchanged after a check of its form; the time is meant as UTC."""
    from datetime import datetime

    try:
        if not re.fullmatch(_LOCK_DATE, text):
            raise ValueError
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise _refusal(f"'{text}' is not of the form YYYY-MM-DDThh:mm:ss.fZ") from None
    return text


def age(text: str) -> timedelta:
    """Return a length of time such as ``90 minutes``, ``12h``, ``3 DAYS`` or ``2w``; a month counts 31 days."""
    from datetime import timedelta

    found = re.fullmatch(r"(?ai)\s*(\d+)\s*(s|m|h|d|w|seconds?|min(?:utes?)?|hours?|days?|weeks?|months?)\s*", text)
    if not found or int(found[1]) < 1:
        raise _refusal(f"'{text}' is not a length of time; write for example 90min, 12h or 3d")
    unit = found[2].lower()
    seconds = next(length for name, length in _AGE_UNITS if unit.startswith(name))
    return timedelta(seconds=int(found[1]) * seconds)
