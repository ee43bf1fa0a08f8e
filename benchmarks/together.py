"""The least that a backup and its restore do: read, compress and send files; fetch, decompress and write them.

One thread per processor compresses or decompresses its share of the bytes, by the libraries that we use; four more for
each send or fetch. There is nothing else that backups do: no tar, no checksums, no server that is asked anything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.compression import compress_stream, decompress_stream
from barman_cloud.restore.output import Outputs
from barman_cloud.store.base import ObjectStore
from benchmarks.disk import read
from benchmarks.setting import NONE, Place

OBJECT = 8 << 20
TRANSFERS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Share:
    """What one processor works on: files, and the objects that they became."""

    files: list[Path] = field(default_factory=list)
    size: int = 0
    keys: list[str] = field(default_factory=list)


class Together:
    """Files on their way to a bucket, and back into the directory beside it."""

    def __init__(self, files: list[Path], codec: str, place: Place) -> None:
        self._codec = None if codec == NONE else codec
        self._place = place
        self._shares = divide(files)

    def send(self) -> None:
        """Read, compress and store all files."""
        self._share_out(self._send)

    def fetch(self) -> None:
        """Write what was stored as restores write, one file for each share, and make it durable."""
        self._share_out(self._fetch)

    def _share_out(self, action: Callable[[ObjectStore, int], None]) -> None:
        numbers = range(len(self._shares))
        with self._place.open() as client, pool(len(numbers)) as workers:
            list(workers.map(partial(action, client), numbers))

    def _send(self, client: ObjectStore, number: int) -> None:
        share = self._shares[number]
        share.keys = put_all(client, str(number), compress_stream(read(share.files), self._codec))

    def _fetch(self, client: ObjectStore, number: int) -> None:
        share = self._shares[number]
        content = decompress_stream(in_flight(client.get, share.keys), self._codec, self._place.url)
        write(self._place.directory / str(number), content, share.size)


def put_all(client: ObjectStore, prefix: str, content: Iterable[Buffer]) -> list[str]:
    """Store ``content`` as objects below ``prefix`` and return their keys."""

    def put(numbered: tuple[int, bytes]) -> str:
        key = f"{prefix}/{numbered[0]}"
        client.put(key, numbered[1])
        return key

    return list(in_flight(put, enumerate(joined(content))))


def write(path: Path, content: Iterable[Buffer], size: int) -> None:
    """Write a new file of ``size`` bytes as restores do, and make it durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        output = Outputs().open(descriptor, size)
        for data in content:
            output.write(data)
        output.end()
        os.fsync(descriptor)
        written = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if written != size:
        raise RuntimeError(f"{path} came back with {written} bytes of {size}")


def divide(files: list[Path]) -> list[Share]:
    """Divide files among the processors, by size."""
    shares = [Share() for _ in range(os.cpu_count() or 1)]
    for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
        least = min(shares, key=lambda share: share.size)
        least.files.append(path)
        least.size += path.stat().st_size
    return shares


def joined(pieces: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield the same bytes in objects of ``OBJECT`` bytes; the last one has what is left."""
    waiting = bytearray()
    for data in pieces:
        waiting += data
        while len(waiting) >= OBJECT:
            yield bytes(waiting[:OBJECT])
            del waiting[:OBJECT]
    yield bytes(waiting)


def in_flight(action: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of ``action`` in order, while ``TRANSFERS`` more are under way."""
    flying: deque[Future[Result]] = deque()
    with pool(TRANSFERS) as workers:
        for item in items:
            flying.append(workers.submit(action, item))
            if len(flying) > TRANSFERS:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


def pool(threads: int) -> ThreadPoolExecutor:
    """Return an executor of so many threads."""
    return ThreadPoolExecutor(threads)
