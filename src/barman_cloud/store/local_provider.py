"""A local directory, as an entry of the table of providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.base import StoreURL
from barman_cloud.store.provider import Provider
from barman_cloud.store.url import refuse

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.store.options import StoreOptions

NAME = "file"
FORM = "file:///directory"


def _recognises(text: str) -> bool:
    return text[:7].lower() == "file://"


def _parse(text: str) -> StoreURL:
    rest = text[len("file://") :]
    if rest.startswith("localhost/"):
        rest = rest[len("localhost") :]
    if not rest.startswith("/"):
        refuse(text, "isn't an absolute path", "use three slashes, as in file:///var/backups/postgresql")
    directory = rest.rstrip("/")
    if not directory:
        refuse(text, "names no directory", f"use {FORM}")
    return StoreURL(NAME, directory, "", text)


def _open(url: StoreURL, _options: StoreOptions, _environ: Mapping[str, str]) -> ObjectStore:
    from barman_cloud.store.local import LocalStore

    return LocalStore(url)


PROVIDER = Provider(NAME, FORM, _recognises, _parse, _open)
