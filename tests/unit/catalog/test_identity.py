"""Whose an archive is: who may go on in it, how that is found out, and what it costs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.archive.compression import SUFFIX, compress_bytes
from barman_cloud.catalog import identity
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.identity import ArchiveIdentity
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import AccessDeniedError, ConflictError, ObjectNotFoundError
from barman_cloud.store.base import Buffer, Capabilities, ObjectInfo, Tags
from barman_cloud.wal import spool
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from tests.support.commands import run_command
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.segments import SYSTEM, Cluster
from tests.support.segments import segment as segment_bytes
from tests.support.segments import segment_name as name_of
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, segment

OURS, THEIRS, THIRD = 7512345678901234567, 7600000000000000001, 7600000000000000002


def ask(catalog: Catalog, own: int, *, accepted: int | None = None, directory: Path | None = None) -> None:
    """Ask as a new process would."""
    notes = None
    if directory:
        notes = spool.Directory(str(directory), os.open(directory, os.O_PATH) if directory.exists() else -1)
    ArchiveIdentity(catalog.store, catalog.layout, accepted=accepted, notes=notes).require(own, "a segment")


def is_refused(catalog: Catalog, own: int, **arguments: int | None) -> ConflictError:
    with pytest.raises(ConflictError) as caught:
        ask(catalog, own, **arguments)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    return caught.value


def test_the_first_cluster_makes_the_archive_its_own_and_another_is_refused() -> None:
    catalog = memory_catalog("main")
    ask(catalog, OURS)
    ask(catalog, OURS)
    error = is_refused(catalog, THEIRS)
    assert str(OURS) in str(error)
    assert str(THEIRS) in str(error)
    assert "server name" in str(error.hint)
    assert f"--accept-cluster={THEIRS}" in str(error.hint)
    assert catalog.store.get(catalog.layout.identity) == f"{OURS}\n".encode()


def test_servers_below_one_url_are_independent() -> None:
    catalog = memory_catalog("main")
    ask(catalog, OURS)
    ask(Catalog(catalog.store, Layout(catalog.layout.prefix, "other")), THEIRS)


def test_the_newest_complete_backup_tells_whose_an_archive_of_another_program_is() -> None:
    catalog = fill(
        memory_catalog("barman"),
        [
            backup("20260101T000000", segment(1), systemid=str(THIRD)),
            backup("20260102T000000", segment(2), systemid=str(OURS)),
            backup("20260103T000000", segment(3)),
            backup("20260104T000000", segment(4), "FAILED", systemid=str(THEIRS)),
        ],
    )
    catalog.store.put(catalog.layout.backup_info("20260105T000000"), b"unreadable")
    before = keys(catalog)
    for other in (THEIRS, THIRD):
        is_refused(catalog, other)
        assert keys(catalog) == before, "who is refused writes nothing"
    ask(catalog, OURS)
    assert catalog.layout.identity in keys(catalog)


@pytest.mark.parametrize("compression", [None, *SUFFIX])
def test_a_segment_tells_whose_an_archive_without_backups_is(compression: str | None) -> None:
    catalog = memory_catalog("barman")
    name = name_of(5)
    catalog.store.put(catalog.layout.wal("00000001.history"), b"")
    key = catalog.layout.wal(name, SUFFIX.get(compression or "", ""))
    catalog.store.put(key, compress_bytes(segment_bytes(5, system=OURS), compression))
    is_refused(catalog, THEIRS)
    ask(catalog, OURS)


def test_consent_names_the_cluster_and_lasts() -> None:
    catalog = memory_catalog("main")
    ask(catalog, OURS)
    is_refused(catalog, THEIRS, accepted=THIRD)
    ask(catalog, THEIRS, accepted=THEIRS)
    for known in (OURS, THEIRS):
        ask(catalog, known)
    is_refused(catalog, THIRD)


def test_what_was_found_out_costs_no_request_for_a_day(tmp_path: Path) -> None:
    catalog = memory_catalog("main")
    ask(catalog, OURS, directory=tmp_path)
    catalog.store.requests.counts.clear()
    ask(catalog, OURS, directory=tmp_path)
    assert catalog.store.requests.counts == {}
    with pytest.raises(ConflictError):
        ask(catalog, THEIRS, directory=tmp_path)
    note = tmp_path / "cluster"
    old = time.time() - identity.REMEMBERED_SECONDS - 1
    os.utime(note, (old, old))
    catalog.store.requests.counts.clear()
    ask(catalog, OURS, directory=tmp_path)
    assert catalog.store.requests.counts == {"get": 1}
    assert time.time() - note.stat().st_mtime < 60


def test_a_directory_that_can_not_be_written_costs_a_request_and_nothing_else(tmp_path: Path) -> None:
    catalog = memory_catalog("main")
    for _ in range(2):
        ask(catalog, OURS, directory=tmp_path / "missing")
    assert catalog.store.requests.counts["get"] == 2


def test_of_clusters_that_race_for_an_archive_exactly_one_gets_it() -> None:
    for turn in range(20):
        catalog = memory_catalog(f"race{turn}")
        clusters = [OURS, THEIRS, THIRD]
        together = threading.Barrier(len(clusters))
        got: list[int] = []

        def race(own: int, catalog: Catalog = catalog, got: list[int] = got, barrier: object = together) -> None:
            barrier.wait(60)  # type: ignore[attr-defined]
            try:
                ask(catalog, own)
                got.append(own)
            except ConflictError:
                pass

        threads = [threading.Thread(target=race, args=(own,)) for own in clusters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(got) == 1
        assert catalog.store.get(catalog.layout.identity) == f"{got[0]}\n".encode()


def test_a_cluster_that_claims_the_archive_in_the_last_moment_gets_it() -> None:
    catalog = memory_catalog("main")
    store = FaultyStore(catalog.store)
    store.fail("put", key=catalog.layout.identity, error=lambda: ask(catalog, THEIRS))
    with pytest.raises(ConflictError, match=str(THEIRS)):
        ArchiveIdentity(store, catalog.layout).require(OURS, "a segment")
    ask(catalog, THEIRS)


class WithoutConditions(MemoryStore):
    """Takes no notice of ``if_absent``; ``meanwhile`` happens after the first put."""

    capabilities = Capabilities(conditional_create=False)
    meanwhile: Callable[[], None] | None = None

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, tags: Tags | None = None) -> None:
        super().put(key, data, tags=tags)
        if action := self.meanwhile:
            self.meanwhile = None
            action()


def test_a_store_without_conditional_creates_is_read_again_after_the_write() -> None:
    plain = memory_catalog("main")
    store = WithoutConditions(plain.store.url)
    catalog = Catalog(store, plain.layout)
    store.meanwhile = lambda: store.put(catalog.layout.identity, f"{THEIRS}\n".encode())
    is_refused(catalog, OURS)
    ask(catalog, THEIRS)


def test_a_retried_create_that_did_arrive_is_recognised() -> None:
    catalog = memory_catalog("main")
    store = FaultyStore(catalog.store)
    asking = ArchiveIdentity(store, catalog.layout)
    catalog.store.put(catalog.layout.identity, f"{OURS}\n".encode())
    store.fail("get", error=lambda: ObjectNotFoundError("not yet"))
    asking.require(OURS, "a segment")


@pytest.mark.parametrize("method", ["get", "list*", "put"])
def test_credentials_that_do_not_allow_to_find_out_archive_all_the_same(method: str) -> None:
    catalog = memory_catalog("main")
    store = FaultyStore(catalog.store)
    store.fail(method, times=99, error=lambda: AccessDeniedError("no"))
    ArchiveIdentity(store, catalog.layout).require(OURS, "a segment")
    assert (catalog.layout.identity in keys(catalog)) is (method != "put")


def test_an_archive_that_was_emptied_is_free_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = memory_catalog("main")
    ask(catalog, OURS)
    is_refused(catalog, THEIRS)
    plain = MemoryStore.head

    def head(self: MemoryStore, key: str) -> ObjectInfo:
        long_ago = datetime.now(UTC) - timedelta(seconds=identity.ABANDONED_SECONDS + 1)
        return plain(self, key)._replace(last_modified=long_ago)

    monkeypatch.setattr(MemoryStore, "head", head)
    key = catalog.layout.wal(segment(1))
    catalog.store.put(key, b"")
    is_refused(catalog, THEIRS)
    catalog.store.delete([key])
    ask(catalog, THEIRS)
    assert catalog.store.get(catalog.layout.identity) == f"{THEIRS}\n".encode()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not a number\n", b"1" * 10_000, b"9" * 20_000])
def test_a_damaged_object_is_warned_of_and_the_content_asked(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(memory_catalog("main"), [backup("20260101T000000", segment(1), systemid=str(OURS))])
    catalog.store.put(catalog.layout.identity, content)
    is_refused(catalog, THEIRS)
    ask(catalog, OURS)
    assert "system_identifiers" in caplog.text


class TestArchiver:
    @staticmethod
    def archiver(catalog: Catalog, **options: bool) -> Archiver:
        asking = ArchiveIdentity(catalog.store, catalog.layout)
        return Archiver(catalog.store, catalog.layout, ArchiveOptions(**options), asking)  # type: ignore[arg-type]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_no_segment_of_another_cluster_gets_in(self, tmp_path: Path, overwrite: bool) -> None:
        catalog = memory_catalog("main")
        mine, other = Cluster(tmp_path / "a"), Cluster(tmp_path / "b", system=THEIRS)
        self.archiver(catalog).archive(str(mine.add(1)))
        before = keys(catalog)
        for number in (1, 2, 3, 300):
            path = other.add(number)
            with pytest.raises(ConflictError, match=f"{SYSTEM}.*{path}.*{THEIRS}"):
                self.archiver(catalog, overwrite=overwrite).archive(str(path))
        assert keys(catalog) == before

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("00000002.history", b"1\t0/3000000\tno reason\n"),
            (
                "000000010000000000000003.00000028.backup",
                b"START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTOP WAL LOCATION: 0/3000158\n",
            ),
        ],
    )
    def test_small_files_are_known_by_the_control_file_beside_them(
        self, tmp_path: Path, name: str, content: bytes
    ) -> None:
        catalog = memory_catalog("main")
        self.archiver(catalog).archive(str(Cluster(tmp_path / "a").add(1)))
        other = Cluster(tmp_path / "b", system=THEIRS)
        with pytest.raises(ConflictError):
            self.archiver(catalog).archive(str(other.add_file(name, content)))

    def test_a_standby_and_a_promoted_one_go_on(self, tmp_path: Path) -> None:
        catalog = memory_catalog("main")
        self.archiver(catalog).archive(str(Cluster(tmp_path / "primary").add(1)))
        standby = Cluster(tmp_path / "standby")
        self.archiver(catalog).archive(str(standby.add(1)))
        self.archiver(catalog).archive(str(standby.add(2, timeline=2)))

    def test_working_ahead_is_refused_as_well(self, tmp_path: Path) -> None:
        catalog = memory_catalog("main")
        self.archiver(catalog).archive(str(Cluster(tmp_path / "a").add(1)))
        with pytest.raises(ConflictError):
            self.archiver(catalog).archive_ahead(str(Cluster(tmp_path / "b", system=THEIRS).add(2)))


def test_the_command_refuses_with_1_and_takes_consent(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    place = ["--spool-dir", str(tmp_path / "spool"), f"file://{tmp_path}/store", "main"]
    mine, other = Cluster(tmp_path / "a"), Cluster(tmp_path / "b", system=THEIRS)
    assert run_command("wal-archive", *place, mine.add(1)).returncode == 0
    refused = run_command("wal-archive", *place, other.add(2))
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)
    assert str(SYSTEM) in refused.stderr
    assert str(THEIRS) in refused.stderr
    agreed = run_command("wal-archive", f"--accept-cluster={THEIRS}", *place, other.add(2))
    assert agreed.returncode == 0, agreed.stderr
    assert run_command("wal-archive", *place, other.add(3)).returncode == 0
