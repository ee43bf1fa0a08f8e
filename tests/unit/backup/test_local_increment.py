"""Which databases may be others than the parent has under the same number."""

from __future__ import annotations

import os
from array import array
from datetime import UTC, datetime
from pathlib import Path

import pytest

from barman_cloud.backup.local_increment import new_databases
from barman_cloud.backup.scan import FileRun, ScannedBase
from barman_cloud.incremental.parent_files import ParentFiles

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
PARENT = ParentFiles({}, {"base/5/PG_VERSION": "2026-11-28 12:00:00 GMT"})


@pytest.mark.parametrize(
    ("written", "began", "is_new"),
    [
        (NOON + 0.9, NOON + 60, False),
        (NOON + 1.1, NOON + 60, True),  # at another time than the manifest says
        (NOON + 0.9, NOON + 0.2, True),  # in the second in which the parent began: dropped and made again since, maybe
        (None, NOON + 60, True),  # dropped just now
    ],
)
def test_a_database_whose_version_file_may_be_another_one_is_new(
    tmp_path: Path, written: float | None, began: float, is_new: bool
) -> None:
    file = tmp_path / "base/5/PG_VERSION"
    file.parent.mkdir(parents=True)
    if written is not None:
        file.write_text("16\n")
        os.utime(file, (written, written))
    tree = ScannedBase("data", str(tmp_path), runs=[FileRun("base/5", ["1", "PG_VERSION"], array("q", [0, 3]))])
    found = new_databases([tree], PARENT, datetime.fromtimestamp(began, UTC))
    assert found == ({"base/5"} if is_new else set())
