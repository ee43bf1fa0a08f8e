"""Fixtures of the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barman_cloud.store.base import ObjectStore
from tests.store.cases import CLOUDS, STORES, StoreCase
from tests.support.gcs_xml_proxy import GcsXmlProxy, gcs_xml_proxy
from tests.support.servers import StoreServer

_FIXTURES = {"moto": "moto", "rclone": "rclone_s3", "azurite": "azurite"}


@pytest.fixture(scope="session")
def gcs_front(fake_gcs: StoreServer) -> Iterator[tuple[StoreServer, GcsXmlProxy]]:
    """fake-gcs-server with the XML API in front of it."""
    with gcs_xml_proxy(fake_gcs) as front:
        yield front


def _case(name: str, request: pytest.FixtureRequest) -> StoreCase:
    if name in ("local", "memory"):
        return StoreCase(name, "file://" if name == "local" else "memory://", None)
    server: StoreServer = (
        request.getfixturevalue("gcs_front")[0] if name == "fake-gcs" else request.getfixturevalue(_FIXTURES[name])
    )
    environ = {k: v for k, v in server.environ.items() if "ENDPOINT" not in k}
    host = server.endpoint.partition("://")[2].partition("/")[0]
    return StoreCase(name, server.prefix, server.provider, f"http://{host}", environ, server)


@pytest.fixture(params=STORES)
def case(request: pytest.FixtureRequest) -> StoreCase:
    """Every kind of store in turn."""
    return _case(request.param, request)


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> StoreCase:
    """Every store that is reached through the network in turn."""
    return _case(request.param, request)


@pytest.fixture
def s3(request: pytest.FixtureRequest) -> StoreCase:
    """S3 by moto."""
    return _case("moto", request)


@pytest.fixture
def rclone(request: pytest.FixtureRequest) -> StoreCase:
    """S3 by rclone."""
    return _case("rclone", request)


@pytest.fixture
def azure(request: pytest.FixtureRequest) -> StoreCase:
    """Azure Blob Storage by Azurite."""
    return _case("azurite", request)


@pytest.fixture
def google(request: pytest.FixtureRequest) -> StoreCase:
    """Google Cloud Storage by fake-gcs-server."""
    return _case("fake-gcs", request)


@pytest.fixture
def store(case: StoreCase, tmp_path: Path) -> Iterator[ObjectStore]:
    """A store of every kind over a new bucket."""
    with case.open(case.new_url(tmp_path)) as opened:
        yield opened
