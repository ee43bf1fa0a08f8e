"""What a restored file gets from the archive beside its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.restore.backups import Bucket, member, minimal, restore


@pytest.mark.parametrize("time", [2.0**70, 1e300, -1.0, float(2**33)])
def test_a_time_that_no_file_can_have_is_the_beginning(tmp_path: Path, time: float) -> None:
    bucket = Bucket()
    bucket.put(minimal(member("base/5/strange", b"content", mtime=time)))
    restore(bucket, tmp_path / "target")
    assert (tmp_path / "target/base/5/strange").read_bytes() == b"content"
    assert (tmp_path / "target/base/5/strange").stat().st_mtime == 0
