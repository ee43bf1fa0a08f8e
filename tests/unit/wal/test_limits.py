"""How large a WAL file that isn't a segment may be, and which failure of a rename means another file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from barman_cloud.errors import IntegrityError
from barman_cloud.wal import delivery
from barman_cloud.wal.stored import SMALL_FILE_LIMIT
from barman_cloud.wal.wal_file import WalFile

LINE = b"1\t0/3000000\tno recovery target specified\n"


@pytest.mark.parametrize("more", [0, 1])
def test_a_history_file_has_a_limit(tmp_path: Path, more: int) -> None:
    path = tmp_path / "00000002.history"
    path.write_bytes(LINE + b"#".ljust(SMALL_FILE_LIMIT - len(LINE) + more, b"x"))
    if more:
        with pytest.raises(IntegrityError, match="too many for such a file"):
            WalFile(str(path), check_content=False)
    else:
        with WalFile(str(path), check_content=False) as file:
            assert file.size == SMALL_FILE_LIMIT


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EIO, errno.EACCES])
def test_only_another_file_system_leads_to_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A copy in the face of an I/O error might deliver what can't be read again."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "segment").write_bytes(b"content")
    destination = tmp_path / "RECOVERYXLOG"
    directory = os.open(tmp_path / "spool", os.O_RDONLY | os.O_DIRECTORY)
    replace = os.replace

    def failing(source: str, target: str, **options: int) -> None:
        if source == "segment":
            raise OSError(code, os.strerror(code), source)
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", failing)
    try:
        if code == errno.EXDEV:
            delivery.move("segment", str(destination), directory)
            assert destination.read_bytes() == b"content"
        else:
            with pytest.raises(OSError, match=os.strerror(code)):
                delivery.move("segment", str(destination), directory)
            assert not destination.exists()
            assert (tmp_path / "spool" / "segment").exists()
    finally:
        os.close(directory)
