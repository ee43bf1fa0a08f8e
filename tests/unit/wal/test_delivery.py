from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from barman_cloud.wal import delivery
from tests.support.spools import opened


def test_the_destination_gets_the_data_and_nothing_else_is_left(tmp_path: Path) -> None:
    destination = tmp_path / "RECOVERYXLOG"
    delivery.deliver([b"con", b"tent"], str(destination))
    assert destination.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["RECOVERYXLOG"]


def test_an_existing_destination_is_replaced(tmp_path: Path) -> None:
    destination = tmp_path / "RECOVERYXLOG"
    destination.write_bytes(b"a longer content of before")
    delivery.deliver([b"con", b"tent"], str(destination))
    assert destination.read_bytes() == b"content"


def test_a_destination_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    delivery.deliver([b"con", b"tent"], "RECOVERYXLOG")
    assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"content"


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        delivery.deliver([b"con", b"tent"], str(tmp_path / "RECOVERYXLOG"))
    finally:
        os.umask(before)
    assert (tmp_path / "RECOVERYXLOG").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    destination = tmp_path / "RECOVERYXLOG"
    destination.write_bytes(b"before")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        delivery.deliver([b"con", b"tent"], str(destination))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["RECOVERYXLOG"]
    assert destination.read_bytes() == b"before"


def test_a_signal_waits_until_the_file_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    destination = tmp_path / "RECOVERYXLOG"
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(destination.exists()))
    replace = os.replace

    def interrupted(source: str, target: str, **directories: int | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # another thread may be the one that gets it
        replace(source, target, **directories)

    monkeypatch.setattr(os, "replace", interrupted)
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    try:
        delivery.deliver([b"con", b"tent"], str(destination))
    finally:
        signal.signal(signal.SIGTERM, before)
        idle.set()
        other.join()
    assert seen == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_stops_what_takes_long(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(os.listdir(tmp_path)))

    def long() -> Iterator[bytes]:
        yield b"content"
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10_000):
            yield b"content"

    try:
        with pytest.raises(InterruptedError, match="stopped by signal 15"):
            delivery.deliver(long(), str(tmp_path / "RECOVERYXLOG"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [[]]


def test_moving_within_a_file_system_is_a_rename(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    inode = source.stat().st_ino
    delivery.move("source", str(tmp_path / "target"), opened(tmp_path).descriptor)
    assert (tmp_path / "target").stat().st_ino == inode
    assert not source.exists()


def test_moving_across_file_systems_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "spool"
    source.write_bytes(b"content")
    replace = os.replace

    def across(old: str, new: str, **directories: int | None) -> None:
        if old == "spool":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(old, new, **directories)

    monkeypatch.setattr(os, "replace", across)
    delivery.move("spool", str(tmp_path / "target"), opened(tmp_path).descriptor)
    assert (tmp_path / "target").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["target"]


class TestLeftovers:
    """A call that is killed leaves its temporary file."""

    NAME = ".RECOVERYXLOG.barman-cloud.tmp"

    def test_the_next_call_removes_it(self, tmp_path: Path) -> None:
        def killed() -> Iterator[bytes]:
            yield b"half"
            os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            delivery.deliver(killed(), str(tmp_path / "RECOVERYXLOG"))
        os.waitpid(child, 0)
        assert os.listdir(tmp_path) == [self.NAME]
        delivery.deliver([b"content"], str(tmp_path / "RECOVERYXLOG"))
        assert os.listdir(tmp_path) == ["RECOVERYXLOG"]
        assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"content"
        assert (tmp_path / "RECOVERYXLOG").stat().st_mode & 0o777 == 0o666 & ~_umask()

    @pytest.mark.parametrize("kind", ["directory", "link", "fifo", "second name"])
    def test_what_is_not_one_is_left_alone(self, tmp_path: Path, kind: str) -> None:
        other, place = tmp_path / "other", tmp_path / self.NAME
        other.write_bytes(b"precious")
        if kind == "directory":
            place.mkdir()
        elif kind == "link":
            place.symlink_to(other)
        elif kind == "fifo":
            os.mkfifo(place)
        else:
            os.link(other, place)
        delivery.deliver([b"content"], str(tmp_path / "RECOVERYXLOG"))
        assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"content"
        assert other.read_bytes() == b"precious"
        assert sorted(os.listdir(tmp_path)) == [self.NAME, "RECOVERYXLOG", "other"]

    def test_that_of_a_call_at_work_is_left_alone(self, tmp_path: Path) -> None:
        begun, go_on = os.pipe(), os.pipe()

        def slow() -> Iterator[bytes]:
            yield b"the other "
            os.write(begun[1], b"x")
            os.read(go_on[0], 1)
            yield b"call"

        child = os.fork()
        if child == 0:
            delivery.deliver(slow(), str(tmp_path / "RECOVERYXLOG"))
            os._exit(0)
        os.read(begun[0], 1)
        delivery.deliver([b"content"], str(tmp_path / "RECOVERYXLOG"))
        assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"content"
        os.write(go_on[1], b"x")
        assert os.waitpid(child, 0)[1] == 0
        assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"the other call"
        assert os.listdir(tmp_path) == ["RECOVERYXLOG"]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
