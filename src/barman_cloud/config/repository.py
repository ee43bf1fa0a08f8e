"""From a server of the configuration to its store."""

from __future__ import annotations

import os
from collections.abc import Mapping

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.server import Server
from barman_cloud.config.table import KEYS
from barman_cloud.deadline import Deadline
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions


def store_options(server: Server) -> StoreOptions:
    """Return the options of the store that the server's section gives."""
    given = {}
    for name in server.places:
        key = KEYS[name]
        field = key.option.removeprefix("--").replace("-", "_") if key.option else ""
        if field in StoreOptions._fields and not key.unused:
            given[field] = server[name]
    return StoreOptions(**given)


def environment_of(server: Server, environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the environment that the server's store is opened in."""
    region = server["aws_region"]
    return environ if not region else {"AWS_DEFAULT_REGION": region, **environ}


def open_wal_store(server: Server, deadline: Deadline | None = None) -> tuple[ObjectStore, Layout]:
    """Open the store of the server's WAL, which also holds leases and the history of runs. Makes no request.

    Without a ``deadline``, requests are given up after four minutes of failures.
    """
    options = store_options(server)._replace(deadline=deadline)
    store = open_store(server.wal_url, None, options, environment_of(server))
    return store, Layout.of(store.url, server.name)
