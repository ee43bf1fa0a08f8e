"""Containers on different stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.pod import Pod
from tests.support.postgres import PostgresServer, server_directory
from tests.support.privileges import server_account
from tests.support.segments import Cluster
from tests.support.servers import StoreServer


@pytest.fixture(params=["rclone_s3", "azurite"])
def any_store(request: pytest.FixtureRequest) -> StoreServer:
    """The stores that every client test of data runs on."""
    store: StoreServer = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def new_pod(server_dir: Path) -> Callable[[StoreServer], Pod]:
    """A function that makes a container with an empty bucket of its own."""

    def make(store: StoreServer) -> Pod:
        for folder in ("tmp", "spool", "controller"):
            server_directory(server_dir / folder)
        return Pod(store, store.new_bucket(), server_dir)

    return make


@pytest.fixture
def cluster(server_dir: Path) -> Iterator[Cluster]:
    """WAL segments in the container's volume."""
    yield Cluster(server_dir / "pgdata")


@pytest.fixture
def archiving_postgres(new_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A new server with a little data."""
    server = new_postgres()
    server.pgbench("-i", "-s", "1")
    server_account().own(server.directory)
    return server
