"""How much room is needed, and what is done when there is less."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.errors import OperationError
from barman_cloud.restore import room
from barman_cloud.restore.room import Room

GIB = 1 << 30


def file(path: str, size: int) -> ManifestFile:
    return ManifestFile(path, size, "", None, None)


def test_what_is_missing_counts_what_is_there_once() -> None:
    assert Room(Path("/x"), needed=10, present=3, free=5, compressing=False).short == 2
    assert Room(Path("/x"), needed=8, present=3, free=5, compressing=False).short == 0
    assert Room(Path("/x"), needed=1, present=30, free=0, compressing=False).short == 0


def test_files_take_whole_blocks() -> None:
    found = room.exact([file("a", 1), file("b", 4096), file("pg_tblspc/5/x", 4097), file("c", 0)], ["data", "5"])
    assert found == {"data": 8192, "5": 8192}


def test_only_what_is_free_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = SimpleNamespace(f_blocks=1000, f_bfree=100, f_bavail=50, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: status)
    (found,) = room.look(_plan(tmp_path), {"data": 0})
    assert found.free == (100 if os.geteuid() == 0 else 50) * 4096, "the reserve is root's"


@pytest.mark.parametrize("force", [False, True])
def test_a_restore_that_can_not_fit_is_refused_before_it_begins(
    tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "look", lambda _plan, _sizes: [Room(tmp_path, 10 * GIB, 0, GIB, False)])
    if not force:
        with pytest.raises(OperationError, match=r"not enough room.*10.0 GiB needed, 1.0 GiB free"):
            room.require(_plan(tmp_path), lambda: {"data": 10 * GIB}, force=False)
        return
    with caplog.at_level(logging.WARNING):
        room.require(_plan(tmp_path), lambda: {"data": 10 * GIB}, force=True)
    assert "may not be enough room" in caplog.text


def _plan(target: Path) -> Any:
    return SimpleNamespace(
        directories={"data": target / "not" / "there"}, archives=[], info=SimpleNamespace(cluster_size=None)
    )
