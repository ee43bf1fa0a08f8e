"""The pieces of a streamed upload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from barman_cloud.errors import StoreError
from barman_cloud.store.base import Buffer


class CountedChunks:
    """Passes chunks on to obstore, and remembers what it has to know afterwards."""

    def __init__(self, chunks: Iterable[Buffer], limit: int, name: str) -> None:
        self._chunks = iter(chunks)
        self._limit = limit
        self._name = name
        self.size = 0
        self.exhausted = False
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[Buffer]:
        return self

    def __next__(self) -> Buffer:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self.exhausted = True
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.size += memoryview(chunk).nbytes
        if self.size > self._limit:
            self.failure = StoreError(
                f"{self._name}: more than {self._limit} bytes don't fit into one upload",
                hint="use larger parts or smaller archives",
            )
            raise self.failure
        return frozen(chunk)


def frozen(chunk: Buffer) -> Buffer:
    """Return the chunk, or a copy if its owner could write to it again while it waits for its upload."""
    return chunk if isinstance(chunk, bytes) or memoryview(chunk).readonly else bytes(chunk)


def handed_over(pieces: list[Buffer]) -> Iterator[Buffer]:
    """Yield the pieces, and keep none of them alive: they are large."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def rejoined(first: list[Buffer], rest: Iterator[Buffer]) -> Iterator[Buffer]:
    """Yield what was taken off the beginning of a stream, giving up each piece, and then the rest."""
    yield from handed_over(first)
    yield from rest


def slices(data: memoryview, size: int) -> Iterator[Buffer]:
    """Cut a body in memory into pieces that share it."""
    for start in range(0, data.nbytes, size):
        yield data[start : start + size]
