"""Page checksums of what is in archives: whole files, incremental ones, and pages that WAL replaces."""

from __future__ import annotations

import struct

import pytest

from barman_cloud.archive.archives_json import DamagedFile, PageChecksums
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.file_format import Header
from barman_cloud.verify.stored_pages import StoredPages

np = pytest.importorskip("numpy")

BEGIN, END = 1000, 2000
NAME = "base/5/16384"


def page(number: int, *, lsn: int = 500, good: bool = True, size: int = 8192) -> bytes:
    """A page with the right checksum for block ``number`` of its relation, or another one."""
    from barman_cloud.postgres.page_checksum import _hash

    data = bytearray(bytes([number % 251 + 1]) * size)
    data[:24] = struct.pack("=IIHHHHHHI", 0, lsn, 0, 0, 24, size, size, size | 4, 0)
    words = np.frombuffer(bytes(data), dtype=np.uint32).reshape(1, -1)
    checksum = int((int(_hash(words)[0]) ^ number) % 65535 + 1)
    data[8:10] = struct.pack("=H", checksum if good else checksum ^ 1)
    return bytes(data)


def found(pages: StoredPages, name: str, data: bytes, piece: int = 10_000) -> tuple[DamagedFile, ...]:
    checker = pages.checker()
    pieces = (memoryview(data)[at : at + piece] for at in range(0, len(data), piece))
    passed = b"".join(bytes(part) for part in checker.watch(name, name, pieces))
    assert passed == data
    checker.flush()
    return pages.conclude()[1]


@pytest.mark.parametrize("size", [4096, 8192, 32768])
def test_damaged_pages_are_named_whatever_their_size(size: int) -> None:
    data = b"".join(page(n, good=n not in (1, 2, 5), size=size) for n in range(8))
    assert found(StoredPages(BEGIN, END, None), NAME, data) == (DamagedFile(NAME, ((1, 2), (5, 5))),)


def test_pages_changed_during_the_backup_are_replaced_by_wal() -> None:
    data = b"".join(page(n, lsn=lsn, good=False) for n, lsn in enumerate((999, 1000, 2000, 2001)))
    assert found(StoredPages(BEGIN, END, None), NAME, data) == (DamagedFile(NAME, ((0, 0), (3, 3))),)


def test_pages_that_wal_replaces_do_not_hide_damage() -> None:
    data = page(0, lsn=1500, good=False) * 12_000 + page(12_000, lsn=2001, good=False)
    ((_, blocks),) = [(file.path, file.blocks) for file in found(StoredPages(BEGIN, END, None), NAME, data, 1 << 20)]
    assert blocks == ((12_000, 12_000),)


def test_what_the_backup_read_twice_and_found_right_is_right() -> None:
    data = b"".join(page(n, good=False) for n in range(3))
    known = PageChecksums(3, 1, (DamagedFile(NAME, ((1, 1),)),))
    assert found(StoredPages(BEGIN, END, known), NAME, data) == (DamagedFile(NAME, ((1, 1),)),)
    assert found(StoredPages(BEGIN, END, PageChecksums(3, 0)), NAME, data) == ()
    cut_list = PageChecksums(3, 5, (DamagedFile(NAME, ((1, 1),)),))
    assert found(StoredPages(BEGIN, END, cut_list), NAME, data) == (DamagedFile(NAME, ((0, 2),)),)


def test_other_files_have_no_checksums() -> None:
    assert found(StoredPages(BEGIN, END, None), "base/5/PG_VERSION", page(0, good=False)) == ()


def test_blocks_of_an_incremental_file_are_checked_by_their_numbers() -> None:
    blocks = (3, 4, 9)
    name = "base/5/INCREMENTAL.16384"
    for bad in (None, 4):
        content = Header(blocks, 12).to_bytes() + b"".join(page(n, good=n != bad) for n in blocks)
        pages = StoredPages(BEGIN, END, None)
        checker = pages.checker()
        checker.incremental(name, name, len(content), iter([content[:9000], content[9000:]]), pages=True)
        checker.flush()
        count, files = pages.conclude()
        assert count == 3
        assert files == (() if bad is None else (DamagedFile(name, ((4, 4),)),))


def test_an_incremental_file_that_makes_no_sense_is_refused() -> None:
    checker = StoredPages(BEGIN, END, None).checker()
    with pytest.raises(IntegrityError, match="not an incremental file"):
        checker.incremental("base/5/INCREMENTAL.1", "base/5/INCREMENTAL.1", 8192, iter([bytes(8192)]), pages=False)
