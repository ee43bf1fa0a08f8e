"""The kinds of values that a configuration file holds: from text to value, with the reason if it can't be.

Each function takes the text of one value and returns the value, or raises ``ValueError`` whose message says what is
wrong with it and ends a sentence that begins with the key (``compression: 'zip' is not one of …``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Kind: TypeAlias = Callable[[str], Any]

_TRUE = frozenset(("on", "true", "1", "yes", "t", "y"))
_FALSE = frozenset(("off", "false", "0", "no", "f", "n"))
_SIZE_UNITS = {"": 1}
_SIZE_UNITS |= {letter: 1000**power for power, letter in enumerate("kMGT", 1)}
_SIZE_UNITS |= {f"{letter}i": 1024**power for power, letter in enumerate("kMGT", 1)}
_AGE_UNITS = {"HOUR": 1, "DAY": 24, "WEEK": 7 * 24, "MONTH": 31 * 24}


def text(value: str) -> str:
    return value


def boolean(value: str) -> bool:
    word = value.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"'{value}' is neither on nor off")
    return word in _TRUE


def integer(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"'{value}' is not a whole number") from None


def natural(value: str) -> int:
    number = integer(value)
    if number < 0:
        raise ValueError(f"'{value}' must not be negative")
    return number


def positive(value: str) -> int:
    number = integer(value)
    if number < 1:
        raise ValueError(f"'{value}' must be at least 1")
    return number


def size(value: str) -> int:
    """Return bytes; units as Barman's documentation has them, case included: ``k`` is 1000, ``Ki`` 1024."""
    found = re.fullmatch(r"(?a)(\d+)\s*([kKMGT]i?)?B?", value)
    unit = (found[2] or "") if found else "?"
    if found is None or unit.replace("K", "k", 1) not in _SIZE_UNITS:
        raise ValueError(f"'{value}' is not a size such as 500Mi or 30Gi")
    factor: int = _SIZE_UNITS[unit.replace("K", "k", 1)]
    return int(found[1]) * factor


def age(value: str) -> timedelta:
    """Return the length of ``3 DAYS`` and the like; a month counts 31 days, as in retention policies."""
    found = re.fullmatch(r"(?ai)\s*(\d+)\s+(HOUR|DAY|WEEK|MONTH)S?\s*", value)
    if found is None or int(found[1]) < 1:
        raise ValueError(f"'{value}' is not an age such as '12 HOURS', '3 DAYS', '2 WEEKS' or '1 MONTH'")
    return timedelta(hours=int(found[1]) * _AGE_UNITS[found[2].upper()])


def retention_policy(value: str) -> str:
    from barman_cloud.catalog.retention import parse_policy
    from barman_cloud.errors import BarmanCloudError

    try:
        parse_policy(value)
    except BarmanCloudError as error:
        raise ValueError(str(error)) from None
    return value


def words(value: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part for part in re.split(r"\s*,\s*", value.strip()) if part)


def tags(value: str) -> dict[str, str]:
    """Return ``key=value, key=value`` as a mapping."""
    pairs: dict[str, str] = {}
    for word in words(value):
        key, equals, rest = word.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"'{word}' is not of the form key=value")
        pairs[key.strip()] = rest.strip()
    return pairs


def one_of(*choices: str) -> Kind:
    def choice(value: str) -> str:
        found = next((known for known in choices if known.lower() == value.lower()), None)
        if found is None:
            raise ValueError(f"'{value}' is not one of {', '.join(choices)}")
        return found

    return choice


def wal_compression(value: str) -> str:
    """Return a compression of WAL; an empty value means none, as for Barman."""
    return _WAL_COMPRESSION(value) if value else "none"


_WAL_COMPRESSION = one_of("gzip", "bzip2", "xz", "zstd", "lz4", "snappy", "none", "pygzip", "pybzip2")


def slot_name(value: str) -> str:
    """Return the name of a replication slot: PostgreSQL takes lower case only, and Barman lowers it too."""
    name = value.lower()
    if name and not re.fullmatch("[a-z0-9_]{1,63}", name):
        raise ValueError(f"'{value}' can't be the name of a slot: letters, digits and _, 63 at most")
    return name


def compression_level(value: str) -> int | str:
    return value.lower() if value.lower() in ("low", "medium", "high") else integer(value)


def absolute_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"'{value}' is not an absolute path")
    return value.rstrip("/") or "/"


def location(value: str) -> str:
    """Return a storage URL or an absolute path unchanged; a URL that isn't understood is never taken for a path."""
    if "://" not in value:
        return absolute_path(value)
    from barman_cloud.errors import BarmanCloudError
    from barman_cloud.store.url import parse_url

    try:
        parse_url(value)
    except BarmanCloudError as error:
        raise ValueError(f"{error}" + (f" ({error.hint})" if error.hint else "")) from None
    return value.rstrip("/")


def http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{value}' is not an address such as https://HOST:PORT")
    if parts.password:
        raise ValueError("an address must not hold a password")
    return value.rstrip("/")


def time_zone(value: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"'{value}' is not a time zone such as UTC or Europe/Vienna") from None
    return value


def schedule(value: str) -> str:
    """Return a cron expression of five fields unchanged; one that never comes is refused."""
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    fields = value.split()
    if len(fields) != 5:
        raise ValueError(f"'{value}' is not a schedule of five fields: minute, hour, day of month, month, day of week")
    try:
        next(CronSim(value, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        # Each field by itself is one: it is the day that the month doesn't have.
        if _is_schedule(f"{' '.join(fields[:3])} * {fields[4]}") and _is_schedule(f"* * * {fields[3]} *"):
            raise ValueError(f"'{value}' is a schedule that never comes") from None
        raise ValueError(f"'{value}' is not a schedule: {error}") from None
    except StopIteration:
        raise ValueError(f"'{value}' is a schedule that never comes") from None
    return value


def _is_schedule(value: str) -> bool:
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    try:
        CronSim(value, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True
