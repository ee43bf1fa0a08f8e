"""A store whose objects travel when the test says so, and waits that end when it does."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from barman_cloud.errors import StoreError
from barman_cloud.store.base import Buffer, ObjectKind, StoreURL, Tags
from barman_cloud.wal import background, background_client
from barman_cloud.wal.spool import Directory
from tests.support.memory_store import MemoryStore


class GatedStore(MemoryStore):
    """Objects are read and written once ``open`` is set; the keys in ``broken`` fail, and are noted in ``refused``."""

    def __init__(self) -> None:
        super().__init__(StoreURL("memory", "bucket", "prod", "memory://bucket/prod"))
        self.open = threading.Event()
        self.open.set()
        self.broken: set[str] = set()
        self.refused: list[str] = []

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        self._pass(key)
        return super().get_buffer(key, limit=limit)

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        self._pass(key)
        super().put(key, data, kind=kind, if_absent=if_absent, tags=tags)

    def _pass(self, key: str) -> None:
        self.open.wait(120)
        if key in self.broken:
            self.refused.append(key)
            raise StoreError(f"{key} is broken")


def opened_at_the_third_look(monkeypatch: pytest.MonkeyPatch, store: GatedStore) -> Callable[[], int]:
    """Let objects travel when a command has looked three times whether it is to wait on; returns what counts looks."""
    looks: list[bool] = []
    plain = background_client._is_alive

    def is_alive(directory: Directory) -> bool:
        looks.append(plain(directory))
        if len(looks) == 3:
            store.open.set()
        return looks[-1]

    monkeypatch.setattr(background_client, "_is_alive", is_alive)
    return lambda: len(looks)


def idle_when_set(monkeypatch: pytest.MonkeyPatch, seconds: float) -> threading.Event:
    """Return the event with which the ``seconds`` without a request are over for a background process."""
    over = threading.Event()

    def wait(readers: list[int], _writers: list[int], _others: list[int], timeout: float) -> tuple[list[int], ...]:
        assert timeout == seconds
        while not over.is_set():
            if (found := select.select(readers, [], [], 0.02))[0]:
                return found
        return [], [], []

    monkeypatch.setattr(background, "select", SimpleNamespace(select=wait))
    return over
