from __future__ import annotations

import json

import pytest

from barman_cloud.archive.archives_json import ArchiveRecord, DamagedFile, PageChecksums, dump, parse
from barman_cloud.archive.checksum import Tally, crc32c
from barman_cloud.errors import IntegrityError

RECORDS = (
    ArchiveRecord("data.tar.lz4", 123_456, 0x00E30692, "lz4", 1003),
    ArchiveRecord("16384_0001.tar", 0, 0, None, 0),
)


def test_round_trip() -> None:
    assert parse(dump(RECORDS)) == RECORDS
    assert json.loads(dump(RECORDS)) == {
        "version": 1,
        "checksum_algorithm": "crc32c",
        "archives": [
            {"name": "data.tar.lz4", "size": 123456, "checksum": "00e30692", "compression": "lz4", "members": 1003},
            {"name": "16384_0001.tar", "size": 0, "checksum": "00000000", "compression": None, "members": 0},
        ],
    }


def test_keys_of_later_versions_are_ignored() -> None:
    document = json.loads(dump(RECORDS))
    document["more"] = document["archives"][0]["more"] = 1
    assert parse(json.dumps(document)) == RECORDS


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000, "", "[]", "{}", "null", '{"version": 1, "checksum_algorithm": "crc32c", "archives": [{}]}']
    + [
        dump(RECORDS).replace(old, new)
        for old, new in [
            ('"lz4"', "5"),
            ("123456", '"123456"'),
            ("123456", "-1"),
            ("00e30692", "xyz"),
            ('"data.tar.lz4"', "null"),
            ('"members": 1003', '"members": null'),
        ]
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"s3://b/archives\.json: not a readable list"):
        parse(text, "s3://b/archives.json")


@pytest.mark.parametrize(("old", "new"), [('"version": 1', '"version": 2'), ("crc32c", "blake3")])
def test_an_unknown_version_is_refused_with_a_hint(old: str, new: str) -> None:
    with pytest.raises(IntegrityError, match="unknown here") as caught:
        parse(dump(RECORDS).replace(old, new))
    assert caught.value.hint


def test_tally_counts_what_passes() -> None:
    tally = Tally([b"1234", b"", memoryview(b"56789")])
    assert b"".join(tally) == b"123456789"
    assert (tally.size, tally.crc32c) == (9, crc32c(b"123456789"))


def test_what_the_page_checksums_told_is_recorded_and_does_not_disturb_readers() -> None:
    damage = PageChecksums(9, 3, (DamagedFile("base/5/16384.1", ((7, 8), (600, 600))),))
    text = dump(RECORDS, damage)
    assert parse(text) == RECORDS
    assert json.loads(text)["page_checksums"] == {
        "pages": 9,
        "failed": 3,
        "files": [{"path": "base/5/16384.1", "blocks": [[7, 8], [600, 600]]}],
    }


def test_many_damaged_blocks_are_cut_short_in_words() -> None:
    runs = tuple((number, number + number % 2) for number in range(0, 27, 3))
    assert DamagedFile("x", runs[:2]).describe() == "0, 3-4"
    assert DamagedFile("x", runs).describe() == "0, 3-4, 6, 9-10, 12 …"
