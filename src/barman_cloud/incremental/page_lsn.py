"""Which blocks of a relation file changed since an LSN, by the LSN in each page's header.

A page carries the LSN behind the WAL record that changed it last (PostgreSQL docs, 66.6, "Database Page Layout"). That
tells of every change that recovery needs only if hint bits are logged as well, which is so with data checksums or
``wal_log_hints``: otherwise a page can be marked all-visible without a new LSN, and a restored page that lacks the mark
beside a visibility map that has it makes index-only scans wrong. New pages (LSN 0) always count as changed. The free
space map and the visibility map change without LSNs and are stored whole.
"""

from __future__ import annotations

from array import array

from barman_cloud.incremental.file_format import BLOCK

_WORDS = BLOCK // 4


def changed_blocks(data: bytes | bytearray | memoryview, since: int, first: int = 0) -> array[int]:
    """Return the numbers of the pages in ``data`` with an LSN of ``since`` or later, or of none at all.

    ``data`` is a whole number of pages in this machine's byte order; ``first`` is the number of the first one.
    """
    words = memoryview(data).cast("B").cast("I")
    high, low = since >> 32, since & 0xFFFFFFFF
    pages = zip(words[::_WORDS].tolist(), words[1::_WORDS].tolist(), strict=True)
    return array(
        "I",
        (
            number
            for number, (page_high, page_low) in enumerate(pages, first)
            if page_high > high or (page_high == high and page_low >= low) or not (page_high or page_low)
        ),
    )
