"""What flows through the pipe, and how small pieces are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from barman_cloud.buffers import Buffer as Buffer


def gather(chunks: Iterable[Buffer], size: int = 256 << 10) -> Iterator[Buffer]:
    """Join neighbouring small buffers into ones of at least ``size`` bytes; large ones pass through uncopied.

    Archives of many small files consist of pieces of a few KiB, and every later stage costs a call per piece.
    """
    small: list[Buffer] = []
    held = 0
    for chunk in chunks:
        length = len(chunk)
        if length < size:
            small.append(chunk)
            held += length
            if held >= size:
                yield b"".join(small)
                small.clear()
                held = 0
            continue
        if small:
            yield b"".join(small)
            small.clear()
            held = 0
        yield chunk
    if small:
        yield b"".join(small)
