"""A restore that goes on: what must not be startable meanwhile, and what it must not write into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from barman_cloud.errors import OperationError
from barman_cloud.restore import archive_restore, journal
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.restore.finish import reopen
from barman_cloud.restore.journal import Journal
from tests.unit.restore.backups import Bucket, member, minimal, restore, with_manifest
from tests.unit.restore.test_delta import SYSTEM, control_file

CONTROL = "global/pg_control"


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_what_was_complete_can_not_be_started_while_it_is_restored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the name of pg_control and the end of the journal."""
    bucket, target = Bucket(), tmp_path / "data"
    bucket.tablespaces({"fast": str(tmp_path / "fast")})
    bucket.put(minimal())
    bucket.put([member("PG_18_1/5/1", b"x")], base="16384")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "remove", interrupted)
        restore(bucket, target)
    assert (target / CONTROL).exists()
    there: list[bool] = []
    plain = archive_restore._extract

    def extract(*arguments: Any, **options: Any) -> Any:
        there.append((target / CONTROL).exists())
        return plain(*arguments, **options)

    monkeypatch.setattr(archive_restore, "_extract", extract)
    restore(bucket, target)
    assert there == [False]
    assert (target / CONTROL).exists()
    assert (target / "pg_tblspc/16384").readlink() == tmp_path / "fast"


@pytest.mark.parametrize("sign", ["a server runs", "its label is gone"])
def test_a_restored_directory_that_was_started_keeps_its_control_file(tmp_path: Path, sign: str) -> None:
    (tmp_path / "global").mkdir()
    (tmp_path / CONTROL).write_bytes(b"x")
    (tmp_path / ("postmaster.pid" if sign == "a server runs" else "unrelated")).touch()
    if sign == "a server runs":
        (tmp_path / "backup_label").touch()
    with pytest.raises(OperationError, match="PostgreSQL has been started on it since"):
        reopen(tmp_path)
    assert (tmp_path / CONTROL).exists()


def test_what_is_extracted_again_is_compared_again(tmp_path: Path) -> None:
    notes = journal.start(tmp_path, journal.Identity("url", "main", "1", {}))
    notes.add_verified(5)
    notes.forget()
    assert notes.verified is None
    notes.close()


def test_a_delta_restore_does_not_go_on_under_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, target = Bucket(), tmp_path / "data"
    bucket.info.systemid = str(SYSTEM)
    files = [entry for entry in minimal(member("base/5/1", b"x")) if entry[0].name != CONTROL]
    with_manifest(bucket, {"data": [*files, member(CONTROL, control_file())]})

    def again() -> None:
        restore_backup(bucket.store, bucket.layout, bucket.info, target, {}, 1, delta=True)

    restore(bucket, target)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive_restore, "_extract", interrupted)
        again()
    (target / "postmaster.pid").touch()
    with pytest.raises(OperationError, match="belongs to a running server"):
        again()
    (target / "postmaster.pid").unlink()
    again()
    assert (target / CONTROL).read_bytes() == control_file()


def test_a_delta_restore_finds_a_tablespace_inside_the_directory_as_it_was(tmp_path: Path) -> None:
    bucket, target = Bucket(), tmp_path / "data"
    bucket.info.systemid = str(SYSTEM)
    bucket.tablespaces({"inside": "/nowhere"})
    files = [entry for entry in minimal() if entry[0].name != CONTROL]
    space = [member("PG_18_1/5/1", b"x" * 9000)]
    with_manifest(bucket, {"data": [*files, member(CONTROL, control_file())], "16384": space})
    rules = {"inside": str(target / "ts")}
    restore(bucket, target, **rules)
    inode = (target / "ts/PG_18_1/5/1").stat().st_ino
    report = restore_backup(bucket.store, bucket.layout, bucket.info, target, rules, 1, delta=True)
    assert report.comparison is not None
    assert report.comparison.removed == 0
    assert (target / "ts/PG_18_1/5/1").stat().st_ino == inode
