"""Both ways of making a directory durable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barman_cloud.restore import durability


@pytest.mark.parametrize("whole_file_system", [True, False])
def test_sync_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_file_system: bool) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(durability, "_syncfs_reports_errors", lambda: whole_file_system)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    (tmp_path / "d" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    durability.sync_trees([tmp_path])
    expected = {str(tmp_path), str(tmp_path / "d"), str(tmp_path / "d" / "f")}
    assert set(synced) == (set() if whole_file_system else expected)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durability.sync_trees([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("release", "reliable"), [("5.7.19", False), ("5.8-rc1", True), ("6.18.4-x", True), ("odd", False)]
)
def test_syncfs_is_only_trusted_where_it_reports_errors(
    monkeypatch: pytest.MonkeyPatch, release: str, reliable: bool
) -> None:
    name = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((name[0], name[1], release, name[3], name[4])))
    durability._syncfs_reports_errors.cache_clear()
    try:
        assert durability._syncfs_reports_errors() is reliable
    finally:
        durability._syncfs_reports_errors.cache_clear()


def test_start_writeback_is_harmless(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(bytes(100_000))
        durability.start_writeback(file.fileno(), 0, 100_000)
