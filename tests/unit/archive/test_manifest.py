from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import (
    EntrySpool,
    ManifestReader,
    ManifestSpool,
    WalRange,
    crc32c_text,
    manifest_stream,
    read_wal_ranges,
)
from barman_cloud.errors import IntegrityError

RANGES = (WalRange(1, 0x2000028, 0x1_02000100), WalRange(2, 0x1_02000100, 0x1_03000000))
# From a manifest that pg_basebackup 18 wrote.
POSTGRES_MANIFEST_HEAD = b"""{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7575650932180498711,
"Files": [
{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-11-22 12:11:02 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "96b5b9b6" },
{ "Encoded-Path": "base/caf\xe9", "Size": 0, "Last-Modified": "2026-11-22 12:09:06 GMT" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120" }
],
""".replace(b"base/caf\xe9", b"base/caf\xe9".hex().encode())  # noqa: E501

texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30),
    st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"0").decode("utf-8", "surrogateescape")),
)
names = texts.map(lambda text: text.replace("/", "-")).filter(lambda text: text not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
entries = st.tuples(paths, st.integers(0, 2**40), st.floats(0, 4e9), st.none() | st.integers(0, 2**32 - 1))


def written(spools: Sequence[EntrySpool], identifier: int | None = None) -> bytes:
    size, content = manifest_stream(spools, RANGES, identifier)
    data = b"".join(content)
    assert len(data) == size
    return data


def with_checksum(head: bytes) -> bytes:
    return head + b'"Manifest-Checksum": "%b"}\n' % hashlib.sha256(head).hexdigest().encode()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(entries, max_size=6), max_size=4), st.none() | st.integers(1, 2**64 - 1), st.integers(1, 900))
def test_what_is_written_is_read(
    workers: list[list[tuple[str, int, float, int | None]]], identifier: int | None, size: int
) -> None:
    spools = []
    for files in workers:
        spools.append(EntrySpool())
        for file in files:
            spools[-1].add(*file)
    data = written(spools, identifier)
    reader = ManifestReader(cut(data, size))
    assert [(file.path, file.size, file.crc) for file in reader] == [
        (path, length, crc) for files in workers for path, length, _, crc in files
    ]
    assert (reader.version, reader.system_identifier) == (1 if identifier is None else 2, identifier)
    assert reader.wal_ranges == RANGES
    assert len(json.loads(data)["Files"]) == sum(map(len, workers))


def test_many_entries_take_little_memory_and_come_back_in_order() -> None:
    spool = EntrySpool()
    for number in range(20_000):
        spool.add(f"base/5/{number}", 8192, 1795349346.6, number)
    assert spool.count == 20_000
    assert sum(map(len, spool._blocks)) < 20 * spool.count
    assert [file.crc for file in ManifestReader([written([spool])])] == list(range(20_000))


def test_the_form_is_postgresqls() -> None:
    spool = EntrySpool()
    spool.add("backup_label", 227, 1795349462.9, crc32c(b"123456789"))
    lines = written([spool], 7575650932180498711).decode().split("\n")
    assert lines[:5] == [
        '{ "PostgreSQL-Backup-Manifest-Version": 2,',
        '"System-Identifier": 7575650932180498711,',
        '"Files": [',
        '{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-11-22 12:11:02 GMT", '
        '"Checksum-Algorithm": "CRC32C", "Checksum": "839206e3" }',
        "],",
    ]
    assert lines[5:9] == [
        '"WAL-Ranges": [',
        '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "1/2000100" },',
        '{ "Timeline": 2, "Start-LSN": "1/2000100", "End-LSN": "1/3000000" }',
        "],",
    ]
    assert lines[9].startswith('"Manifest-Checksum": "')
    assert lines[10:] == [""]


def test_a_manifest_of_postgresql_is_read() -> None:
    reader = ManifestReader([with_checksum(POSTGRES_MANIFEST_HEAD)])
    label, other = reader
    assert (label.path, label.size, label.algorithm, label.checksum) == ("backup_label", 227, "CRC32C", "96b5b9b6")
    assert label.crc == 0xB6B9B596
    assert (other.path, other.checksum, other.crc) == ("base/caf\udce9", None, None)
    assert reader.system_identifier == 7575650932180498711
    assert reader.wal_ranges == (WalRange(1, 0x2000028, 0x2000120),)


def test_another_algorithm_has_no_crc() -> None:
    head = POSTGRES_MANIFEST_HEAD.replace(b"CRC32C", b"SHA256")
    assert [file.crc for file in ManifestReader([with_checksum(head)])] == [None, None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"Size": 227', b'"Size": "x"', r"line 4: not a file entry"),
        (b'"Size": 227, ', b"", r"line 4: not a file entry"),
        (b'"Size": 227', b'"Size" 227', r"line 4: not JSON"),
        (b'Version": 2', b'Version": 3', r"manifest version 3 is unknown"),
        (b'"WAL-Ranges"', b'"Ranges"', r"not a backup manifest"),
        (b"0/2000028", b"2000028", r"not a backup manifest"),
        (b'"Files": [', b'"Files": ', r"not JSON"),
        (b"backup_label", b"/dev/zero", r"line 4: '/dev/zero' is not a path below the data directory"),
        (b"backup_label", b"../../etc/shadow", r"line 4: .* is not a path below"),
        (b"backup_label", b"base/../../etc/shadow", r"line 4: .* is not a path below"),
        (b"backup_label", b"a//b", r"line 4: .* is not a path below"),
        (b"backup_label", rb"a\u0000b", r"line 4: .* is not a path below"),
        (b"backup_label", rb"\ud800", r"line 4: not a file entry"),
        (b"backup_label", b"x" * 5000, r"line 4: .* is not a path below"),
        (b'"backup_label"', b"7", r"line 4: not a file entry"),
        (b'"backup_label"', b'""', r"line 4: .* is not a path below"),
        (b"backup_label", b"base/", r"line 4: .* is not a path below"),
        (b"backup_label", b"./x", r"line 4: .* is not a path below"),
        (b"backup_label", b"x/..", r"line 4: .* is not a path below"),
        (b'"2026-11-22 12:11:02 GMT"', b"7", r"line 4: not a file entry"),
        (b'"Size": 227', b'"Size": -1', r"line 4: not a file entry"),
        (b'"Size": 227', b'"Size": 1e999', r"line 4: not a file entry"),
        (b'"Size": 227', b'"Size": ' + b"9" * 30, r"line 4: not a file entry"),
        (b'"Size": 227', b'"Size": ' + b"[" * 20_000, r"line 4: not JSON"),
        (b'"96b5b9b6"', b'"xyz"', r"line 4: not a file entry"),
        (b'"96b5b9b6"', b"5", r"line 4: not a file entry"),
        (b'"CRC32C"', b"[]", r"line 4: not a file entry"),
        (b'"Timeline": 1', b'"Timeline": 1e999', r"not a backup manifest"),
        (b'"Timeline": 1', b'"Timeline": ' + b"[" * 20_000, r"not JSON"),
        (b'"WAL-Ranges": [', b'"WAL-Ranges": [7,', r"not a backup manifest"),
        (b'"WAL-Ranges"', b"\n".join([b'"more": "%b",' % bytes(1000)] * 1100) + b'"WAL-Ranges"', r"too much"),
    ],
)
def test_a_wrong_line_is_named(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=f"^restored/backup_manifest, {message}|{message}"):
        list(ManifestReader([with_checksum(POSTGRES_MANIFEST_HEAD.replace(old, new))], "restored/backup_manifest"))


def test_a_changed_or_cut_manifest_is_refused() -> None:
    data = with_checksum(POSTGRES_MANIFEST_HEAD)
    with pytest.raises(IntegrityError, match="line 10: the manifest's own checksum is wrong"):
        list(ManifestReader([data.replace(b"227", b"228")]))
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(IntegrityError, match="ends too early"):
            list(ManifestReader([data[:end]]))
    with pytest.raises(IntegrityError, match="ends too early"):
        list(ManifestReader(b"x" * 1000 for _ in range(1000)))


def test_the_tail_tells_of_which_wal_a_manifest_is() -> None:
    data = with_checksum(POSTGRES_MANIFEST_HEAD)
    assert read_wal_ranges(data[-300:]) == (WalRange(1, 0x2000028, 0x2000120),)
    assert read_wal_ranges(written([EntrySpool()])) == RANGES
    for nonsense in (b"", b"stale", data[:-250], b'"WAL-Ranges": [7]', b'"WAL-Ranges": ' + b"[" * 50_000 + b"]"):
        assert read_wal_ranges(nonsense) == ()


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(memoryview(b"56789"), crc32c(bytearray(b"1234"))) == 0xE3069283
    assert crc32c_text(0xE3069283) == "839206e3"


def test_pg_verifybackup_accepts_a_directory_with_our_manifest(tmp_path: Path) -> None:
    """Only where PostgreSQL's own tools are installed; the integration tests always run it."""
    tool = shutil.which("pg_verifybackup") or next(
        (str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/pg_verifybackup")), None
    )
    if tool is None:
        pytest.skip("pg_verifybackup isn't installed")
    (tmp_path / "base").mkdir()
    spool = EntrySpool()
    for name in ("base/1", 'base/with "quotes"', "base/\u00fcml\u00e4ut"):
        data = name.encode() * 1000
        (tmp_path / name).write_bytes(data)
        spool.add(name, len(data), 1795349462.9, crc32c(data))
    (tmp_path / "backup_manifest").write_bytes(written([spool]))
    assert subprocess.run([tool, "-n", str(tmp_path)], capture_output=True, check=False).returncode == 0
    (tmp_path / "base/1").write_bytes(b"x")
    assert subprocess.run([tool, "-n", str(tmp_path)], capture_output=True, check=False).returncode == 1


def test_lsns_are_padded_for_postgresql_19() -> None:
    def text(padded: bool) -> bytes:
        size, content = manifest_stream([EntrySpool()], RANGES, 7, padded_lsns=padded)
        written = b"".join(content)
        assert len(written) == size
        reader = ManifestReader([written])
        assert (list(reader), reader.wal_ranges) == ([], RANGES)
        return written

    assert b'"Start-LSN": "0/2000028", "End-LSN": "1/2000100"' in text(False)
    assert b'"Start-LSN": "0/02000028", "End-LSN": "1/02000100"' in text(True)


class TestManifestSpool:
    """A server's manifest, as it comes in pieces."""

    @staticmethod
    def spooled(manifest: bytes, piece: int) -> ManifestSpool:
        spool = ManifestSpool()
        for start in range(0, len(manifest), piece):
            spool.add(memoryview(manifest)[start : start + piece])
        return spool

    @pytest.mark.parametrize("piece", [1, 7, 32768, 10**6])
    def test_it_is_given_back_byte_for_byte_and_its_files_are_counted(self, piece: int) -> None:
        spool = EntrySpool()
        for number in range(3000 if piece > 7 else 30):
            spool.add(f"base/1/{number}" if number % 10 else f"base/caf\udce9{number}", number, 1e9, number)
        _, content = manifest_stream([spool], RANGES, 1)
        manifest = b"".join(content)
        found = self.spooled(manifest, piece)
        found.finish()
        assert b"".join(found) == manifest
        assert (found.size, found.count) == (len(manifest), spool.count)

    def test_one_that_is_cut_off_or_changed_is_refused(self) -> None:
        checksum = hashlib.sha256(POSTGRES_MANIFEST_HEAD).hexdigest()
        whole = POSTGRES_MANIFEST_HEAD + f'"Manifest-Checksum": "{checksum}"}}\n'.encode()
        good = self.spooled(whole, 100)
        good.finish()
        assert good.count == 2
        for damaged in (whole[:-80], whole[:-1], b"", whole.replace(b"227", b"228")):
            with pytest.raises(IntegrityError, match="damaged or cut off"):
                self.spooled(damaged, 100).finish()
