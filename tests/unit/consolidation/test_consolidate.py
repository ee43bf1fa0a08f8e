"""Full backups made out of chains: the same as a restore of the chain, whatever fits into memory, or nothing at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barman_cloud.archive.archives_json import parse as parse_archives
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.backup.archive_backup import BackupOptions
from barman_cloud.backup.lifecycle import BackupRequest
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.consolidation import consolidate as consolidation
from barman_cloud.consolidation import held_blocks
from barman_cloud.consolidation.consolidate import ConsolidationOptions, consolidate
from barman_cloud.errors import BarmanCloudError, ConnectivityError, NotFoundError, OperationError
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.store.base import Buffer, StoreURL
from barman_cloud.verify.stored_backup import verify_backup
from tests.support.memory_store import MemoryStore
from tests.unit.incremental.test_visibility import marked, page
from tests.unit.restore.chains import PART, REL, HandMadeChain, block, chain_with_maps, changed, three


def options(
    memory: int = 1 << 30, tags: dict[str, str] | None = None, name: str | None = None, compression: str | None = "zstd"
) -> ConsolidationOptions:
    request = BackupRequest(backup_name=name, tags=tags)
    return ConsolidationOptions(BackupOptions(request, compression=compression), memory)


def restored(chain: HandMadeChain, info: BackupInfo, target: Path) -> dict[str, tuple[bytes, int, float]]:
    """What a restore makes: content, mode and time of each file, of PGDATA and the tablespace in it."""
    restore_backup(chain.store, chain.layout, info, target, {"fast": str(target / "space")}, 2)
    found = {}
    for path in sorted(target.rglob("*")):
        if not path.is_symlink():
            status = path.stat()
            content = path.read_bytes() if path.is_file() else b"directory"
            found[str(path.relative_to(target))] = (content, status.st_mode, status.st_mtime if path.is_file() else 0)
    return found


def check_same(chain: HandMadeChain, new: BackupInfo, directory: Path) -> None:
    """Compare the consolidated backup with a restore of its chain, and verify it."""
    ours, theirs = restored(chain, new, directory / "ours"), restored(chain, chain.newest, directory / "theirs")
    (mine, *_), (expected, *_) = ours.pop("backup_manifest"), theirs.pop("backup_manifest")
    assert ours == theirs
    assert listed(mine) == listed(expected)
    verdict = verify_backup(chain.catalog, new, 2, quick=False)
    assert not verdict.broken, verdict.findings


def listed(manifest: bytes) -> tuple[object, ...]:
    reader = ManifestReader(iter([manifest]))
    files = sorted((entry.path, entry.size, entry.last_modified, entry.checksum) for entry in reader)
    return files, reader.wal_ranges, reader.system_identifier, reader.version


def random_chain(seed: int) -> HandMadeChain:
    """A chain of five in which relations grow, are cut, vanish, come back, and are whole or changed blocks."""
    dice = random.Random(seed)
    chain = HandMadeChain()
    lengths: dict[str, int] = {}
    for number in range(5):
        files, spaces = {}, {}
        for relation in range(1, 9):
            folder, where = ("PG_18_1/5", spaces) if relation > 6 else ("base/5", files)
            name = f"{folder}/{relation}"
            if dice.random() < 0.1:
                lengths.pop(name, None)
                continue
            length = dice.randrange(0, 30)
            if name not in lengths or dice.random() < 0.15:
                where[name] = b"".join(block(dice.randrange(256)) for _ in range(length))
            else:
                truncation = min(dice.randrange(0, 40), length)
                blocks = sorted({*dice.sample(range(length), dice.randrange(length + 1)), *range(truncation, length)})
                truncation = truncation if dice.random() < 0.5 else min(length, lengths[name])
                part = changed({b: block(dice.randrange(256)) for b in blocks}, truncation)
                where[f"{folder}/INCREMENTAL.{relation}"] = part
            lengths[name] = length
        files[f"base/5/{number}_config"] = b"whole"
        chain.add(files, spaces)
    return chain


@pytest.fixture(params=[False, True], ids=["in memory", "in several passes"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit: everything fits, or six blocks."""
    monkeypatch.setattr(held_blocks, "LEAST_LIMIT", 0)
    return 6 * held_blocks.HELD_BLOCK if request.param else 1 << 30


def test_it_is_what_a_restore_of_the_chain_makes(tmp_path: Path, memory: int) -> None:
    chain = three()
    before = {item.key: item.etag for item in chain.store.list("")}
    new = consolidate(chain.catalog, chain.newest, options(memory, {"a": "b"}, "whole"))
    check_same(chain, new, tmp_path)
    assert new.backup_id == "20261122T121104"  # the next second after the newest of the chain
    assert new == chain.catalog.load_one(new.backup_id)
    source = chain.newest
    label = (source.backup_label or "").partition("INCREMENTAL")[0]
    expected = replace(
        source, backup_id=new.backup_id, backup_name="whole", parent_backup_id=None, backup_label=label,
        size=new.size, deduplicated_size=new.size, copy_stats=new.copy_stats,
    )  # fmt: skip
    assert new == expected
    records = parse_archives(chain.store.get(chain.layout.archives_json(new.backup_id)).decode())
    assert new.size == sum(record.size for record in records)
    assert {record.compression for record in records} == {"zstd"}
    after = {item.key: item.etag for item in chain.store.list("")}
    folder = chain.layout.backup_dir(new.backup_id)
    assert {key: etag for key, etag in after.items() if not key.startswith(folder)} == before
    assert isinstance(chain.store, MemoryStore)
    assert all(chain.store.tags(key) == {"a": "b"} for key in after if key.startswith(folder))


@pytest.mark.parametrize("version", [170010, 170011])
def test_maps_that_increments_did_not_follow_lose_the_marks_of_what_changed(
    tmp_path: Path, memory: int, version: int
) -> None:
    chain = chain_with_maps(version)
    new = consolidate(chain.catalog, chain.newest, options(memory))
    made = restored(chain, new, tmp_path / "ours")["base/5/16400_vm"][0]
    assert marked(page(0xFF, 0)) - marked(made) == ({1, 5} if version == 170010 else set())
    verdict = verify_backup(chain.catalog, new, 2, quick=False)
    assert not verdict.broken, verdict.findings


@pytest.mark.parametrize("seed", range(6))
def test_random_chains(tmp_path: Path, memory: int, seed: int) -> None:
    chain = random_chain(seed)
    new = consolidate(chain.catalog, chain.newest, options(memory, compression=None))
    check_same(chain, new, tmp_path)


def test_increments_are_read_once_if_their_blocks_fit_and_else_in_groups(memory: int) -> None:
    chain = HandMadeChain()
    chain.add({REL: block(1) * 40})
    chain.add({PART: changed({number: block(number) for number in range(20)}, 40)})
    reads: list[str] = []

    class Counting(MemoryStore):
        def read(self, key: str, **more: object) -> Iterator[Buffer]:  # type: ignore[override]
            reads.append(key)
            return super().read(key, **more)  # type: ignore[arg-type]

    store = Counting(chain.store.url, chain.bucket.store._bucket)  # type: ignore[attr-defined]
    consolidate(type(chain.catalog)(store, chain.layout), chain.newest, options(memory))
    increment = chain.layout.archive(chain.infos[1].backup_id, "data", 0, ".lz4")
    full = chain.layout.archive(chain.infos[0].backup_id, "data", 0, ".lz4")
    # Once for the changed blocks, once for the files that it has whole; and for each further group of six blocks of 20.
    passes = 1 if memory > 1 << 20 else 1 + 4
    assert reads.count(increment) == 1 + passes
    assert reads.count(full) == (1 if passes == 1 else 2)


def test_a_second_one_gets_the_next_free_id_and_takes_what_the_first_one_made_for_a_parent(tmp_path: Path) -> None:
    chain = three()
    first = consolidate(chain.catalog, chain.newest, options())
    second = consolidate(chain.catalog, chain.newest, options())
    assert (first.backup_id, second.backup_id) == ("20261122T121104", "20261122T121105")
    with pytest.raises(OperationError, match="is a full backup already"):
        consolidate(chain.catalog, first, options())


def test_a_member_in_the_middle_of_the_chain(tmp_path: Path) -> None:
    chain = three()
    middle = chain.catalog.load_one(chain.infos[1].backup_id)
    new = consolidate(chain.catalog, middle, options())
    assert new.backup_id == "20261122T121104"  # :03 is taken by the next member
    assert restored(chain, new, tmp_path / "a")["base/5/1"][0] == block(8)
    assert restored(chain, new, tmp_path / "b")[REL][0] == restored(chain, middle, tmp_path / "c")[REL][0]


def damage(chain: HandMadeChain, number: int, key: Callable[[str], str], change: Callable[[bytes], bytes]) -> None:
    name = key(chain.infos[number].backup_id)
    chain.store.put(name, change(chain.store.get(name)))


def test_a_chain_that_cannot_be_restored_leaves_nothing() -> None:
    chain = three()
    before = [item.key for item in chain.store.list("")]
    chain.store.delete([chain.layout.manifest(chain.infos[1].backup_id)])
    with pytest.raises(OperationError, match="has no backup_manifest"):
        consolidate(chain.catalog, chain.newest, options())
    damage(chain, 0, chain.layout.manifest, lambda data: data.replace(b"16400", b"16401"))
    with pytest.raises(BarmanCloudError):
        consolidate(chain.catalog, chain.newest, options())
    chain.store.delete([chain.layout.backup_info(chain.infos[0].backup_id)])
    with pytest.raises(OperationError, match="doesn't exist"):
        consolidate(chain.catalog, chain.newest, options())
    assert {item.key for item in chain.store.list("")} <= set(before)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({PART: changed({0: block(1)}, 6)}, "isn't what its manifest says"),
        ({}, r"hold 0 of the 1 files of changed blocks"),
        ({PART: changed({0: block(7)}, 6), "base/5/1": block(9)}, "isn't what its manifest says"),
        ({PART: changed({0: block(7)}, 6), "base/5/other": b""}, "base/5/1 is missing"),
    ],
)
def test_a_chain_whose_archives_differ_from_their_manifests(files: dict[str, bytes], words: str, memory: int) -> None:
    chain = HandMadeChain()
    chain.add({REL: block(1) * 8, "base/5/1": block(9)})
    chain.add({PART: changed({0: block(7)}, 6), "base/5/1": block(8)})
    key = chain.layout.manifest(chain.infos[1].backup_id)
    manifest = chain.store.get(key)
    other = HandMadeChain()
    other.add({})
    other.add({"base/5/1": block(8), **files} if words != "base/5/1 is missing" else files)
    source = other.layout.archive(other.infos[1].backup_id, "data", 0, ".lz4")
    chain.store.put(source, other.store.get(source))
    chain.store.put(key, manifest)
    with pytest.raises(OperationError, match=words):
        consolidate(chain.catalog, chain.newest, options(memory))
    failed = chain.catalog.load_one("20261122T121103")
    assert (failed.status, failed.end_time, failed.parent_backup_id) == ("FAILED", None, None)
    assert "consolidating" in (failed.error or "")


class Failing(MemoryStore):
    """Lets one call of the kind that a test is about fail."""

    def __init__(self, url: StoreURL, bucket: object, fails: int) -> None:
        super().__init__(url, bucket)  # type: ignore[arg-type]
        self.left = fails

    def _request(self, kind: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise ConnectivityError("the store is gone")
        super()._request(kind)


def test_whatever_request_fails_there_is_a_whole_backup_or_none_that_counts(tmp_path: Path) -> None:
    outcomes = set()
    for number in range(1, 200):
        chain = three()
        store = Failing(chain.store.url, chain.bucket.store._bucket, number)  # type: ignore[attr-defined]
        done = False
        try:
            consolidate(type(chain.catalog)(store, chain.layout), chain.newest, options())
            done = True
        except BarmanCloudError:
            pass
        store.left = 0
        try:
            found: str | None = chain.catalog.load_one("20261122T121104").status
        except NotFoundError:
            found = None
        assert found == "DONE" if done else found in (None, "FAILED", "STARTED"), number
        if found == "DONE":
            assert not verify_backup(chain.catalog, chain.catalog.load_one("20261122T121104"), 1, quick=False).broken
        outcomes.add(found)
        if done:
            break
    assert outcomes == {None, "FAILED", "STARTED", "DONE"}


def test_a_deletion_of_the_new_backup_meanwhile_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = three()
    whole = consolidation._Consolidation.copy

    def copy(self: consolidation._Consolidation) -> None:
        whole(self)
        chain.store.delete([chain.layout.backup_info("20261122T121104")])

    monkeypatch.setattr(consolidation._Consolidation, "copy", copy)
    with pytest.raises(OperationError, match="deleted or replaced"):
        consolidate(chain.catalog, chain.newest, options())


def test_configuration_beside_a_streamed_backup_is_copied() -> None:
    chain = three()
    chain.store.put(chain.layout.configuration(chain.infos[-1].backup_id), b"tar")
    new = consolidate(chain.catalog, chain.newest, options())
    assert chain.store.get(chain.layout.configuration(new.backup_id)) == b"tar"
