"""Which backups can be parents, where their manifest is found, and what a server's past has to do with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from barman_cloud.archive.compression import compress_stream
from barman_cloud.archive.manifest import EntrySpool, ManifestSpool, WalRange, manifest_stream
from barman_cloud.archive.tar import Member, end_of_archive, member_header, padding
from barman_cloud.backup.parent import IncrementRequest, Parent, choose, find_parent, load_manifest, way_from
from barman_cloud.catalog.backup_info import BackupInfo, SnapshotsInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import ConnectivityError, IntegrityError, OperationError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal_summaries import Summary
from tests.unit.catalog.builders import memory_catalog

ID = "20260101T000000"
BEGIN, END = 0x2000028, 0x2000100


def manifest(begin: int = BEGIN, *, timeline: int = 3) -> bytes:
    spool = EntrySpool()
    spool.add("base/5/16384", 8192, 1_700_000_000, 7)
    return b"".join(manifest_stream([spool], [WalRange(timeline, begin, END)], 42)[1])


def tar(**files: bytes) -> bytes:
    pieces: list[bytes] = []
    for name, data in files.items():
        pieces += [member_header(Member(name, size=len(data))), data, padding(len(data))]
    return b"".join([*pieces, end_of_archive(sum(map(len, pieces)))])


def complete(**fields: object) -> BackupInfo:
    info = BackupInfo(ID, status="DONE", systemid="42", version=180001, timeline=3, begin_xlog="0/2000028")
    return replace(info, **fields)  # type: ignore[arg-type]


@pytest.fixture
def catalog() -> Catalog:
    catalog = memory_catalog("main")
    catalog.save(complete())
    catalog.store.put(catalog.layout.archive(ID, "data"), tar(PG_VERSION=b"18\n"))
    return catalog


def put_manifest(catalog: Catalog, data: bytes) -> None:
    catalog.store.put(catalog.layout.manifest(ID), data)


def find(catalog: Catalog) -> Parent:
    return find_parent(catalog, ID, "42", 180006)


def test_a_complete_backup_with_its_manifest(catalog: Catalog) -> None:
    put_manifest(catalog, manifest())
    parent = find(catalog)
    assert (parent.info.backup_id, parent.timeline, parent.begin, parent.end) == (ID, 3, BEGIN, END)
    assert b"".join(parent.manifest) == manifest()


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_without_the_object_its_last_archive_has_the_manifest(catalog: Catalog, compression: str | None) -> None:
    suffix = ".zst" if compression else ""
    data = b"".join(map(bytes, compress_stream([tar(a=b"a", backup_manifest=manifest())], compression, None)))
    catalog.store.put(catalog.layout.archive(ID, "data", 1, suffix), data)
    assert b"".join(find(catalog).manifest) == manifest()


def test_a_manifest_that_is_nowhere_may_be_on_the_host_of_a_barman_server(catalog: Catalog) -> None:
    with pytest.raises(OperationError, match="no backup_manifest beside its archives or in the last one") as raised:
        load_manifest(catalog, complete())
    assert f"meta/{ID}-backup_manifest" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"systemid": "43"}, "it is of cluster 43, this server of cluster 42"),
        ({"version": 170004}, "it is of PostgreSQL 17, this server 18"),
        ({"begin_xlog": None}, "doesn't tell where it began"),
        ({"begin_xlog": "0/3000028"}, "the manifest in its folder is of another backup"),
        ({"timeline": 4}, "the manifest in its folder is of another backup"),
        ({"snapshots_info": SnapshotsInfo("gcp", {"project": "p"}, ())}, "it is a disk snapshot"),
    ],
)
def test_what_is_no_parent(catalog: Catalog, fields: dict[str, object], words: str) -> None:
    put_manifest(catalog, manifest())
    catalog.save(complete(**fields))
    with pytest.raises((OperationError, IntegrityError), match=words) as raised:
        find(catalog)
    assert raised.value.hint


@pytest.mark.parametrize("damage", [b"", manifest()[:-40], manifest().replace(b"16384", b"16385")])
def test_a_damaged_manifest_is_named(catalog: Catalog, damage: bytes) -> None:
    put_manifest(catalog, damage)
    with pytest.raises(IntegrityError, match="backup_manifest fails its own checksum"):
        find(catalog)


def raiser(error: Exception) -> Parent:
    raise error


def test_a_full_backup_instead_is_taken_only_where_it_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    refusal = OperationError("no way", hint="do this")
    with pytest.raises(OperationError, match="no way") as raised:
        choose(lambda: raiser(refusal), IncrementRequest("last"))
    assert raised.value.hint == "do this; --fallback-full takes a full backup instead"
    assert choose(lambda: raiser(refusal), IncrementRequest("last", fallback_full=True)) is None
    assert "a full backup is taken instead of an incremental one: no way" in caplog.text
    with pytest.raises(ConnectivityError):
        choose(lambda: raiser(ConnectivityError("down")), IncrementRequest("last", fallback_full=True))


def parent(timeline: int = 1, begin: int = 100, end: int = 150) -> Parent:
    return Parent(BackupInfo(ID), ManifestSpool(), timeline, begin, end)


@pytest.mark.parametrize(
    ("of", "timeline", "lsn", "history", "way"),
    [
        (parent(), 1, 300, (), [Summary(1, 100, 300)]),
        (
            parent(),
            3,
            300,
            (Switch(1, 200), Switch(2, 250)),
            [Summary(1, 100, 200), Summary(2, 200, 250), Summary(3, 250, 300)],
        ),
        (parent(2), 3, 300, (Switch(1, 50), Switch(2, 250)), [Summary(2, 100, 250), Summary(3, 250, 300)]),
        (parent(), 2, 200, (Switch(1, 200),), [Summary(1, 100, 200)]),
        (parent(), 3, None, (Switch(1, 200), Switch(2, 200)), [Summary(1, 100, 200)]),
    ],
)
def test_the_way_from_the_parent(
    of: Parent, timeline: int, lsn: int | None, history: tuple[Switch, ...], way: list[Summary]
) -> None:
    assert way_from(of, timeline, lsn, history) == way


@pytest.mark.parametrize(
    ("of", "timeline", "lsn", "history", "words"),
    [
        (parent(2), 1, 300, (), "of timeline 2, from which timeline 1 of this server doesn't come"),
        (parent(2), 3, 300, (Switch(1, 200),), "from which timeline 3 of this server doesn't come"),
        (parent(), 2, 300, (Switch(1, 140),), "it ended at 0/96, after this server had left timeline 1 at 0/8C"),
        (parent(), 1, 149, (), "it ended at 0/96, and this backup begins at 0/95 already"),
    ],
)
def test_a_parent_that_is_not_in_the_servers_past(
    of: Parent, timeline: int, lsn: int | None, history: tuple[Switch, ...], words: str
) -> None:
    with pytest.raises(OperationError, match=words) as raised:
        way_from(of, timeline, lsn, history)
    assert raised.value.hint
