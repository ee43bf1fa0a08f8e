"""Partial segments: PostgreSQL archives one when it is promoted, a receiver as far as it came, and they agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConflictError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from tests.support.receivers import stored_wal
from tests.support.segments import SIZE, segment, segment_name

NAME = f"{segment_name(3)}.partial"
FULL = segment(3)
GARBAGE = FULL[: SIZE // 2] + segment(3, content=9)[SIZE // 2 :]


def cut(length: int) -> bytes:
    return FULL[:length] + bytes(SIZE - length)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store")


def archive(store: ObjectStore, directory: Path, content: bytes, compression: str | None = None) -> None:
    path = directory / NAME
    path.write_bytes(content)
    Archiver(store, Layout("", "main"), ArchiveOptions(compression)).archive(str(path))


@pytest.mark.parametrize("compressions", [(None, None), ("gzip", "gzip"), ("gzip", None), (None, "zstd")])
@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        (cut(100_000), cut(300_001), cut(300_001)),
        (cut(300_001), cut(100_000), cut(300_001)),
        (cut(300_001), cut(300_001), cut(300_001)),
        (cut(300_001), GARBAGE, GARBAGE),
        (GARBAGE, cut(300_001), GARBAGE),
    ],
    ids=["longer", "shorter", "equal", "of-postgresql-later", "of-postgresql-before"],
)
def test_the_copy_that_goes_farthest_stays_alone(
    store: ObjectStore, tmp_path: Path, first: bytes, second: bytes, stays: bytes,
    compressions: tuple[str | None, str | None],
) -> None:  # fmt: skip
    archive(store, tmp_path, first, compressions[0])
    archive(store, tmp_path, second, compressions[1])
    assert stored_wal(store) == {NAME: stays}
    assert len(list(store.list("main/wals/"))) == 1


def test_copies_that_disagree_are_refused(store: ObjectStore, tmp_path: Path) -> None:
    archive(store, tmp_path, cut(300_001))
    other = bytearray(cut(300_001))
    other[100_000] ^= 1
    with pytest.raises(ConflictError, match="differs from what is archived"):
        archive(store, tmp_path, bytes(other))
    assert stored_wal(store) == {NAME: cut(300_001)}
