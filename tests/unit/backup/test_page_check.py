import os
from pathlib import Path

import pytest

from barman_cloud.archive.archives_json import DamagedFile
from barman_cloud.backup.page_check import PageChecks
from tests.unit.postgres.test_page_checksum import page

pytest.importorskip("numpy")

BEGIN, END = 0x2_0000_0000, 0x3_0000_0000
OLD, MEANWHILE, FUTURE = BEGIN - 8, BEGIN + 8, END + 8


class Cluster:
    """Files of a cluster, as a backup reads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checks = PageChecks(BEGIN, 8192, 131072)
        self.checker = self.checks.checker()

    def read(self, name: str, pages: list[bytes], *, now: list[bytes] | None = None, piece: int = 1 << 20) -> None:
        """Read a file of these pages; ``now`` is what it holds when it is read again (None: the same)."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(pages if now is None else now))
        take = self.checker.watch(name, str(path), name)
        assert take is not None
        data = b"".join(pages)
        for start in range(0, len(data), piece):
            take(data[start : start + piece])

    def conclude(self) -> tuple[int, int, tuple[DamagedFile, ...]]:
        self.checker.flush()
        found = self.checks.conclude(END)
        return found.pages, found.failed, found.files


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def damaged(block: int, lsn: int) -> bytes:
    return page(block, lsn=lsn)[:8000] + os.urandom(192)


@pytest.mark.parametrize("piece", [1 << 20, 8192, 1000, 20_000])
def test_every_page_of_every_file_is_checked(cluster: Cluster, piece: int) -> None:
    cluster.read("base/5/1", [page(number, lsn=OLD) for number in range(300)], piece=piece)
    cluster.read("base/5/2.2", [page(2 * 131072 + number, lsn=OLD) for number in range(300)], piece=piece)
    assert cluster.conclude() == (600, 0, ())


def test_damaged_pages_are_named_by_file_and_block(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    broken = {0, 4, 5, 6, 299}
    for name in ("base/5/1", "base/5/2"):
        pages = [damaged(number, OLD) if number in broken else page(number, lsn=OLD) for number in range(300)]
        cluster.read(name, pages)
    files = tuple(DamagedFile(name, ((0, 0), (4, 6), (299, 299))) for name in ("base/5/1", "base/5/2"))
    assert cluster.conclude() == (600, 10, files)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == (
        "10 pages of the cluster fail their checksum (file: blocks): base/5/1: 0, 4-6, 299; base/5/2: 0, 4-6, 299"
    )


def test_a_part_of_a_file_is_checked_by_its_place_in_it(cluster: Cluster) -> None:
    pages = [damaged(number, OLD) if number == 7 else page(number, lsn=OLD) for number in range(10)]
    path = cluster.root / "16384.1"
    path.write_bytes(b"".join(pages))
    take = cluster.checker.watch("base/5/16384", str(path), "base/5/16384", first=6)
    assert take is not None
    take(b"".join(pages[6:9]))
    assert cluster.conclude() == (3, 1, (DamagedFile("base/5/16384", ((7, 7),)),))


def test_a_page_that_is_whole_when_it_is_read_again_is_right(cluster: Cluster) -> None:
    cluster.read("base/5/1", [damaged(0, OLD)], now=[page(0, lsn=OLD)])
    assert cluster.conclude() == (1, 0, ())


def test_a_page_that_changed_since_the_begin_comes_from_the_wal(cluster: Cluster) -> None:
    cluster.read("base/5/1", [damaged(0, MEANWHILE), damaged(1, BEGIN)])
    assert cluster.conclude() == (2, 0, ())


def test_a_page_from_the_future_is_damaged(cluster: Cluster) -> None:
    cluster.read("base/5/1", [damaged(0, FUTURE)])
    assert cluster.conclude() == (1, 1, (DamagedFile("base/5/1", ((0, 0),)),))


@pytest.mark.parametrize("now", [[], [page(0, lsn=OLD)]])
def test_a_page_that_was_cut_off_meanwhile_is_not_missed(cluster: Cluster, now: list[bytes]) -> None:
    cluster.read("base/5/1", [page(0, lsn=OLD), damaged(1, OLD)], now=now)
    assert cluster.conclude() == (2, 0, ())


def test_a_file_that_vanished_meanwhile_is_not_missed(cluster: Cluster) -> None:
    cluster.read("base/5/1", [damaged(0, OLD)])
    (cluster.root / "base/5/1").unlink()
    assert cluster.conclude() == (1, 0, ())


def test_files_without_pages_are_left_alone(cluster: Cluster) -> None:
    assert cluster.checker.watch("PG_VERSION", "x", "./PG_VERSION") is None
