"""The table of all keys: what documentation, validation and ``show-servers`` are made from.

:data:`KEYS` joins Barman's keys (``barman_keys``) and ours (``own_keys``). A key that Barman has and that means nothing
here stays in the table, with the reason: such a configuration works, and ``check`` says what is not used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from barman_cloud.config.kinds import Kind, text

GLOBAL = "G"
SERVER = "S"
MODEL = "M"


class Key(NamedTuple):
    """One key of a configuration file."""

    name: str
    scope: str
    """Letters of the sections that may hold it: ``G`` (the section ``barman``), ``S`` (a server), ``M`` (a model)."""
    kind: Kind
    default: Any
    """The value where no section holds the key; a text with ``{…}`` in it is filled in from other keys."""
    meaning: str
    option: str | None = None
    """The option of the commands that it stands for."""
    unused: str | None = None
    """Why it has no effect here; None: it is obeyed."""
    secret: bool = False
    """The value can hold a password, so that it's never printed whole."""
    barman: bool = True
    """Barman has this key too, with the same meaning."""


def key(name: str, scope: str, kind: Kind, default: Any, meaning: str, option: str | None = None) -> Key:
    """Return a key of Barman's that is obeyed."""
    return Key(name, scope, kind, default, meaning, option)


def unused(name: str, scope: str, default: Any, why: str, kind: Kind = text) -> Key:
    """Return a key of Barman's that has no effect here."""
    return Key(name, scope, kind, default, "", unused=why)


def own(name: str, scope: str, kind: Kind, default: Any, meaning: str, option: str | None = None) -> Key:
    """Return a key that Barman doesn't have."""
    return Key(name, scope, kind, default, meaning, option, barman=False)
