"""Which model of the configuration is laid over a server: an object in the bucket, so that all hosts agree.

``config-switch`` writes it. A configuration without models for a server's cluster costs no request.
"""

from __future__ import annotations

import json
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout
from barman_cloud.config.reader import Configuration
from barman_cloud.config.server import Server
from barman_cloud.errors import ConfigurationError, IntegrityError, ObjectNotFoundError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LIMIT = 64 << 10
_BARMANS_FILE = ".active-model.auto"


def active_model(store: ObjectStore, layout: Layout, server: Server) -> str | None:
    """Return the name of the model that is applied, None without one.

    Where ``config-switch`` was never used with the bucket, Barman's own file on this machine counts.
    """
    try:
        data = store.get(_key(layout), limit=_LIMIT)
    except ObjectNotFoundError:
        return _of_barman(server)
    try:
        name = json.loads(data)["model"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError(
            f"{store.object_url(_key(layout))} doesn't name a model", hint="write it anew: barman-cloud config-switch"
        ) from None
    return str(name) if name is not None else None


def with_active_model(configuration: Configuration, server: Server, store: ObjectStore, layout: Layout) -> Server:
    """Return the server with the values of its active model. ``ConfigurationError`` if there is no such model."""
    if not any(model.cluster == server["cluster"] for model in configuration.models.values()):
        return server
    name = active_model(store, layout, server)
    if name is None:
        return server
    try:
        return configuration.server(server.name, name)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the active model of {server.name} can't be applied: {error}",
            hint=f"barman-cloud config-switch {server.name} --reset takes it off",
        ) from None


def apply(store: ObjectStore, layout: Layout, name: str | None) -> None:
    """Make ``name`` the active model for all hosts, or none."""
    store.put(_key(layout), json.dumps({"model": name}).encode())


def _key(layout: Layout) -> str:
    return f"{layout.maintenance_dir}active_model"


def _of_barman(server: Server) -> str | None:
    path = Path(server["backup_directory"]) / _BARMANS_FILE
    try:
        name = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if name:
        log.info("model %s is active by %s", name, path)
    return name or None
