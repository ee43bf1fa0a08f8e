import os
from pathlib import Path

import pytest

from barman_cloud.backup import page_cache
from barman_cloud.backup.members import read_file

MIB = 1 << 20


def cached(path: Path) -> bytes | None:
    with path.open("rb") as file:
        return page_cache._cached_granules(file.fileno(), path.stat().st_size)


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file of 20 MiB that isn't in the page cache."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(20 * MIB))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = cached(path)
    if before is None or any(before):
        pytest.skip("this file system doesn't tell, or doesn't drop, what is cached")
    return path


def read(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(map(bytes, read_file(file.fileno(), path.stat().st_size)))


def test_what_was_not_cached_is_not_afterwards(cold: Path) -> None:
    assert len(read(cold)) == 20 * MIB
    assert not any(cached(cold) or b"")


def test_what_was_cached_stays(cold: Path) -> None:
    with cold.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in (0, 7 * MIB, 12 * MIB):
            os.pread(file.fileno(), MIB, offset)
    before = cached(cold)
    assert before is not None
    assert any(before)
    read(cold)
    assert cached(cold) == before


def test_an_unknown_state_is_left_alone(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_mincore", lambda: None)
    assert len(read(cold)) == 20 * MIB
