"""Metadata that somebody else may have written: only errors of the tree come out, and nothing that can't be shown."""

from __future__ import annotations

import json
import warnings
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barman_cloud.archive import archives_json
from barman_cloud.catalog import backup_info, deletion_mark, keep, summary
from barman_cloud.catalog.backup_info import STORED_KEYS, BackupInfo
from barman_cloud.catalog.catalog import CatalogView
from barman_cloud.catalog.wal_cleanup import plan_wal_cleanup
from barman_cloud.errors import BarmanCloudError, IntegrityError
from barman_cloud.report.terminal import printable
from tests.unit.catalog.builders import memory_catalog, segment

ID = "20260101T000000"

_numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 1e999, 10**400])
_plain = st.recursive(
    st.none() | st.booleans() | _numbers | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
_snapshot = st.fixed_dictionaries({"mount": _plain, "provider": _plain}) | _plain
_snapshots = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["aws", "azure", "gcp", "other"]) | _plain,
        "provider_info": _plain,
        "snapshots": st.lists(_snapshot, max_size=2) | _plain,
    }
)
_literals = (_plain | _snapshots).map(repr)
_times = st.datetimes().map(str) | st.sampled_from(
    ["0001-01-01 00:00:00+14:00", "9999-12-31 23:59:59-12:00", "1900-01-01 00:00:00+00:19:32", "99999999999", "12:00 X"]
)
_values = _literals | _times | st.text() | st.sampled_from(["None", "DONE", "STARTED", segment(1), "-1", "'\\ud800'"])
_lines = st.tuples(st.sampled_from(STORED_KEYS), _values).map(lambda pair: f"{pair[0]}={pair[1]}")
_files = st.lists(_lines | st.text(max_size=40) | st.sampled_from([*backup_info.DELETION_LINES]), max_size=8).map(
    "\n".join
)


def is_json_for_everybody(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def shown(info: BackupInfo) -> None:
    """Show a backup in every form, as the commands do."""
    view = CatalogView({info.backup_id: info})
    document = is_json_for_everybody(summary.list_as_json(view))["backups_list"][0]
    for key in ("begin_time_iso", "end_time_iso"):
        if key in document:
            assert datetime.fromisoformat(document[key]).utcoffset().total_seconds() % 60 == 0  # type: ignore[union-attr]
    is_json_for_everybody(summary.show_as_json(info))
    for text in (summary.list_as_text(view, {}), summary.show_as_text(info, "main")):
        assert all(printable(line, "ascii") for line in text.splitlines() if line)
    plan_wal_cleanup({info.backup_id: info}, {}, info.backup_id, by_policy=True, by_folder=True)


@given(_files)
@settings(max_examples=150, deadline=None)
@example("copy_stats={'a': 1e999}")
@example("copy_stats={1: 2}")
@example("copy_stats={'copy_time': 'long', 'analysis_time': None}")
@example("included_files=[b'x']")
@example("timeline=99999999999999999999999")
@example("begin_time=0001-01-01 00:00:00+14:00\nstatus=DONE\nend_time=0001-01-01 00:00:00+00:19:32")
@example("tablespaces=[('a', 1e308, 'b')]")
@example("tablespaces=" + "(" * 150 + ")" * 150)
@example("copy_stats=" + "[" * 5000)
@example("copy_stats=" + "-" * 5000 + "1")
@example("copy_stats=" + "1+" * 5000 + "1")
@example("backup_label='\\d'")
def test_only_errors_of_the_tree_come_out_of_a_backup_info(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            info = backup_info.parse(text, ID)
        except BarmanCloudError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 500
            return
        shown(info)


@given(st.binary(max_size=300))
@settings(deadline=None)
@example(b"\xff")
@example(b"status=DONE\nbegin_time=\x00")
def test_only_errors_of_the_tree_come_out_of_a_catalog(content: bytes) -> None:
    catalog = memory_catalog()
    catalog.store.put(catalog.layout.backup_info(ID), content)
    try:
        view = catalog.load()
    except BarmanCloudError:
        return
    is_json_for_everybody(summary.list_as_json(view))
    assert ID in summary.list_as_text(view, {})


@given(st.binary(max_size=200))
@settings(deadline=None)
@example(b"standalone\n")
@example(bytes(keep.MAX_SIZE + 1))
def test_any_annotation_keeps_and_is_shown_in_one_line(content: bytes) -> None:
    catalog = memory_catalog()
    catalog.store.put(catalog.layout.keep(ID), content)
    annotation = keep.read(catalog, ID)
    assert annotation is not None
    assert keep.read_all(catalog) == {ID: annotation}
    table = summary.list_as_text(CatalogView({ID: BackupInfo(ID, status="DONE")}), {ID: annotation})
    assert len(table.split("\n")) == 3
    assert "KEEP:" in table


@given(_literals | st.text())
@settings(deadline=None)
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example('{"version": 1, "checksum_algorithm": "crc32c", "archives": [{"name": 1}]}')
@example('{"version": 1, "checksum_algorithm": "crc32c", "archives": [[]]}')
@example('{"version": 1, "checksum_algorithm": "crc32c", "archives": 1}')
def test_only_errors_of_the_tree_come_out_of_a_list_of_archives(text: str) -> None:
    try:
        archives_json.parse(text)
    except BarmanCloudError as error:
        assert isinstance(error, IntegrityError)


@given(st.text() | _literals.map(lambda text: f"#original {text}") | st.just("#original " + "[" * 100_000))
@settings(deadline=None)
def test_only_text_comes_out_of_a_mark(text: str) -> None:
    assert isinstance(deletion_mark.original_of(text), str | None)


@pytest.mark.parametrize("what", ["backup_info", "keep"])
def test_small_objects_that_are_large_are_not_read(what: str) -> None:
    catalog = memory_catalog()
    key = getattr(catalog.layout, what)(ID)
    catalog.store.put(key, b"x" * (4 << 20))
    assert ID in {*catalog.load().unreadable, *keep.read_all(catalog)}
    assert len(keep.read(catalog, ID) or "") < 100
