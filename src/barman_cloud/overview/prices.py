"""What storage and requests cost: a small table, and an estimate made with it.

The table holds list prices in US dollars of one region of each provider, as they were known when this was written
(docs/how-to/report.md says which). They change, and contracts differ: ``--prices FILE`` replaces them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barman_cloud.errors import ConfigurationError

S3, AZURE, GOOGLE = "aws-s3", "azure-blob-storage", "google-cloud-storage"


@dataclass(frozen=True, slots=True)
class Price:
    """Of one class of storage: dollars for a GiB in a month, for 1000 requests, for a GiB read."""

    gib_month: float
    write_1000: float
    read_1000: float
    read_gib: float = 0.0


TABLE: Mapping[str, Mapping[str, Price]] = {
    S3: {
        "STANDARD": Price(0.023, 0.005, 0.0004),
        "INTELLIGENT_TIERING": Price(0.023, 0.005, 0.0004),
        "STANDARD_IA": Price(0.0125, 0.01, 0.001, 0.01),
        "ONEZONE_IA": Price(0.01, 0.01, 0.001, 0.01),
        "GLACIER_IR": Price(0.004, 0.02, 0.01, 0.03),
    },
    AZURE: {
        "Hot": Price(0.018, 0.005, 0.0004),
        "Cool": Price(0.01, 0.01, 0.001, 0.01),
        "Cold": Price(0.0036, 0.018, 0.01, 0.03),
    },
    GOOGLE: {
        "STANDARD": Price(0.02, 0.005, 0.0004),
        "NEARLINE": Price(0.01, 0.01, 0.001, 0.01),
        "COLDLINE": Price(0.004, 0.02, 0.01, 0.02),
        "ARCHIVE": Price(0.0012, 0.05, 0.05, 0.05),
    },
}
"""Provider to class to price; the first class of a provider is its default."""

_FIELDS = ("gib_month", "write_1000", "read_1000", "read_gib")


def price_of(
    table: Mapping[str, Mapping[str, Price]], provider: str, storage_class: str | None
) -> tuple[str, Price] | None:
    """Return the class and its price; None if the provider has no prices, as a directory.

    ``ConfigurationError`` for a class that isn't in the table.
    """
    classes = table.get(provider)
    if not classes:
        return None
    if storage_class is None:
        return next(iter(classes.items()))
    for name, price in classes.items():
        if name.lower() == storage_class.lower():
            return name, price
    raise ConfigurationError(
        f"--storage-class {storage_class}: no price is known for it",
        hint=f"use {', '.join(classes)}, or name it in a file for --prices",
    )


def read_table(path: Path) -> dict[str, dict[str, Price]]:
    """Read a table in the form that docs/how-to/report.md describes, on top of the built-in one.

    Classes of the file come first, so that its first one is the provider's default. Raises ``ConfigurationError``.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--prices {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"--prices {path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"--prices {path} must hold an object: provider to class to prices")
    table = {provider: dict(classes) for provider, classes in TABLE.items()}
    for provider, classes in document.items():
        if provider not in TABLE or not isinstance(classes, dict):
            raise ConfigurationError(f"--prices {path}: {provider!r} is no provider", hint=f"use {', '.join(TABLE)}")
        own = {name: _price(path, f"{provider}.{name}", values) for name, values in classes.items()}
        table[provider] = own | {name: price for name, price in table[provider].items() if name not in own}
    return table


def _price(path: Path, where: str, values: Any) -> Price:
    if not isinstance(values, dict) or not set(values) <= set(_FIELDS) or "gib_month" not in values:
        raise ConfigurationError(f"--prices {path}: {where} must have gib_month, and may have {', '.join(_FIELDS[1:])}")
    numbers = {name: values.get(name, 0.0) for name in _FIELDS}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e6:
            raise ConfigurationError(f"--prices {path}: {where}.{name} must be a number of dollars, not {number!r}")
    return Price(**numbers)
