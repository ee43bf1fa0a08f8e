"""All keys by name, Barman's and ours."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from barman_cloud.config.barman_keys import BARMAN_KEYS
from barman_cloud.config.keys import Key
from barman_cloud.config.own_keys import OWN_KEYS

KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for key in (*BARMAN_KEYS, *OWN_KEYS)})


def nearest(name: str) -> str | None:
    """Return the key that was probably meant, or None."""
    return next(iter(get_close_matches(name.lower(), KEYS, n=1, cutoff=0.6)), None)
