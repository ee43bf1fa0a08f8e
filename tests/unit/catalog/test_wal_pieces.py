from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.catalog.layout import Layout, WalPiece
from barman_cloud.catalog.wal_pieces import FAN, Extents, Stored, contiguous_end, cover, run_to_merge

SEGMENT = "000000010000000000000007"
LAYOUT = Layout("p", "main")


def piece(begin: int, end: int, epoch: int = 1) -> WalPiece:
    return WalPiece(LAYOUT.piece(SEGMENT, begin, end, epoch), SEGMENT, begin, end, epoch)


ranges = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
pieces = st.lists(st.builds(lambda span, epoch: piece(*span, epoch), ranges, st.integers(1, 3)), max_size=25)


@given(pieces)
def test_each_byte_comes_from_the_newest_receiver_that_stored_it_up_to_the_first_gap(stored: list[WalPiece]) -> None:
    shares = cover(stored)
    position = 0
    for share in shares:
        assert share.begin == position < share.end
        assert share.piece.begin <= share.begin
        assert share.end <= share.piece.end
        for byte in range(share.begin, share.end):
            newest = max(one.epoch for one in stored if one.begin <= byte < one.end)
            assert share.piece.epoch == newest
        position = share.end
    assert contiguous_end(stored) == position
    assert not any(one.begin <= position < one.end for one in stored)


@given(st.lists(ranges))
def test_the_durable_prefix_ends_at_the_first_byte_that_is_not(spans: list[tuple[int, int]]) -> None:
    extents, durable = Extents(), set[int]()
    for begin, end in spans:
        extents.add(begin, end)
        durable.update(range(begin, end))
        assert set(range(extents.prefix)) <= durable
        assert extents.prefix not in durable


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=4 * FAN))
def test_pieces_stay_few_and_hold_the_same_bytes(steps: list[tuple[int, bool]]) -> None:
    stored: list[Stored] = []
    end = 0
    for size, _ in steps * 8:
        stored.append(Stored(piece(end, end + size), 0))
        end += size
        while run := run_to_merge(stored):
            parts = stored[run.start : run.stop]
            assert len(parts) >= FAN
            assert len({part.level for part in parts}) == 1
            merged = piece(parts[0].piece.begin, parts[-1].piece.end)
            stored[run.start : run.stop] = [Stored(merged, parts[0].level + 1)]
        assert len(stored) < 4 * FAN
        assert contiguous_end(one.piece for one in stored) == end


def test_what_does_not_follow_is_not_merged() -> None:
    apart = [Stored(piece(2 * number, 2 * number + 1), 0) for number in range(3 * FAN)]
    assert run_to_merge(apart) is None
    assert run_to_merge([]) is None


def test_keys_of_pieces_are_parsed_as_they_are_built() -> None:
    key = LAYOUT.piece(SEGMENT.lower(), 0x1234, 0x1000000, 42)
    assert key == f"p/main/wal_pieces/{SEGMENT}/00001234-01000000.000000000042"
    assert LAYOUT.parse_piece_key(key) == WalPiece(key, SEGMENT, 0x1234, 0x1000000, 42)
    for wrong in (key[:-1], f"{key}.gz", key.replace("wal_pieces", "wals"), LAYOUT.piece(SEGMENT, 5, 5, 1)):
        assert LAYOUT.parse_piece_key(wrong) is None
