"""Seeing that the WAL of servers with ``streaming_archiver = on`` is received: somewhere, by one process."""

from __future__ import annotations

from datetime import UTC, datetime

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.server import Server
from barman_cloud.schedule.lease import Holding, read
from barman_cloud.store.base import ObjectStore

LEASE_NAME = "wal-receive"
"""The lease of receivers, wherever they were started."""


def receiver_of(store: ObjectStore, layout: Layout) -> Holding | None:
    """Return who receives the server's WAL, None if nobody does."""
    holding = read(store, layout, LEASE_NAME)
    return None if holding is None or holding.ended(datetime.now(UTC)) else holding


def needs_receiver(store: ObjectStore, layout: Layout, server: Server) -> bool:
    """Whether a receiver is to be started."""
    return bool(server["streaming_archiver"]) and receiver_of(store, layout) is None


def words(server: Server) -> tuple[str, ...]:
    """Return the command line of a receiver, behind ``barman-cloud``."""
    return ("wal-receive", server.name)
