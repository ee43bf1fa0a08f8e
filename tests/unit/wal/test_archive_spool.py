from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.wal import archive_spool, spool
from barman_cloud.wal.wal_file import WalFile
from tests.support.segments import Cluster, segment
from tests.support.spools import opened

KEY = ("", "s3://bucket", "", "", "main")


@pytest.fixture
def archived(cluster: Cluster, spool_dir: Path) -> Path:
    """A segment that an earlier call of the command line below has archived."""
    path = cluster.add(3)
    directory = spool.prepare(str(spool_dir), "archive", KEY)
    command = spool.command_of(_command(spool_dir, path), variable=1)
    assert command is not None
    spool.remember_command(directory, command[0])
    archive_spool.record(directory, path.name, _identity(path))
    return path


def _identity(path: Path) -> str:
    with WalFile(str(path)) as file:
        return archive_spool.identity(file.status, archive_spool.checksum(path.read_bytes()))


def _command(spool_dir: Path, path: Path, *options: str) -> list[str]:
    return [*options, "--parallel", "4", "--spool-dir", str(spool_dir), "s3://bucket", "main", str(path)]


def test_what_was_archived_is_answered(archived: Path, spool_dir: Path) -> None:
    assert archive_spool.answer(_command(spool_dir, archived), Deadline())
    assert archive_spool.answer(_command(spool_dir, archived), Deadline()), "an answer changes nothing"


@pytest.mark.parametrize("option", ["--gzip", "-t", "-v", "--endpoint-url=http://elsewhere"])
def test_another_command_line_is_not_answered(archived: Path, spool_dir: Path, option: str) -> None:
    assert not archive_spool.answer(_command(spool_dir, archived, option), Deadline())


def test_another_store_by_environment_is_not_answered(
    archived: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


def test_a_barman_hook_is_not_answered(archived: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMAN_HOOK", "archive_script")
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


def test_another_file_is_not_answered(archived: Path, spool_dir: Path, cluster: Cluster) -> None:
    assert not archive_spool.answer(_command(spool_dir, cluster.add(4)), Deadline())
    assert not archive_spool.answer(_command(spool_dir, cluster.wal / "000000010000000000000063"), Deadline())


def test_changed_content_is_not_answered(archived: Path, spool_dir: Path) -> None:
    archived.write_bytes(segment(3, content=1))
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


def test_content_that_changed_behind_the_back_of_the_times_is_not_answered(
    archived: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.stat(archived)
    archived.write_bytes(segment(3, content=1))
    monkeypatch.setattr(os, "fstat", lambda _: before)
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


def test_a_copy_in_place_of_the_file_is_not_answered(archived: Path, spool_dir: Path) -> None:
    copy = archived.with_suffix(".copy")
    copy.write_bytes(archived.read_bytes())
    copy.rename(archived)
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_an_old_answer_or_one_from_the_future_is_none(archived: Path, spool_dir: Path, seconds: float) -> None:
    (entry,) = spool_dir.glob(f"archive-*/{archived.name}")
    os.utime(entry, (time.time() + seconds,) * 2)
    assert not archive_spool.answer(_command(spool_dir, archived), Deadline())


def test_a_torn_entry_counts_for_nothing(archived: Path, spool_dir: Path) -> None:
    (entry,) = spool_dir.glob(f"archive-*/{archived.name}")
    whole = entry.read_text()
    for length in range(len(whole)):
        entry.write_text(whole[:length])
        assert not archive_spool.holds(opened(entry.parent), str(archived), Deadline())
    entry.write_text(whole)
    assert archive_spool.holds(opened(entry.parent), str(archived), Deadline())


def test_an_answer_is_announced_to_the_background_process(archived: Path, spool_dir: Path) -> None:
    (directory,) = spool_dir.glob("archive-*")
    os.mkfifo(directory / "requests")
    fifo = os.open(directory / "requests", os.O_RDWR | os.O_NONBLOCK)
    try:
        assert archive_spool.answer(_command(spool_dir, archived), Deadline())
        assert os.read(fifo, 1000).decode() == f"{archived}\n"
    finally:
        os.close(fifo)


@pytest.mark.parametrize("length", [0, 1, 5, (1 << 20) - 1, (1 << 20) + 1, 3 << 20])
def test_the_checksum_is_that_of_zlib(tmp_path: Path, length: int) -> None:
    import zlib

    data = os.urandom(length)
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb") as file:
        assert archive_spool._checksum_of(file.fileno()) == zlib.crc32(data) == archive_spool.checksum(data)
