"""A store whose objects travel when the test says so."""

from __future__ import annotations

import threading

from barman_cloud.errors import StoreError
from barman_cloud.store.base import Buffer, ObjectKind, StoreURL, Tags
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
        self.open.wait(10)
        if key in self.broken:
            self.refused.append(key)
            raise StoreError(f"{key} is broken")
