import resource
import time
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.backup import pack
from barman_cloud.backup.pack import GIB, MIB, ArchivePlan, archive_capacity, member_size, part_size_for, plan_archives
from barman_cloud.backup.scan import FileRun, ScannedBase
from barman_cloud.store.base import Capabilities

TIB = 1 << 40


def tree(*directories: Sequence[int], base: str = "data") -> ScannedBase:
    """A tree with files of the given sizes, directory by directory."""
    result = ScannedBase(base, "/data", directories=["", *(f"base/{number}" for number in range(len(directories)))])
    for number, sizes in enumerate(directories):
        names = [f"{16384 + file}" for file in range(len(sizes))]
        result.runs.append(FileRun(f"base/{number}", names, array("Q", sizes)))
    return result


def files(plans: Sequence[ArchivePlan]) -> list[tuple[str, str, int]]:
    return [
        (run.directory, name, size)
        for plan in plans
        for run in plan.runs
        for name, size in zip(run.names, run.sizes, strict=True)
    ]


SIZES = st.lists(st.lists(st.integers(0, 200 * MIB), max_size=30), max_size=5)


@given(SIZES, st.integers(1, 16), st.integers(MIB, 500 * MIB))
def test_every_file_is_in_exactly_one_archive_and_none_is_above_the_limit(
    sizes: list[list[int]], jobs: int, limit: int
) -> None:
    whole = tree(*sizes)
    plans = plan_archives([whole], jobs=jobs, max_archive_size=limit)
    assert files(plans) == files([ArchivePlan("data", "/data", 0, runs=whole.runs)])
    assert [plan.part for plan in plans] == list(range(len(plans)))
    for plan in plans:
        content = sum(member_size(size) for run in plan.runs for size in run.sizes)
        entries = len(plan.directories) + len(plan.specials)
        assert plan.size == content + entries * pack.MEMBER_OVERHEAD
        assert plan.size <= limit or plan.file_count == 1


def test_the_first_archive_of_each_base_has_all_its_directories() -> None:
    plans = plan_archives([tree([GIB] * 20), tree([], base="16384")], jobs=2, max_archive_size=100 * GIB)
    assert [len(plan.directories) for plan in plans if plan.base == "data"] == [2] + [0] * (len(plans) - 2)
    assert [plan.directories for plan in plans if plan.base == "16384"] == [["", "base/0"]]


def test_a_small_cluster_is_one_archive() -> None:
    assert len(plan_archives([tree([8192] * 1000)], jobs=8, max_archive_size=100 * GIB)) == 1


def test_a_large_cluster_gives_every_worker_several_archives_of_about_the_same_size() -> None:
    plans = plan_archives([tree([16 * MIB] * 1000)], jobs=4, max_archive_size=100 * GIB)
    sizes = [plan.size for plan in plans]
    assert 32 <= len(plans) <= 34
    assert max(sizes[:-1]) - min(sizes[:-1]) <= 17 * MIB


def test_archives_stay_moderate_however_large_the_cluster_is() -> None:
    plans = plan_archives([tree([GIB] * 5000)], jobs=2, max_archive_size=100 * GIB)
    assert max(plan.size for plan in plans) <= pack.MAX_TARGET


def test_a_file_above_the_limit_is_an_archive_of_its_own() -> None:
    plans = plan_archives([tree([10, 5 * GIB, 10])], jobs=1, max_archive_size=GIB)
    assert [plan.file_count for plan in plans] == [1, 1, 1]


def test_the_largest_archives_are_made_first() -> None:
    plans = pack.in_order_of_work(plan_archives([tree([GIB, 5, 2 * GIB])], jobs=2, max_archive_size=GIB))
    assert [plan.size for plan in plans] == sorted((plan.size for plan in plans), reverse=True)


@pytest.mark.parametrize("size", [0, 4 * GIB, 100 * GIB, 5 * TIB])
@pytest.mark.parametrize("capabilities", [Capabilities(), Capabilities(max_parts=50_000, min_part_size=64 << 10)])
def test_an_archive_of_any_size_stays_within_the_number_of_parts(size: int, capabilities: Capabilities) -> None:
    part_size = part_size_for(size, capabilities)
    assert part_size >= capabilities.min_part_size
    assert size <= part_size * capabilities.max_parts * 0.8
    assert part_size >= pack.DEFAULT_PART_SIZE


def test_a_five_tebibyte_cluster_stays_within_ten_thousand_parts_and_default_memory() -> None:
    plans = plan_archives([tree([GIB] * 5 * 1024)], jobs=2, max_archive_size=5 * TIB)
    for plan in plans:
        part_size = part_size_for(plan.size, Capabilities())
        assert plan.size <= part_size * 10_000
        assert part_size == pack.DEFAULT_PART_SIZE


def test_the_smallest_part_is_what_the_user_asked_for() -> None:
    assert part_size_for(MIB, Capabilities(), 64 * MIB) == 64 * MIB
    assert part_size_for(MIB, Capabilities(), 1 * MIB) == pack.DEFAULT_PART_SIZE


@given(st.integers(0, 5 * TIB))
def test_a_planned_archive_fits_its_own_capacity(size: int) -> None:
    capabilities = Capabilities(max_object_size=5 * TIB)
    capacity = archive_capacity(part_size_for(size, capabilities), capabilities, 10 * TIB)
    assert size <= capacity


def test_a_million_files_are_packed_in_bounded_time_and_memory() -> None:
    directories = [[8192] * 50_000 for _ in range(20)]
    whole = tree(*directories)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    plans = pack.in_order_of_work(plan_archives([whole], jobs=8, max_archive_size=100 * GIB))
    assert time.process_time() - began < 10
    assert sum(plan.file_count for plan in plans) == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
