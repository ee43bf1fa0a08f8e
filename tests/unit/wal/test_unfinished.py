"""Of a segment that isn't complete there are pieces, which ``wal-restore`` puts together."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.archive.compression import compress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError, NotFoundError
from barman_cloud.wal.restorer import Restorer, wal_name
from tests.support.memory_store import MemoryStore
from tests.support.segments import SIZE, segment, segment_name

NAME = segment_name(3)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "RECOVERYXLOG"


@pytest.fixture
def restorer(store: MemoryStore, layout: Layout) -> Restorer:
    return Restorer(store, layout)


CONTENT = segment(3)


def pieces(store: MemoryStore, layout: Layout, *spans: tuple[int, int]) -> None:
    for begin, end in spans:
        store.put(layout.piece(NAME, begin, end, 1), CONTENT[begin:end])


def padded(end: int) -> bytes:
    return CONTENT[:end] + bytes(SIZE - end)


def test_they_are_put_together_up_to_the_first_gap(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path
) -> None:
    pieces(store, layout, (0, 9000), (9000, 9100), (9050, 70_000), (70_001, 80_000))
    restorer.restore(wal_name(NAME), str(destination))
    assert destination.read_bytes() == padded(70_000)


def test_the_full_segment_wins(store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path) -> None:
    pieces(store, layout, (0, 9000))
    store.put(layout.wal(NAME, ".gz"), compress_bytes(CONTENT, "gzip"))
    store.requests.counts.clear()
    restorer.restore(wal_name(NAME), str(destination))
    assert destination.read_bytes() == CONTENT
    assert store.requests.counts == {"list": 1, "get": 1}


@pytest.mark.parametrize(("partial", "expected"), [(8000, 9000), (20_000, 20_000)])
def test_what_goes_farther_wins_over_a_partial_copy(
    store: MemoryStore,
    layout: Layout,
    restorer: Restorer,
    destination: Path,
    partial: int,
    expected: int,
) -> None:
    pieces(store, layout, (0, 9000))
    store.put(layout.wal(f"{NAME}.partial"), padded(partial))
    restorer.restore(wal_name(NAME), str(destination))
    assert destination.read_bytes() == padded(expected)


def test_without_partial_segments_there_are_none(store: MemoryStore, layout: Layout, destination: Path) -> None:
    pieces(store, layout, (0, 9000))
    with pytest.raises(NotFoundError):
        Restorer(store, layout, partial=False).restore(wal_name(NAME), str(destination))


def test_pieces_that_are_merged_meanwhile_are_looked_for_again(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces(store, layout, (0, 5000), (5000, 9000))
    get = store.get_buffer

    def merging(key: str, *, limit: int | None = None) -> object:
        if key == layout.piece(NAME, 5000, 9000, 1):
            pieces(store, layout, (0, 9000))
            store.delete([key, layout.piece(NAME, 0, 5000, 1)])
        return get(key, limit=limit)

    monkeypatch.setattr(store, "get_buffer", merging)
    restorer.restore(wal_name(NAME), str(destination))
    assert destination.read_bytes() == padded(9000)


def test_pieces_of_another_segment_or_size_are_refused(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path
) -> None:
    store.put(layout.piece(NAME, 0, 9000, 1), segment(4)[:9000])
    with pytest.raises(IntegrityError, match="holds another segment"):
        restorer.restore(wal_name(NAME), str(destination))
    store.put(layout.piece(NAME, 0, 9000, 1), CONTENT[:8999])
    with pytest.raises(IntegrityError, match="8999 bytes, its name says 9000"):
        restorer.restore(wal_name(NAME), str(destination))
    assert not destination.exists()
