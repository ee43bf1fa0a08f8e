"""How the state of a backup gets into its ``backup.info``; whole backups are in tests/integration and tests/faults."""

from __future__ import annotations

import threading

from barman_cloud.backup.lifecycle import BackupRequest, Run
from barman_cloud.backup.record import Record
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.base import Buffer, ObjectStore, Tags
from barman_cloud.store.url import parse_url
from tests.support.memory_store import MemoryStore

KEY = "main/base/20260101T000000/backup.info"


def run_on(store: ObjectStore, **fields: str) -> Run:
    return Run(store, Layout("", "main"), BackupInfo("20260101T000000", **fields), BackupRequest())  # type: ignore[arg-type]


class StoreWhoseFirstPutIsSlow(MemoryStore):
    """Holds back the first put until ``go`` is set; ``begun`` tells that it has been asked for."""

    def __init__(self) -> None:
        super().__init__(parse_url("memory://slow-first-put", None))
        self.begun, self.go = threading.Event(), threading.Event()

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, tags: Tags | None = None) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(60)
        super().put(key, data, if_absent=if_absent, tags=tags)


def test_an_abandoned_upload_never_replaces_a_later_state() -> None:
    store = StoreWhoseFirstPutIsSlow()
    run = run_on(store, status="STARTED")
    record = Record(run.store, run.layout, run.info, run.tags)
    abandoned = threading.Thread(target=record.save)
    abandoned.start()
    assert store.begun.wait(60)
    run.info.status = "FAILED"
    record.save()
    store.go.set()
    abandoned.join(60)
    assert backup_info.parse(store.get(KEY).decode(), "20260101T000000").status == "FAILED"


def test_a_file_name_that_is_not_utf_8_does_not_keep_the_failure_out_of_the_record() -> None:
    store = MemoryStore(parse_url("memory://odd-name", None))
    run = run_on(store, status="FAILED", error="failure uploading data (/pg/\udcff can't be read)")
    Record(run.store, run.layout, run.info, run.tags).save()
    assert b"/pg/\\udcff can't" in store.get(KEY)
