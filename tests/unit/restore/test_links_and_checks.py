"""Links between members, the order of modes, and what is compared: each by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.errors import IntegrityError
from barman_cloud.restore import tree as trees
from barman_cloud.restore.tree import Attributes, Outcome, Tree
from barman_cloud.restore.verify import difference
from tests.support.file_operations import descriptors_left_by
from tests.unit.restore.backups import Bucket, hardlink, member, minimal, record_archives, restore, symlink


def test_a_hard_link_to_a_link_is_that_link_and_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    bucket, target = Bucket(), tmp_path / "data"
    bucket.put(minimal(hardlink("a", "z"), symlink("z", str(outside))))
    restore(bucket, target)
    assert (target / "a").readlink() == outside
    assert (target / "a").lstat().st_ino == (target / "z").lstat().st_ino
    assert outside.stat().st_nlink == 1


def test_a_directory_gets_its_mode_after_those_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode may forbid its owner to look for what is below."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    tree, done = Tree(tmp_path), []
    attributes = Attributes(0o700, os.getuid(), os.getgid(), 0)
    tree.add(0, Outcome(directories={"a": attributes, "a/b": attributes, "a/b/c": attributes}))
    monkeypatch.setattr(trees, "apply", lambda fd, _attributes: done.append(os.readlink(f"/proc/self/fd/{fd}")))
    tree.set_attributes(attributes)
    tree.close()
    assert [Path(path).relative_to(tmp_path).as_posix() for path in done] == ["a/b/c", "a/b", "a"]


def test_directories_are_closed_again(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    tree = Tree(tmp_path)

    def enter(_number: int) -> None:
        with tree.opened(("a", "b", "c")):
            pass

    assert descriptors_left_by(enter) == 0
    tree.close()


@pytest.mark.parametrize(
    "make",
    [lambda path: path.symlink_to("other"), os.mkfifo, lambda path: path.mkdir()],
    ids=["link", "fifo", "directory"],
)
def test_what_is_no_file_is_no_file_of_the_manifest(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "other").write_bytes(b"x")
    make(tmp_path / "file")
    tree = Tree(tmp_path)

    def compare(_number: int) -> None:
        assert difference(ManifestFile("file", 1, "", None, None), tree, ("file",)) == "is not a regular file"

    assert descriptors_left_by(compare) == 0
    tree.close()


def test_an_archive_of_the_right_size_and_another_content_is_damaged(tmp_path: Path) -> None:
    bucket = Bucket()
    key = bucket.put(minimal(member("base/5/1", b"x" * 5000)))
    record_archives(bucket, [key])
    stored = bytes(bucket.store.get(key))
    bucket.store.put(key, stored.replace(b"x" * 5000, b"x" * 4999 + b"y"))
    with pytest.raises(IntegrityError, match="is not what was stored"):
        restore(bucket, tmp_path / "data")
