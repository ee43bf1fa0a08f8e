"""From a URL, options and the environment to a store; the only place that looks at the variables of the clouds."""

from __future__ import annotations

import os
from collections.abc import Mapping

from barman_cloud.store import providers
from barman_cloud.store.base import ObjectStore, StoreURL
from barman_cloud.store.environment import Environment, clean, clean_process, clean_secret
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.url import provider_of

_FILES = ("aws_profile", "sse_customer_key")
"""Options that don't become part of a request."""


def open_store(
    url: str | StoreURL,
    provider: str | None = None,
    options: StoreOptions | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ObjectStore:
    """Open the store at ``url``; no request is made.

    ``provider`` is the value of ``--cloud-provider`` or None to infer it. Raises ``ConfigurationError`` for a bad URL,
    a provider that isn't in the table, options that exclude each other, and settings or files of the provider that
    can't be used.
    """
    if isinstance(url, str):
        url = url.strip("\t\r\n")  # a blank may be meant
        chosen = provider_of(url, provider)
        url = chosen.parse(url)
    else:
        chosen = providers.named(url.provider)
    clean_process()
    return chosen.open(url, _cleaned(options or StoreOptions()), Environment(environ))


def _cleaned(options: StoreOptions) -> StoreOptions:
    """Return the options without the white space at their ends."""
    given = options._asdict()
    for name, value in given.items():
        if isinstance(value, str):
            check = clean if name in _FILES else clean_secret
            given[name] = check(value, f"--{name.replace('_', '-')}")
    return StoreOptions(**given)
