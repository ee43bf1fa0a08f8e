"""``toy://DIRECTORY!PATH``: objects are files below a directory, by way of the local store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.base import StoreURL
from barman_cloud.store.provider import Provider
from barman_cloud.store.url import refuse, wrong_form

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.store.options import StoreOptions

NAME = "toy-storage"
FORM = "toy:///directory!path"


def _recognises(text: str) -> bool:
    return text.startswith("toy://")


def _parse(text: str) -> StoreURL:
    if not _recognises(text):
        wrong_form(text, NAME, FORM)
    directory, _, path = text[len("toy://") :].partition("!")
    if not directory:
        refuse(text, "names no directory", f"use {FORM}")
    return StoreURL(NAME, directory, path.strip("/"), text)


def _open(url: StoreURL, _options: StoreOptions, _environ: Mapping[str, str]) -> ObjectStore:
    from barman_cloud.store.local import LocalStore

    return LocalStore(url)


PROVIDER = Provider(NAME, FORM, _recognises, _parse, _open)
