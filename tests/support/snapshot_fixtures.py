"""Fixtures: each provider of snapshots, its real library pointed at a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import StoreServer
from tests.support.snapshot_clouds import AwsCloud, AzureCloud, Cloud, GoogleCloud


@pytest.fixture
def aws(moto: StoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsCloud]:
    with AwsCloud.running(moto, monkeypatch) as cloud:
        yield cloud


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureCloud]:
    with AzureCloud.running(monkeypatch) as cloud:
        yield cloud


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleCloud]:
    with GoogleCloud.running(monkeypatch) as cloud:
        yield cloud


@pytest.fixture(params=["aws", "azure", "gcp"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each provider in turn, for what must hold for all."""
    found: Cloud = request.getfixturevalue(request.param)
    return found
