from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.store.base import StoreURL
from tests.support.memory_store import MemoryStore
from tests.support.segments import Cluster


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(StoreURL("memory", "bucket", "prod", "memory://bucket/prod"))


@pytest.fixture
def layout(store: MemoryStore) -> Layout:
    return Layout.of(store.url, "main")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    return directory
