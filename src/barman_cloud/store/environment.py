"""Settings from the environment, a file or an option, fit for use.

Secrets are often made with ``echo`` or copied from a page, with a line break or a blank at the end. What is at the ends
of a setting is left out; a control character inside is an error here, before it gets into a request: a header that
can't be sent makes obstore panic, and other libraries show its value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from barman_cloud.errors import ConfigurationError

_PART = r"[a-z0-9_~-]{1,63}"  # of a host's name
_ADDRESS = rf"(?i)https?://(?:{_PART}(?:\.{_PART})*\.?|\[[0-9a-f:.]+\])(?::(?P<port>\d{{1,5}}))?(?:/[!-~]*)?"
_READ_BY_LIBRARIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_CONTROLS = frozenset(map(chr, (*range(32), 127, *range(0x80, 0xA0), 0x2028, 0x2029)))


def clean(text: str, name: str) -> str:
    """Return a setting without the white space at its ends. ``name`` says in an error where it comes from."""
    text = text.strip()
    if not text.isprintable() and not _CONTROLS.isdisjoint(text):
        raise ConfigurationError(
            f"{name} has a line break or another control character in it", hint="set it anew, in one line"
        )
    return text


def clean_secret(text: str, name: str) -> str:
    """The same for what becomes part of a header or a signature: ASCII only."""
    text = clean(text, name)
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"{name} has a character in it that can't be sent",
            hint="set it anew; a word processor may have changed a character",
        )
    return text


def clean_url(text: str, name: str, *, query: bool = False) -> str:
    """The same for an address, ``http[s]://HOST[:PORT][/PATH]``; the slash at its end is left out too.

    With ``query``, one may follow the path.
    """
    import re

    text = clean(text, name).rstrip("/")
    found = re.fullmatch(_ADDRESS, text)
    if found is None or (not query and "?" in text) or "#" in text or int(found["port"] or 1) not in range(1, 65536):
        raise ConfigurationError(
            f"{name} isn't an address that can be used", hint="write http://HOST:PORT or https://HOST"
        )
    return text


def clean_process() -> None:
    """Clean the variables of this process that libraries read by themselves: a proxy with a line break at its end is
    no proxy to obstore, which then goes around it.
    """
    for name in _READ_BY_LIBRARIES:
        for variable in (name, name.lower()):
            text = os.environ.get(variable)
            if text is not None and text != (cleaned := clean(text, variable)):
                os.environ[variable] = cleaned


class Environment(Mapping[str, str]):
    """Variables, each cleaned when it is asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        return clean(self._variables[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return "Environment(…)"  # there are secrets in it
