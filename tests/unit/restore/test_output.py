"""Files have the bytes that were written to them, whichever way those went."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barman_cloud.backup.page_cache import _cached_granules
from barman_cloud.restore import output
from barman_cloud.restore.output import BUFFER_SIZE, DIRECT_FROM, CachedOutput, DirectOutput, Outputs

PAGE = mmap.PAGESIZE
DIRECT = getattr(os, "O_DIRECT", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def direct_fd(fd: int) -> int:
    """A file that is written past the page cache; not every file system can."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | DIRECT)
    except OSError:
        pytest.skip("this file system has no direct writes")
    return fd


def is_direct(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & DIRECT)


def buffer(pages: int) -> memoryview:
    return memoryview(mmap.mmap(-1, pages * PAGE))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.one_of(st.integers(0, 3 * PAGE), st.sampled_from([PAGE, 2 * PAGE, 4 * PAGE]))))
def test_pieces_of_any_size(tmp_path: Path, sizes: list[int]) -> None:
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        output._switch(fd, direct=True)
        written = DirectOutput(fd, buffer(2))
        pieces = [os.urandom(size) for size in sizes]
        for piece in pieces:
            written.write(piece)
        written.end()
    finally:
        os.close(fd)
    assert path.read_bytes() == b"".join(pieces)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("ext4", DIRECT_FROM, DirectOutput),
        ("xfs", DIRECT_FROM, DirectOutput),
        ("xfs", DIRECT_FROM - 1, CachedOutput),
        ("nfs4", DIRECT_FROM, CachedOutput),
        (None, DIRECT_FROM, CachedOutput),
    ],
)
def test_large_files_on_file_systems_that_do_it_well(
    fd: int, kind: str | None, size: int, expected: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "file_system", lambda _device: kind)
    if expected is DirectOutput and not output._switch(fd, direct=True):
        pytest.skip("this file system has no direct writes")
    output._switch(fd, direct=False)
    assert type(Outputs().open(fd, size)) is expected


def test_the_file_system_is_the_one_that_the_system_names(tmp_path: Path) -> None:
    named = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = output.file_system(tmp_path.stat().st_dev)
    if named == "ext2/ext3":  # they share a magic number with ext4
        assert found in ("ext2", "ext3", "ext4")
    elif found is not None:  # a device that isn't mounted as itself: a subvolume, for one
        assert found.startswith(named.removesuffix("fs"))
    assert output.file_system(os.makedev(4095, 1)) is None


def test_a_large_file_leaves_the_page_cache_alone(fd: int, path: Path) -> None:
    written = Outputs().open(fd, 3 * BUFFER_SIZE)
    if not isinstance(written, DirectOutput):
        pytest.skip("this file system has no direct writes")
    content = os.urandom(3 * BUFFER_SIZE)
    written.write(content)
    written.end()
    cached = _cached_granules(fd, len(content))
    if cached is None:
        pytest.skip("this system doesn't tell what is cached")
    assert not any(cached)
    assert path.read_bytes() == content


def test_the_rest_of_a_file_that_ends_inside_a_block(direct_fd: int, path: Path) -> None:
    written = DirectOutput(direct_fd, buffer(2))
    written.write(b"a" * (3 * PAGE + 5))
    written.end()
    assert not is_direct(direct_fd)
    assert path.read_bytes() == b"a" * (3 * PAGE + 5)


def test_one_buffer_for_all_files_of_a_thread(tmp_path: Path) -> None:
    outputs = Outputs()
    for number in range(3):
        fd = os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT)
        written = outputs.open(fd, DIRECT_FROM)
        written.write(bytes([number]) * DIRECT_FROM)
        written.end()
        os.close(fd)
    assert [(tmp_path / str(number)).read_bytes() for number in range(3)] == [
        bytes([number]) * DIRECT_FROM for number in range(3)
    ]


def test_a_file_system_without_direct_writes(fd: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL and argument & DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(output, "file_system", lambda _device: "ext4")
    written = Outputs().open(fd, 2 * DIRECT_FROM)
    written.write(b"x" * (2 * DIRECT_FROM))
    written.end()
    assert isinstance(written, CachedOutput)
    assert path.read_bytes() == b"x" * (2 * DIRECT_FROM)


def failing_write(watched: int, failures: int, code: int) -> Callable[[int, memoryview], int]:
    """Return an ``os.write`` that takes half of the first write to a file, then fails so often."""
    real = os.write
    calls = iter(["half"] + ["fail"] * failures)

    def write(fd: int, data: memoryview) -> int:
        answer = next(calls, "real") if fd == watched else "real"
        if answer == "fail":
            raise OSError(code, os.strerror(code))
        return real(fd, data[: len(data) // 2] if answer == "half" else data)

    return write


def test_a_write_that_ended_inside_a_block(direct_fd: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself refuses to go on from there directly, or doesn't mind."""
    real = os.write
    short = iter([PAGE + 100])

    def write(fd: int, data: memoryview) -> int:
        if fd != direct_fd or (size := next(short, None)) is None:
            return real(fd, data)
        output._switch(fd, direct=False)
        taken = real(fd, data[:size])
        output._switch(fd, direct=True)
        return taken

    monkeypatch.setattr(os, "write", write)
    content = os.urandom(5 * PAGE)
    written = DirectOutput(direct_fd, buffer(2))
    written.write(content)
    written.end()
    assert path.read_bytes() == content


def test_larger_blocks_than_pages(direct_fd: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file system doesn't take directly goes through the cache, from where it was."""
    monkeypatch.setattr(os, "write", failing_write(direct_fd, 1, errno.EINVAL))
    content = os.urandom(5 * PAGE)
    written = DirectOutput(direct_fd, buffer(2))
    written.write(content)
    written.end()
    assert not is_direct(direct_fd)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("failures", "code"), [(1, errno.ENOSPC), (1, errno.EIO), (2, errno.EINVAL)])
def test_other_errors_are_raised(direct_fd: int, failures: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", failing_write(direct_fd, failures, code))
    with pytest.raises(OSError, match=os.strerror(code)):
        DirectOutput(direct_fd, buffer(2)).write(bytes(2 * PAGE))
