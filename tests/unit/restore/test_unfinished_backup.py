"""What is said to whoever restores a backup that is still being made."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import DONE, FAILED, STARTED
from barman_cloud.errors import OperationError
from tests.unit.restore.backups import Bucket, minimal, restore


@pytest.mark.parametrize(
    ("status", "hint"), [(STARTED, "wait for its end"), (FAILED, "take another one"), (DONE, "take another one")]
)
def test_an_archive_that_is_missing(tmp_path: Path, status: str, hint: str) -> None:
    bucket = Bucket()
    bucket.info.status = status
    bucket.put(minimal(), part=1)
    with pytest.raises(OperationError, match=r"has no|lacks") as caught:
        restore(bucket, tmp_path / "target")
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "target").exists()
