"""Micro benchmark of the pipe's stages: CPU seconds per GiB, and the ratio to the standard library doing the same.

    python benchmarks/pipe.py [DIRECTORY]

DIRECTORY is read in place of made-up files: the ``base`` directory of a real cluster says most. Each figure is the best
of three runs, in seconds of this thread's CPU time, so that other work on the machine disturbs little.
"""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.compression import compress_stream, decompress_stream
from barman_cloud.archive.tar import Member, end_of_archive, member_header, padding, read_members

ROUNDS = 3
READ = 256 << 10
SAMPLE = 96 << 20
SLOW_SAMPLE = 8 << 20
HEADERS = 20_000


def make_files(directory: Path, size: int) -> None:
    """Write pages of rows that compress two to three times, as tables of text and numbers do."""
    source = random.Random(1)
    words = [source.randbytes(source.randrange(3, 9)).hex().encode() for _ in range(4000)]
    pages = []
    for _ in range(512):
        row_bytes = b"".join(
            source.randbytes(14) + b" ".join(source.choices(words, k=6)) + b"\x00\x01\x00\x18" for _ in range(90)
        )
        pages.append((b"\x00" * 24 + row_bytes)[:8192].ljust(8192, b"\0"))
    for number in range(size // (8 << 20)):
        (directory / f"{16384 + number}").write_bytes(b"".join(source.choices(pages, k=1024)))


def cpu(run: Callable[[], object]) -> float:
    """Return the CPU seconds of the best of several runs."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        run()
        best = min(best, time.thread_time() - start)
    return best


def read(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        while data := os.read(descriptor, READ):
            yield data
        os.close(descriptor)


def tar(paths: Iterable[Path]) -> Iterator[Buffer]:
    total = 0
    for path in paths:
        status = path.stat()
        header = member_header(Member(path.name, "file", 0o600, 26, 26, "postgres", "postgres", status.st_size, 1.7e9))
        yield header
        for chunk in read([path]):
            crc32c(chunk)
            yield chunk
        yield padding(status.st_size)
        total += len(header) + status.st_size + -status.st_size % 512
    yield end_of_archive(total)


def consume(chunks: Iterable[Buffer]) -> int:
    return sum(len(chunk) for chunk in chunks)


def standard_tar(paths: Iterable[Path], mode: str) -> bytes:
    """Make an archive as Barman does; both compressors are at level 9 then."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for path in paths:
            archive.add(path, path.name)
    return buffer.getvalue()


def untar(chunks: Iterable[Buffer]) -> None:
    for _, content in read_members(chunks):
        for piece in content:
            crc32c(piece)


def standard_untar(data: bytes, mode: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(data), mode=mode) as archive:  # type: ignore[call-overload]
        for info in archive:
            file = archive.extractfile(info)
            while file and file.read(READ):
                pass


def bulk(paths: list[Path]) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Yield name, CPU seconds per GiB, those of the standard library, and compression ratio."""
    yield "read", per_gib(paths, lambda: consume(read(paths))), None, None
    plain = per_gib(paths, lambda: consume(tar(paths)))
    yield "read, checksum, tar", plain, per_gib(paths, lambda: standard_tar(paths, "w|")), None
    for name, standard in (("lz4", ""), ("snappy", ""), ("zstd", ""), ("gzip", "gz"), ("bzip2", "bz2")):
        chosen = paths if name != "bzip2" else some(paths)
        size = sum(path.stat().st_size for path in chosen)
        packed = list(compress_stream(tar(chosen), name))
        pack = per_gib(chosen, partial(lambda name, chosen: consume(compress_stream(tar(chosen), name)), name, chosen))
        unpack = per_gib(chosen, partial(lambda name, packed: untar(decompress_stream(packed, name)), name, packed))
        theirs: list[float | None] = [None, None]
        if standard:
            few = some(paths)
            data = standard_tar(few, f"w|{standard}")
            theirs = [
                per_gib(few, partial(standard_tar, few, f"w|{standard}")),
                per_gib(few, partial(standard_untar, data, f"r|{standard}")),
            ]
        yield f"read, checksum, tar, {name}", pack, theirs[0], size / consume(packed)
        yield f"un-{name}, untar, checksum", unpack, theirs[1], None


def some(paths: list[Path]) -> list[Path]:
    """Return a few files that aren't large, for compressors that take minutes for a gigabyte."""
    chosen, size = [], 0
    for path in paths:
        length = path.stat().st_size
        if 0 < length <= SLOW_SAMPLE and size < SLOW_SAMPLE:
            chosen.append(path)
            size += length
    return chosen or paths[:1]


def per_gib(paths: Iterable[Path], run: Callable[[], object]) -> float:
    return cpu(run) / sum(path.stat().st_size for path in paths) * 2**30


def headers() -> Iterator[tuple[str, float, float]]:
    """Yield name and microseconds per member, ours and the standard library's."""
    found = [
        Member(f"base/5/{n}", "file", 0o600, 26, 26, "postgres", "postgres", 0, 1.7e9 + n / 7) for n in range(HEADERS)
    ]
    infos = []
    for member in found:
        info = tarfile.TarInfo(member.name)
        info.mtime, info.uname, info.gname = member.mtime, member.uname, member.gname
        infos.append(info)
    scale = 1e6 / HEADERS
    ours = cpu(lambda: [member_header(member) for member in found])
    theirs = cpu(lambda: [info.tobuf(tarfile.PAX_FORMAT) for info in infos])
    yield "write a header", ours * scale, theirs * scale
    data = b"".join(map(member_header, found)) + end_of_archive()
    chunks = [data[start : start + READ] for start in range(0, len(data), READ)]
    ours = cpu(lambda: [member for member, _ in read_members(chunks)])
    theirs = cpu(lambda: list(tarfile.open(fileobj=io.BytesIO(data))))  # noqa: SIM115
    yield "read a header", ours * scale, theirs * scale


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="barman-cloud-bench-") as temporary:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if len(sys.argv) < 2:
            make_files(directory, SAMPLE)
        paths = sorted(path for path in directory.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in paths)
        print(f"{len(paths)} files, {size / 2**20:.0f} MiB\n")
        print("| stage | CPU s/GiB | MiB/s of one core | standard library / ours | compression |")
        print("|---|---|---|---|---|")
        for name, ours, theirs, ratio in bulk(paths):
            times = f"{theirs / ours:.1f}" if theirs else ""
            packed = f"{ratio:.2f}" if ratio else ""
            print(f"| {name} | {ours:.2f} | {1024 / ours:.0f} | {times} | {packed} |", flush=True)
    print("\n| per member | ours, µs | tarfile, µs | ratio |")
    print("|---|---|---|---|")
    for name, ours, theirs in headers():
        print(f"| {name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
