"""Damage to WAL is found, and what PostgreSQL wrote is never taken for damaged."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import WalKind, WalName, check_header, parse_page_header, parse_wal_name
from barman_cloud.postgres.wal_check import Finding, SegmentCheck, find_damage
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, server_directory
from tests.support.segments import MAGIC, PAGE, SIZE, record, segment, segment_name

NAME = parse_wal_name(segment_name(3))
assert NAME is not None
PARTIAL = NAME._replace(text=f"{NAME.text}.partial", kind=WalKind.PARTIAL)
FULL = (WalKind.SEGMENT, WalKind.PARTIAL)


def findings(data: bytes, name: WalName = NAME, *, records: bool = True) -> list[Finding]:
    return list(find_damage([data], name, records=records))


def is_damaged(data: bytes, name: WalName = NAME, *, records: bool = True) -> bool:
    try:
        return bool(findings(data, name, records=records))
    except IntegrityError:
        return True


class Wal:
    """Consecutive segments, their names, and which of their bytes PostgreSQL reads and can compare with something."""

    def __init__(self, segments: dict[str, bytes]) -> None:
        self.names = [parsed for name in segments if (parsed := parse_wal_name(name))]
        self.segments = list(segments.values())
        self.size = len(self.segments[0])
        self.covered = [bytearray(self.size) for _ in segments]
        """1 for each byte of a record, or of a page header, that isn't padding."""
        self._cover()
        self.checks = [check for check, _ in self._check_all()]

    def _check_all(self) -> Iterator[tuple[SegmentCheck, list[Finding]]]:
        before = None
        for name, data in zip(self.names, self.segments, strict=True):
            found, before = self._check(name, data, before)
            yield before, found

    def _check(self, name: WalName, data: bytes, before: SegmentCheck | None) -> tuple[list[Finding], SegmentCheck]:
        check = SegmentCheck(name, check_header(data, name), records=True, before=before)
        return check.feed(data) + check.finish(), check

    def all_findings(self) -> list[Finding]:
        return [finding for _, found in self._check_all() for finding in found]

    def notices(self, number: int, data: bytes) -> bool:
        """Tell whether ``data`` in place of a segment is noticed there, or in those behind it."""
        check = self.checks[number - 1] if number else None
        try:
            for name, content in zip(self.names[number:], [data, *self.segments[number + 1 :]], strict=True):
                found, check = self._check(name, content, check)
                if found:
                    return True
        except IntegrityError:
            return True
        return False

    def _cover(self) -> None:
        """Walk the records in another way than the code under test: by one stream of all pages without headers."""
        stream: list[tuple[int, int]] = []
        begins = [0]
        for number in range(len(self.segments)):
            for page in range(0, self.size, PAGE):
                header = 40 if page == 0 else 24
                for offset in (*range(20), *(range(32, 40) if page == 0 else ())):
                    self.covered[number][page + offset] = 1
                stream += [(number, offset) for offset in range(page + header, page + PAGE)]
            begins.append(len(stream))
        content = b"".join(
            data[page + (40 if page == 0 else 24) : page + PAGE]
            for data in self.segments
            for page in range(0, self.size, PAGE)
        )
        position = (struct.unpack_from("=I", self.segments[0], 16)[0] + 7) // 8 * 8
        while position + 24 <= len(content):
            (length,) = struct.unpack_from("=I", content, position)
            if position + length > len(content):
                break
            for number, offset in stream[position : position + length]:
                self.covered[number][offset] = 1
            switched = content[position + 17] == 0 and content[position + 16] & 0xF0 == 0x40
            position = (position + length + 7) // 8 * 8
            if switched:
                position = next(begin for begin in begins if begin >= position)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Wal:
    """WAL of a real server: whole pages, small records, one of two segments' size, and a switch."""
    directory = server_directory(tmp_path_factory.mktemp("wal-check"))
    server = PostgresServer.create(
        directory, initdb=("--data-checksums", "--wal-segsize=1"), settings={"wal_keep_size": "100MB"}
    )
    with server:
        server.query("SELECT pg_switch_wal()")
        first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        server.query("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 6000) g")
        server.query("CHECKPOINT")
        server.query("UPDATE t SET g = g + 1")
        server.query("SELECT pg_logical_emit_message(true, 'large', repeat('x', 2200000))")
        server.query("CREATE INDEX ON t (md5)")
        server.query("SELECT pg_switch_wal()")
        last = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        files = sorted(path for path in (server.data / "pg_wal").iterdir() if first <= path.name < last)
        return Wal({path.name: path.read_bytes() for path in files})


class TestRealWal:
    @pytest.mark.long
    def test_none_of_it_is_damaged(self, real: Wal) -> None:
        assert len(real.segments) >= 5
        assert real.all_findings() == []
        for name, data in zip(real.names, real.segments, strict=True):
            assert findings(data, name) == []
            assert findings(data, name, records=False) == []

    @pytest.mark.parametrize("size", [7, 1000, PAGE, PAGE + 1, 300_000])
    def test_pieces_may_be_cut_anywhere(self, real: Wal, size: int) -> None:
        data = real.segments[1]
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        assert list(find_damage(pieces, real.names[1])) == []

    @pytest.mark.long
    def test_every_flipped_bit_that_counts_is_noticed(self, real: Wal) -> None:
        chance = random.Random(8)
        places = [(chance.randrange(len(real.segments)), chance.randrange(real.size)) for _ in range(250)]
        places += [(2, 5 * PAGE + offset) for offset in range(24)]
        places += [(1, offset) for offset in range(40)]
        wrong = []
        for number, offset in places:
            bit = chance.randrange(8)
            data = bytearray(real.segments[number])
            data[offset] ^= 1 << bit
            counts = bool(real.covered[number][offset]) and (offset % PAGE, bit) != (2, 2)
            if real.notices(number, bytes(data)) != counts:
                wrong.append((number, offset, bit, counts))
        assert wrong == []

    def test_most_bytes_count(self, real: Wal) -> None:
        used = [covered.count(1) / real.size for covered in real.covered[:-1]]
        assert min(used) > 0.9, "the test above would say little"

    def test_page_headers_alone_show_every_flipped_bit_but_those_of_lengths(self, real: Wal) -> None:
        data, name = real.segments[1], real.names[1]
        for page in (0, 1, 60, real.size // PAGE - 2):
            for offset in (0, 1, 3, *range(4, 16)):
                for bit in range(8):
                    flipped = bytearray(data)
                    flipped[page * PAGE + offset] ^= 1 << bit
                    assert is_damaged(bytes(flipped), name, records=False), (page, offset, bit)

    def test_a_page_that_was_lost_or_went_elsewhere_is_noticed(self, real: Wal) -> None:
        data, name = real.segments[1], real.names[1]
        for page in (
            bytes(PAGE),
            data[7 * PAGE : 8 * PAGE],
            b"<html>".ljust(PAGE),
            real.segments[2][5 * PAGE :][:PAGE],
        ):
            assert findings(data[: 5 * PAGE] + page + data[6 * PAGE :], name, records=False)

    def test_the_offset_is_that_of_the_damage(self, real: Wal) -> None:
        data, name = bytearray(real.segments[1]), real.names[1]
        data[5 * PAGE + 1] ^= 1
        data[60 * PAGE + 4000] ^= 1
        first, second = findings(bytes(data), name)
        assert first.offset == 5 * PAGE
        assert 60 * PAGE - 2 * PAGE < second.offset <= 60 * PAGE + 4000
        assert f"byte {5 * PAGE}" in str(first)

    def test_after_a_promotion(self, tmp_path: Path) -> None:
        primary = PostgresServer.create(server_directory(tmp_path / "primary"))
        archive = server_directory(tmp_path / "archive")
        with primary:
            primary.archive_with(f"cp %p {archive}/%f")
            with primary.standby(server_directory(tmp_path / "standby")) as standby:
                primary.query("CREATE TABLE t AS SELECT g FROM generate_series(1, 30000) g")
                primary.switch_wal()
                primary.query("INSERT INTO t VALUES (1)")
                reached = primary.value("SELECT pg_current_wal_insert_lsn()")
                wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s", [reached]), what="the standby")
                standby.promote()
                standby.query("INSERT INTO t SELECT g FROM generate_series(1, 1000) g")
                standby.wait_archived(standby.switch_wal())
        # What the old timeline's last segment held beyond the switch is of a file of before, or zeros.
        places = [*archive.iterdir(), *(standby.data / "pg_wal").iterdir()]
        segments = [(name, path) for path in places if (name := parse_wal_name(path.name)) and name.kind in FULL]
        assert {name.timeline for name, _ in segments} == {1, 2}
        assert "000000010000000000000004" in {name.segment_name for name, _ in segments}, "where timeline 1 ended"
        for name, path in segments:
            data = path.read_bytes()
            if is_of(data, name):
                assert findings(data, name) == []


def is_of(data: bytes, name: WalName) -> bool:
    """Tell whether a file in ``pg_wal`` holds the segment that it is named for, and wasn't only made for it."""
    return data[0] != 0 and parse_page_header(data).page_address == name.start_lsn()


class TestWhereWalEnds:
    """What may follow, and what may not."""

    END = 40
    """The page where it ends, of 128."""

    def old(self, *, timeline: int = 1, number: int = 1) -> bytes:
        return segment(number, timeline=timeline)

    def test_zeros(self) -> None:
        assert findings(segment(3)[: self.END * PAGE].ljust(SIZE, b"\0")) == []

    def test_the_segment_that_the_file_was_before(self) -> None:
        assert findings(segment(3)[: self.END * PAGE] + self.old()[self.END * PAGE :]) == []

    def test_a_segment_of_the_parent_timeline_with_a_higher_address(self) -> None:
        name = parse_wal_name(segment_name(3, timeline=2))
        assert name is not None
        data = segment(3, timeline=2)[: self.END * PAGE] + self.old(number=9)[self.END * PAGE :]
        assert findings(data, name) == []

    def test_within_a_page_of_zeros(self) -> None:
        data = segment(3)
        page = next(page for page in range(PAGE, SIZE, PAGE) if struct.unpack_from("=I", data, page + 16)[0] < 5000)
        cut = page + 24 + struct.unpack_from("=I", data, page + 16)[0]
        assert findings(data[:cut].ljust(SIZE, b"\0")) == []

    @pytest.mark.parametrize("rest", [b"\0" * SIZE, b"junk" * SIZE])
    def test_a_partial_segment_may_end_in_anything(self, rest: bytes) -> None:
        data = segment(3)[: self.END * PAGE]
        assert findings(data + rest[: SIZE - len(data)], PARTIAL) == []
        tail = segment(3)[(self.END + 1) * PAGE :]
        assert findings(data + rest[:PAGE] + tail, PARTIAL) == []

    def test_a_segment_may_not_end_in_junk(self) -> None:
        data = segment(3)[: self.END * PAGE]
        (finding, *_) = findings((data + b"junk" * SIZE)[:SIZE], records=False)
        assert finding.offset == self.END * PAGE

    @pytest.mark.parametrize("records", [False, True])
    def test_an_old_page_may_not_be_in_another_place_than_it_was(self, records: bool) -> None:
        data = segment(3)[: self.END * PAGE] + self.old()[(self.END + 1) * PAGE :][:PAGE]
        (finding,) = findings(data.ljust(SIZE, b"\0"), records=records)
        assert finding.offset == self.END * PAGE
        assert "a page header that no page can have there" in str(finding)

    @pytest.mark.parametrize("records", [False, True])
    def test_wal_may_not_go_on_after_its_end(self, records: bool) -> None:
        data = segment(3)
        for hole in (bytes(PAGE), self.old()[self.END * PAGE :][:PAGE]):
            broken = data[: self.END * PAGE] + hole + data[(self.END + 1) * PAGE :]
            assert [finding.offset for finding in findings(broken, records=records)] == [self.END * PAGE]

    def test_timelines_never_fall(self) -> None:
        name = parse_wal_name(segment_name(3, timeline=2))
        assert name is not None
        parent, child = segment(3, timeline=1), segment(3, timeline=2)
        middle = self.END * PAGE
        assert findings(parent[:middle] + child[middle:], name, records=False) == []
        assert is_damaged(child[:middle] + parent[middle : middle + PAGE] + child[middle + PAGE :], name, records=False)


@pytest.mark.parametrize("flag", [0x0008, 0])
def test_a_record_that_a_crash_cut_is_given_up_where_the_server_says_so(flag: int) -> None:
    data = segment(3)
    page = next(start for start in range(PAGE, SIZE, PAGE) if struct.unpack_from("=I", data, start + 16)[0])
    # The server goes on at the begin of the page that the record should have gone on on.
    header = struct.pack("=HHIQI4x", MAGIC, flag, 1, 3 * SIZE + page, 0)
    written = data[:page] + header + record(b"overwritten")
    assert bool(findings(written.ljust(SIZE, b"\0"))) == (flag == 0)


@pytest.mark.parametrize("block_size", [0, 512, 8191, 1 << 31])
def test_impossible_page_sizes_are_refused(block_size: int) -> None:
    data = bytearray(segment(3))
    struct.pack_into("=I", data, 36, block_size)
    with pytest.raises(IntegrityError, match="pages have"):
        findings(bytes(data))


@pytest.mark.parametrize("length", [0, 10, 100, SIZE - 1])
def test_an_incomplete_segment_is_refused(length: int) -> None:
    with pytest.raises(IntegrityError):
        findings(segment(3)[:length])
