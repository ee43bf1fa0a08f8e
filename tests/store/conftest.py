"""Fixtures of the conformance suite."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.providers import AWS, AZURE, GOOGLE
from barman_cloud.store.s3 import checksums
from tests.store import results
from tests.store.cases import CLOUDS, STORES, StoreCase, given_case, own_case
from tests.store.given import GIVEN
from tests.support.fault_proxy import FaultProxy
from tests.support.gcs_xml_proxy import GcsXmlProxy, gcs_xml_proxy
from tests.support.servers import StoreServer

_FIXTURES = {"moto": "moto", "rclone": "rclone_s3", "azurite": "azurite"}
_PROVIDERS = {"moto": AWS, "azurite": AZURE, "fake-gcs": GOOGLE}


@pytest.fixture(scope="session")
def gcs_front(fake_gcs: StoreServer) -> Iterator[tuple[StoreServer, GcsXmlProxy]]:
    """fake-gcs-server with the XML API in front of it."""
    with gcs_xml_proxy(fake_gcs) as front:
        yield front


@pytest.fixture(autouse=True, scope="session")
def _emptied() -> Iterator[None]:
    """Remove at the end what the suite wrote into a bucket that isn't its own."""
    yield
    if GIVEN is None:
        return
    options = StoreOptions(endpoint_url=GIVEN.endpoint or None) if GIVEN.url.provider == AWS else StoreOptions()
    with (
        open_store(GIVEN.folder, GIVEN.url.provider, options, GIVEN.environ) as store,
        contextlib.suppress(BarmanCloudError),
    ):
        store.delete([info.key for info in store.list(f"{store.url.path}/")])


def _case(name: str, request: pytest.FixtureRequest) -> StoreCase:
    if GIVEN is not None:
        if name != "given" and GIVEN.url.provider != _PROVIDERS.get(name):
            pytest.skip(f"about {name}, or stores of its kind")
        return given_case(GIVEN)
    if name in ("local", "memory"):
        return own_case(name, None)
    server: StoreServer = (
        request.getfixturevalue("gcs_front")[0] if name == "fake-gcs" else request.getfixturevalue(_FIXTURES[name])
    )
    return own_case(name, server)


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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test of the suite ended, for the table of what each store can do."""
    if GIVEN is not None:
        results.note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results down, where that was asked for."""
    if GIVEN is not None and (path := os.environ.get("BARMAN_CLOUD_TEST_STORE_RESULTS")):
        results.write(Path(path), given_case(GIVEN).answers)


_ON_ONE_SERVER = re.compile(
    r"test_(?:lost_connections|a_throttling_store_is_asked_again|a_body_that_is_cut_off|pauses_grow|refused_connection"
    r"|missing_bucket|wrong_credentials|more_than_a_thousand_keys|a_store_that_stays_down"
    r"|an?_(?:upload|part|download)_\w*altered\w*)\[(?!moto|local|memory)"
)
"""What takes seconds on each server: ``make test`` runs it on one, ``make test-long`` on the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what isn't for ``make test``."""
    for item in items:
        if GIVEN is None and _ON_ONE_SERVER.match(item.name):
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def _nothing_learned() -> Iterator[None]:
    checksums._learned.clear()
    yield
    checksums._learned.clear()


@pytest.fixture
def s3_proxy(s3: StoreCase) -> Iterator[FaultProxy]:
    with s3.proxied() as proxy:
        yield proxy


@pytest.fixture
def open_s3(s3: StoreCase, s3_proxy: FaultProxy, tmp_path: Path) -> Callable[..., ObjectStore]:
    """Opens a new bucket through the proxy."""

    def open_it(**options: object) -> ObjectStore:
        environ = {**s3.environ, **options.pop("environ", {})}  # type: ignore[dict-item]
        return s3.open(s3.new_url(tmp_path), endpoint=s3_proxy.endpoint, environ=environ, **options)

    return open_it
