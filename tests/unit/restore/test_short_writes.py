"""The kernel may take a part of a write only; what is left is written behind it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barman_cloud.restore import merge
from barman_cloud.restore.archive_restore import restore_backup
from tests.unit.restore.chains import EXPECTED, three


def test_changed_blocks_that_are_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "LIMIT", 0)  # nothing is put together in memory
    pwrite, calls = os.pwrite, 0

    def short(fd: int, data: memoryview, offset: int) -> int:
        nonlocal calls
        calls += 1
        return pwrite(fd, data[:3000], offset)

    monkeypatch.setattr(os, "pwrite", short)
    chain = three()
    target = tmp_path / "data"
    restore_backup(chain.store, chain.layout, chain.newest, target, {"fast": str(target / "space")}, 2)
    folders = (target / "base/5", target / "space/PG_18_1/5")
    assert {str(path.relative_to(target)): path.read_bytes() for folder in folders for path in folder.iterdir()} == (
        EXPECTED
    )
    assert calls > 10
