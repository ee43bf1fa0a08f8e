"""Fixtures that every kind of test shares: real servers, started at most once per test process."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from barman_cloud import logs
from tests.support import memory_store, servers
from tests.support.installations import Installation, newest_installation
from tests.support.peers import Commands, find_barman, our_commands
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.servers import StoreServer

# A busy machine makes an example slow, not wrong. The examples of `make test` are the same each time, so that it fails
# for what was changed only; `make fuzz` and `make test-long` draw new ones.
settings.register_profile("patient", deadline=None, derandomize="BARMAN_CLOUD_TEST_DRAW" not in os.environ)
settings.load_profile("patient")
if "BARMAN_CLOUD_TEST_DRAW" not in os.environ:
    # Hypothesis puts constants of our own modules into the examples: of those that happen to be loaded by then, which
    # depends on the tests that ran before.
    providers._get_local_constants = lambda: providers._local_constants  # type: ignore[attr-defined,unused-ignore]

# A shell starts background jobs with SIGINT ignored, `nohup` its program with SIGHUP ignored, and every program that a
# test interrupts would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

memory_store.register()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the tests of all files by the seed in BARMAN_CLOUD_TEST_ORDER, if there is one.

    Neighbours are then hardly ever of one file, so that almost every test gets the fixtures of its file as they are
    made: one that needs what another has left behind fails.
    """
    if seed := os.environ.get("BARMAN_CLOUD_TEST_ORDER"):
        random.Random(seed).shuffle(items)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs in this process sets logging up for itself, not for the tests that follow."""
    logger = logging.getLogger("barman_cloud")
    before = logger.level, logger.handlers[:], logger.propagate
    state = logs._level, logs._open_file, logs._sink, logs._owed[:]
    yield
    logger.level, logger.handlers, logger.propagate = before
    logger.setLevel(before[0])
    logs._level, logs._open_file, logs._sink, logs._owed[:] = state


@pytest.fixture(autouse=True)
def _no_ambient_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own credentials and endpoints out of every test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR", "BARMAN_", "PG")):
            if name.startswith("BARMAN_CLOUD_TEST"):
                continue
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def postgres_installation() -> Installation:
    """The PostgreSQL that the quick tests run on: the newest found."""
    return newest_installation()


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A short temporary directory that the servers' user can read and write; removed afterwards."""
    with temporary_server_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres(postgres_installation: Installation) -> Iterator[PostgresServer]:
    """A running server shared by all tests of the session: don't stop or reconfigure it, don't archive from it."""
    with temporary_server_directory() as directory, PostgresServer.create(directory, postgres_installation) as server:
        yield server


@pytest.fixture
def new_postgres(postgres_installation: Installation) -> Iterator[Callable[..., PostgresServer]]:
    """A function that makes a new, running server of its own for the test; takes what PostgresServer.create takes."""
    with contextlib.ExitStack() as stack:

        def make(installation: Installation = postgres_installation, **arguments: object) -> PostgresServer:
            directory = stack.enter_context(temporary_server_directory())
            server = PostgresServer.create(directory, installation, **arguments)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield make


@pytest.fixture(scope="session")
def moto() -> Iterator[StoreServer]:
    """S3 (and EC2) by moto."""
    with servers.moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[StoreServer]:
    """S3 by ``rclone serve s3``."""
    with servers.rclone_s3() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[StoreServer]:
    """Azure Blob Storage by Azurite."""
    with servers.azurite() as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[StoreServer]:
    """Google Cloud Storage by fake-gcs-server."""
    with servers.fake_gcs() as server:
        yield server


@pytest.fixture(scope="session")
def barman_peer() -> Commands:
    """Real Barman; CI always has it (``make test`` runs ``make peers``), elsewhere its tests are skipped without it."""
    peer = find_barman()
    if peer is None:
        if os.environ.get("CI"):
            pytest.fail("real Barman isn't installed: run 'make peers'")
        pytest.skip("real Barman isn't installed: run 'make peers'")
    return peer


@pytest.fixture(scope="session")
def ours() -> Commands:
    """Our own commands, run as processes by the servers' user."""
    return our_commands()
