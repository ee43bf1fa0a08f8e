"""Restoring chains of incremental backups made by hand: the result, and what is refused before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.errors import BarmanCloudError, IntegrityError, OperationError
from barman_cloud.incremental.file_format import BLOCK
from barman_cloud.postgres.page_checksum import bad_pages
from barman_cloud.restore import merge
from barman_cloud.restore.archive_restore import RestoreReport, restore_backup
from barman_cloud.restore.dry_run import describe_restore
from barman_cloud.restore.layer import is_of_changed_blocks, without_parent
from barman_cloud.restore.overlay import overlay
from barman_cloud.store.open import open_store
from tests.faults.test_restore_kills import killed_at, snapshot
from tests.unit.incremental.test_visibility import marked, page
from tests.unit.restore.backups import member
from tests.unit.restore.chains import EXPECTED, PART, REL, SYSTEM, HandMadeChain, block, chain_with_maps, changed, three
from tests.unit.restore.test_delta import control_file


@pytest.fixture(autouse=True, params=["put together", "in place"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Chains that fit into memory are put together while they are written, others in place."""
    if request.param == "in place":
        monkeypatch.setattr(merge, "LIMIT", 0)
    return str(request.param)


def restore(chain: HandMadeChain, target: Path, **options: bool) -> RestoreReport:
    rules = {"fast": str(target / "space")}
    return restore_backup(chain.store, chain.layout, chain.newest, target, rules, 2, **options)


def relations(target: Path) -> dict[str, bytes]:
    folders = (target / "base/5", target / "space/PG_18_1/5")
    return {str(path.relative_to(target)): path.read_bytes() for folder in folders for path in folder.iterdir()}


def refused(chain: HandMadeChain, target: Path, words: str, kind: type[BarmanCloudError]) -> None:
    for run in (
        restore,
        lambda chain, target: describe_restore(chain.store, chain.layout, chain.newest, target, {}, 1),
    ):
        with pytest.raises(kind, match=words):
            run(chain, target)
        assert not target.exists() or not list(target.iterdir())


@pytest.mark.parametrize("version", [170010, 170011])
def test_maps_that_increments_did_not_follow_lose_the_marks_of_what_changed(
    tmp_path: Path, way: str, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    chain = chain_with_maps(version)
    restore(chain, tmp_path / "data")
    every = marked(page(0xFF, 0))
    missing = set() if version == 170011 else {1, 5} if way == "put together" else every
    made = (tmp_path / "data/base/5/16400_vm").read_bytes()
    assert every - marked(made) == missing
    assert bad_pages(made, [range(1)]) == []
    assert (tmp_path / "data/base/5/16401_vm").read_bytes() == page(0xFF, 0)
    assert ("taken out of the maps" in caplog.text) is (version == 170010)
    (listed,) = [
        entry
        for entry in ManifestReader(iter([(tmp_path / "data/backup_manifest").read_bytes()]))
        if entry.path == "base/5/16400_vm"
    ]
    assert listed.crc == crc32c(made)


def test_the_newest_backup_is_made_out_of_the_chain(tmp_path: Path) -> None:
    target = tmp_path / "data"
    report = restore(three(), target)
    assert relations(target) == EXPECTED
    assert report.verified == 7
    assert b"INCREMENTAL" not in (target / "backup_label").read_bytes()
    assert (target / "global/pg_control").read_bytes() == b"control 3"
    reader = ManifestReader(iter([(target / "backup_manifest").read_bytes()]))
    listed = {entry.path: entry.size for entry in reader}
    assert listed == {
        path: (target / path).stat().st_size
        for path in ("PG_VERSION", "backup_label", "global/pg_control", REL, "base/5/1", "base/5/3")
    } | {"pg_tblspc/16384/PG_18_1/5/2": 3 * BLOCK}
    assert (reader.version, reader.system_identifier) == (2, 77)
    assert [found.start_lsn for found in reader.wal_ranges] == [0x3000028]
    assert (target / "base").stat().st_mode & 0o777 == 0o750


def test_a_backup_in_the_middle_of_the_chain_can_be_restored(tmp_path: Path) -> None:
    chain = three()
    chain.infos.pop()
    restore(chain, tmp_path / "data")
    assert relations(tmp_path / "data") == EXPECTED | {
        REL: block(1) + block(2) + block(1) * 2 + bytes(BLOCK) + block(3)
    }


def test_a_dry_run_tells_what_is_read(tmp_path: Path) -> None:
    chain = three()
    lines = describe_restore(chain.store, chain.layout, chain.newest, tmp_path / "data", {}, 1)
    assert [line.split(":")[0] for line in lines if "1211" in line][1:] == [
        "  full backup       20261122T121101", "  increment         20261122T121102",
        "  increment         20261122T121103",
    ]  # fmt: skip
    assert lines[-1].startswith("  fetched           6 archives")
    assert not (tmp_path / "data").exists()


def test_a_label_that_is_archived_twice_is_no_damage(tmp_path: Path) -> None:
    """So Barman's server does it."""
    chain = three()
    newest = chain.infos[-1]
    manifest = chain.store.get(chain.layout.manifest(newest.backup_id))
    label = member("backup_label", (newest.backup_label or "").encode())
    others = [member("PG_VERSION", b"18\n"), member(PART, changed({0: block(7)}, 6)), member("base/5/1", block(8)),
              member("base/5/INCREMENTAL.3", changed({}, 2)), member("global/pg_control", b"control 3")]  # fmt: skip
    chain.put(newest, {"data": [label, *others, label]})
    chain.store.put(chain.layout.manifest(newest.backup_id), manifest)
    restore(chain, tmp_path / "data")
    assert relations(tmp_path / "data") == EXPECTED
    assert b"INCREMENTAL" not in (tmp_path / "data/backup_label").read_bytes()


def test_a_backup_that_waits_for_its_wal_can_be_part_of_a_chain(tmp_path: Path) -> None:
    """So Barman's server calls one that is complete, until it has seen its WAL."""
    chain = three()
    for info in chain.infos:
        chain.catalog.save(replace(info, status="WAITING_FOR_WALS"))
    restore(chain, tmp_path / "data")
    assert relations(tmp_path / "data") == EXPECTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_new_manifest_belongs_to_the_owner_of_pgdata(tmp_path: Path) -> None:
    chain = three()
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12346)
    restore(chain, tmp_path / "data")
    status = (tmp_path / "data/backup_manifest").stat()
    assert (status.st_uid, status.st_gid) == (12345, 12346)


def lose_parent(chain: HandMadeChain) -> None:
    chain.store.delete([chain.layout.backup_info(chain.infos[0].backup_id)])


def fail_parent(chain: HandMadeChain) -> None:
    chain.catalog.save(replace(chain.infos[1], status="FAILED"))


def strange_parent(chain: HandMadeChain) -> None:
    chain.catalog.save(replace(chain.infos[0], systemid="78"))


def later_parent(chain: HandMadeChain) -> None:
    chain.catalog.save(replace(chain.infos[1], begin_xlog="0/2500028"))


def circle(chain: HandMadeChain) -> None:
    first, newest = chain.infos[0], chain.infos[-1]
    chain.catalog.save(replace(first, parent_backup_id=newest.backup_id, backup_label=None))


def unreadable_parent(chain: HandMadeChain) -> None:
    chain.store.put(chain.layout.backup_info(chain.infos[0].backup_id), b"\xff\x00")


def no_archive(chain: HandMadeChain) -> None:
    chain.store.delete([chain.layout.archive(chain.infos[0].backup_id, "data", 0, ".lz4")])


def no_manifest(chain: HandMadeChain) -> None:
    chain.store.delete([chain.layout.manifest(chain.infos[0].backup_id)])


def no_parent_named(chain: HandMadeChain) -> None:
    chain.catalog.save(replace(chain.infos[-1], parent_backup_id=None))


def failed_itself(chain: HandMadeChain) -> None:
    chain.catalog.save(replace(chain.infos[-1], status="FAILED"))


@pytest.mark.parametrize(
    ("damage", "words", "kind"),
    [
        (lose_parent, "20261122T121101, on which backup 20261122T121102 builds, doesn't exist", OperationError),
        (fail_parent, "20261122T121102, on which .* is FAILED", OperationError),
        (strange_parent, "is of cluster 78, not of 77", OperationError),
        (
            later_parent,
            "holds what changed since 0/2000028, but 20261122T121102, .* began at 0/2500028",
            IntegrityError,
        ),
        (circle, "builds on itself", IntegrityError),
        (unreadable_parent, "20261122T121101", BarmanCloudError),
        (no_archive, "backup 20261122T121101 has no archive", OperationError),
        (no_manifest, "backup 20261122T121101 has no backup_manifest", OperationError),
        (no_parent_named, "is incremental, and its backup.info doesn't tell", OperationError),
        (failed_itself, "is incremental and FAILED", OperationError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_chain_is_refused_before_anything_is_written(
    tmp_path: Path, damage: Callable[[HandMadeChain], None], words: str, kind: type[BarmanCloudError]
) -> None:
    chain = three()
    damage(chain)
    refused(chain, tmp_path / "data", words, kind)


def test_changed_blocks_of_a_backup_that_names_no_parent_are_never_restored_as_files(tmp_path: Path) -> None:
    chain = HandMadeChain()
    chain.add({PART: changed({}, 1)})
    with pytest.raises(IntegrityError, match=r"holds changed blocks .*INCREMENTAL\.16400"):
        restore(chain, tmp_path / "data")


def lived_on(chain: HandMadeChain, target: Path) -> dict[str, tuple[object, ...]]:
    """Restore into ``target``, let something happen there, and return what was restored."""
    restore(chain, target)
    expected = snapshot(target)
    (target / "global/pg_control").write_bytes(control_file(int(SYSTEM)))
    (target / REL).write_bytes(block(1) * 9)
    (target / "base/5/2").write_bytes(b"a stranger")
    (target / "base/5/1").unlink()
    return expected


def test_delta_keeps_what_no_increment_has_changed(tmp_path: Path) -> None:
    chain = three()
    target = tmp_path / "data"
    expected = lived_on(chain, target)
    before = {path: (target / path).stat().st_ino for path in ("base/5/3", "PG_VERSION", REL)}
    told = describe_restore(chain.store, chain.layout, chain.newest, target, {}, 2, delta=True)
    with (target / REL).open("rb"):  # an open file's inode isn't given to another
        report = restore(chain, target, delta=True)
    assert snapshot(target) == expected
    assert report.comparison is not None
    # base/5/3 is an incremental file without blocks, PG_VERSION is whole; what has changed blocks is written.
    assert (report.comparison.kept_files, report.comparison.written_files) == (2, 5)
    assert report.comparison.removed == 1
    assert any(line.split() == ["kept", "2", "files,", "0.0", "MiB"] for line in told)
    after = {path: (target / path).stat().st_ino for path in before}
    assert {path: after[path] == before[path] for path in before} == {"base/5/3": True, "PG_VERSION": True, REL: False}


@pytest.mark.parametrize("before", [pytest.param(True, marks=pytest.mark.long), False], ids=["before", "after"])
def test_delta_that_is_killed_at_any_step_goes_on(tmp_path: Path, before: bool) -> None:
    (tmp_path / "store").mkdir()
    chain = three(open_store(f"file://{tmp_path / 'store'}"))
    expected: dict[str, tuple[object, ...]] = {}
    step = 0
    while True:
        step += 7 if step > 14 else 1
        target = tmp_path / str(step)
        expected = lived_on(chain, target)

        def work(target: Path = target) -> None:
            restore(chain, target, delta=True)

        if not killed_at(step, work, before=before):
            break
        if snapshot(target) != expected:  # nothing was changed yet, or it isn't complete
            work()
        assert snapshot(target) == expected, f"killed {'before' if before else 'after'} step {step}"
    assert step > 60
    assert snapshot(target) == expected


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ["damaged", "missing", "twice"])
def test_a_file_that_is_not_as_the_manifest_of_its_backup_says(tmp_path: Path, which: int, how: str) -> None:
    chain = three()
    info = chain.infos[which]
    path = PART if which else REL
    manifest = chain.store.get(chain.layout.manifest(info.backup_id))
    right = [block(1) * 8, changed({1: block(2), 5: block(3)}, 4), changed({0: block(7)}, 6)][which]
    wrong = right[:-1] + b"\x77"
    found = {"damaged": [wrong], "missing": [], "twice": [right, right]}[how]
    others = {"base/5/1": block(8), "base/5/3": block(4) * 2, "PG_VERSION": b"18\n", "global/pg_control": b"control 3",
              "backup_label": (info.backup_label or "").encode()}  # fmt: skip
    if which == 2:
        del others["base/5/3"]
        others["base/5/INCREMENTAL.3"] = changed({}, 2)
    chain.put(info, {"data": [member(name, data) for name, data in others.items()] + [member(path, d) for d in found]})
    chain.store.put(chain.layout.manifest(info.backup_id), manifest)
    with pytest.raises(IntegrityError, match=r"manifest says|files that are needed"):
        restore(chain, tmp_path / "data")
    assert not (tmp_path / "data/global/pg_control").exists()


@st.composite
def histories(draw: st.DrawFn) -> list[dict[int, bytes | None]]:
    """Contents of a file at several moments, by block; the next one keeps what it has no reason to change."""
    length = draw(st.integers(1, 6))
    now = {number: block(draw(st.integers(1, 9))) for number in range(length)}
    moments: list[dict[int, bytes | None]] = [dict(now)]
    for _ in range(draw(st.integers(1, 3))):
        limit = draw(st.integers(0, 7))
        change: dict[int, bytes | None] = {-1: bytes([limit])}
        change.update({n: block(draw(st.integers(10, 99))) for n in draw(st.sets(st.integers(0, 8)))})
        moments.append(change)
    return moments


@given(histories(), st.booleans())
def test_changed_blocks_in_place_give_the_file_of_the_obvious_model(
    tmp_path_factory: pytest.TempPathFactory, moments: list[dict[int, bytes | None]], again: bool
) -> None:
    full, *changes = moments
    model = {number: data or b"" for number, data in full.items()}
    path = tmp_path_factory.getbasetemp() / "relation"
    path.write_bytes(b"".join(model.values()))
    for change in changes:
        truncation = (change.pop(-1) or b"\0")[0]
        blocks = {number: data or b"" for number, data in sorted(change.items())}
        length = max([truncation, *(number + 1 for number in blocks)])
        model = {
            n: blocks.get(n, model.get(n, bytes(BLOCK)) if n < truncation else bytes(BLOCK)) for n in range(length)
        }
        stored = changed(blocks, truncation)
        fd = os.open(path, os.O_RDWR)
        for data in [stored[: len(stored) * 2 // 3]] * again:  # a run that was killed
            with pytest.raises(IntegrityError):
                overlay(fd, len(stored), iter([data]), "x")
        overlay(fd, len(stored), (stored[start : start + 5000] for start in range(0, len(stored), 5000)), "x")
        os.close(fd)
    assert path.read_bytes() == b"".join(model[number] for number in sorted(model))


def test_the_label_loses_its_parent_alone() -> None:
    assert without_parent(b"LABEL: x\nINCREMENTAL FROM LSN: 0/1\nINCREMENTAL FROM TLI: 1\n") == b"LABEL: x\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("base/5/INCREMENTAL.1", True),
        ("PG_18_1/5/INCREMENTAL.1_vm", True),
        ("INCREMENTAL.txt", False),
        ("base/5/1", False),
    ],
)
def test_only_relation_files_have_changed_blocks(path: str, expected: bool) -> None:
    assert is_of_changed_blocks(path) is expected
