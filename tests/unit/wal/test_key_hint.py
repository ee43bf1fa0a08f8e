from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.wal import key_hint
from barman_cloud.wal.key_hint import Seen
from tests.support.segments import segment_name
from tests.support.spools import opened

LAYOUT = Layout("prod", "main")


def _listed(*names: str) -> list[WalObject]:
    parsed = [LAYOUT.parse_wal_key(LAYOUT.wal(name)) for name in sorted(names)]
    return [found for found in parsed if found is not None]


def test_the_segments_of_one_suffix_that_follow_are_expected() -> None:
    names = [segment_name(number) for number in range(5)]
    seen = key_hint.learn(names[1], _listed(*(f"{name}.gz" for name in names)))
    assert seen == Seen(".gz", names[4])
    assert seen is not None
    assert seen.expects(names[2])
    assert seen.expects(names[4])
    assert not seen.expects(segment_name(5))
    assert not seen.expects(segment_name(3, timeline=2))


def test_it_ends_where_the_suffix_changes() -> None:
    names = [f"{segment_name(0)}.gz", f"{segment_name(1)}.gz", f"{segment_name(2)}.zst", f"{segment_name(3)}.zst"]
    assert key_hint.learn(segment_name(0), _listed(*names)) == Seen(".gz", segment_name(1))


def test_other_files_do_not_count() -> None:
    name = segment_name(0)
    names = [name, f"{name}.00000028.backup", f"{segment_name(1)}.partial", segment_name(2)]
    assert key_hint.learn(name, _listed(*names)) == Seen("", segment_name(2))


def test_nothing_is_learnt_about_a_segment_that_is_not_there() -> None:
    assert key_hint.learn(segment_name(1), _listed(segment_name(0), segment_name(2))) is None
    assert key_hint.learn(segment_name(1), []) is None


def test_it_is_kept_between_calls(tmp_path: Path) -> None:
    assert key_hint.load(opened(tmp_path)) is None
    for seen in (Seen(".lz4", segment_name(7)), Seen("", segment_name(8))):
        key_hint.save(opened(tmp_path), seen)
        assert key_hint.load(opened(tmp_path)) == seen
    (tmp_path / "gone").mkdir()
    gone = opened(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    key_hint.save(gone, seen)


@given(content=st.binary(max_size=120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_else_in_the_file_is_no_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seen").write_bytes(content)
    seen = key_hint.load(opened(tmp_path))
    assert seen is None or len(seen.last) == 24
