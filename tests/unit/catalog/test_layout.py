"""Keys: built, parsed, and both ways round."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.catalog.layout import Layout, parse_wal_folder
from barman_cloud.errors import UsageError
from barman_cloud.store.base import StoreURL

ID = "20261122T121102"
LAYOUT = Layout("prod", "main")
SEGMENT = "0000000100000000000000A3"


def test_keys_of_a_backup() -> None:
    assert LAYOUT.backup_dir(ID) == f"prod/main/base/{ID}/"
    assert LAYOUT.backup_info(ID) == f"prod/main/base/{ID}/backup.info"
    assert LAYOUT.backup_label(ID) == f"prod/main/base/{ID}/backup_label"
    assert LAYOUT.keep(ID) == f"prod/main/base/{ID}/annotations/keep"
    assert LAYOUT.archives_json(ID) == f"prod/main/base/{ID}/archives.json"
    assert LAYOUT.manifest(ID) == f"prod/main/base/{ID}/backup_manifest"
    assert LAYOUT.archive(ID, "data") == f"prod/main/base/{ID}/data.tar"
    assert LAYOUT.archive(ID, "data", 1, ".gz") == f"prod/main/base/{ID}/data_0001.tar.gz"
    assert LAYOUT.archive(ID, "16384", 12345) == f"prod/main/base/{ID}/16384_12345.tar"


def test_an_empty_prefix_adds_no_slash() -> None:
    assert Layout("", "main").backup_info(ID) == f"main/base/{ID}/backup.info"


def test_slashes_around_the_path_of_a_url_do_not_count() -> None:
    url = StoreURL("aws-s3", "b", "a/b/", "s3://b/a/b/")
    assert Layout.of(url, "main").root == "a/b/main/"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (SEGMENT, f"0000000100000000/{SEGMENT}"),
        (SEGMENT.lower(), f"0000000100000000/{SEGMENT.lower()}"),
        ("0000000a0000000b000000a3", "0000000A0000000B/0000000a0000000b000000a3"),
        (f"{SEGMENT}.partial", f"0000000100000000/{SEGMENT}.partial"),
        (f"{SEGMENT}.00000028.backup", f"0000000100000000/{SEGMENT}.00000028.backup"),
        ("0000000A.history", "0000000A.history"),
    ],
)
@pytest.mark.parametrize(
    ("suffix", "compression"),
    [
        ("", None),
        (".gz", "gzip"),
        (".bz2", "bzip2"),
        (".xz", "xz"),
        (".snappy", "snappy"),
        (".zst", "zstd"),
        (".lz4", "lz4"),
    ],
)
def test_wal_keys_both_ways(name: str, key: str, suffix: str, compression: str | None) -> None:
    assert LAYOUT.wal(name, suffix) == f"prod/main/wals/{key}{suffix}"
    wal = LAYOUT.parse_wal_key(LAYOUT.wal(name, suffix))
    assert wal is not None
    assert (wal.name, wal.compression) == (name, compression)
    assert wal.segment == (None if name.endswith("history") else name[:24].upper())
    assert wal.is_history == name.endswith("history")
    assert wal.timeline == int(name[:8], 16)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "junk",
        f"{SEGMENT}.md5",
        f"{SEGMENT}.gz.gz",
        f"{SEGMENT}0",
        f"{SEGMENT}.partial.backup",
        f"{SEGMENT}.backup",
        "00000001.history.tmp",
        f"{SEGMENT}\n",
    ],
)
def test_other_names_below_wals_are_no_wal(name: str) -> None:
    assert LAYOUT.parse_wal_key(f"prod/main/wals/0000000100000000/{name}") is None


def test_keys_of_another_server_are_not_ours() -> None:
    assert Layout("prod", "other").parse_wal_key(LAYOUT.wal(SEGMENT)) is None
    assert Layout("prod", "other").parse_archive_key(LAYOUT.archive(ID, "data")) is None


@settings(deadline=None)
@given(
    st.sampled_from(["data", "0", "16384", "163840"]),
    st.integers(0, 100_000),
    st.sampled_from(
        [("", None), (".gz", "gzip"), (".bz2", "bzip2"), (".snappy", "snappy"), (".lz4", "lz4"), (".zst", "zstd")]
    ),
)
def test_archive_keys_both_ways(base: str, part: int, suffix: tuple[str, str | None]) -> None:
    archive = LAYOUT.parse_archive_key(LAYOUT.archive(ID, base, part, suffix[0]))
    assert archive is not None
    assert (archive.backup_id, archive.base, archive.part, archive.compression) == (ID, base, part, suffix[1])


@pytest.mark.parametrize(
    "name",
    [
        "backup.info",
        "backup_label",
        "data.tar.xz",
        "data.txt",
        "data_.tar",
        "database.tar",
        "x/data.tar",
        "data.tar.gz.1",
    ],
)
def test_other_objects_of_a_backup_are_no_archives(name: str) -> None:
    assert LAYOUT.parse_archive_key(f"prod/main/base/{ID}/{name}") is None


def test_the_backup_of_a_key() -> None:
    assert LAYOUT.backup_id_of(f"prod/main/base/{ID}/") == ID
    assert LAYOUT.backup_id_of(f"prod/main/base/{ID}/annotations/keep") == ID
    assert LAYOUT.backup_id_of("prod/main/base/stray") is None
    assert LAYOUT.backup_id_of("prod/main/wals/x/") is None


@pytest.mark.parametrize("server", ["", "/main", "main/", "a//b", ".", "..", "a/../b"])
def test_server_names_that_would_leave_their_place_are_refused(server: str) -> None:
    with pytest.raises(UsageError):
        Layout("prod", server)


def test_a_server_name_may_have_levels() -> None:
    assert Layout("", "team/main").root == "team/main/"


def test_wal_folders() -> None:
    assert parse_wal_folder("0000000100000002") == (1, 2)
    assert parse_wal_folder("00000001") is None
    assert parse_wal_folder("zzzzzzzz00000002") is None
