"""A user who owns or shares the directory around the spool can't turn ``--parallel`` against the server's files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from tests.support.background_processes import background_processes, ended_background_processes
from tests.support.commands import run_command
from tests.support.ports import wait_for
from tests.support.segments import Cluster, segment, segment_name

STRANGER = 12345
Run = Callable[..., subprocess.CompletedProcess[str]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def run(tmp_path: Path, spool: Path) -> Iterator[Run]:
    """Run ``wal-archive`` or ``wal-restore`` with --parallel on one archive."""
    url = f"file://{tmp_path}/store"
    (tmp_path / "store").mkdir()
    with open_store(url) as store:
        for number in range(1, 9):
            store.put(Layout("", "restored").wal(segment_name(number)), segment(number))

    def command(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        server = "archived" if name == "wal-archive" else "restored"
        return run_command(name, "--parallel", "4", "--spool-dir", spool, url, server, *arguments)

    with ended_background_processes(spool):
        yield command


def replace_by_link(spool: Path, kind: str, target: Path) -> None:
    """Do as the owner of the spool's parent can: put a link in the place of each directory."""
    for process in background_processes(spool):
        process.kill()
        process.wait(60)
    for directory in list(spool.glob(f"{kind}-*")):
        shutil.rmtree(directory)
        directory.symlink_to(target)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("owner", [pytest.param(STRANGER, marks=needs_root), os.geteuid()])
class TestALinkToALivePgWal:
    def test_archiving_goes_on_without_touching_it(self, run: Run, cluster: Cluster, spool: Path, owner: int) -> None:
        paths = [cluster.add(number) for number in range(1, 9)]
        assert run("wal-archive", paths[0]).returncode == 0
        replace_by_link(spool, "archive", cluster.wal)
        spool.chmod(0o777)
        os.chown(spool, owner, -1)
        before = content(cluster.wal)
        for path in paths[1:4]:
            done = run("wal-archive", path)
            assert done.returncode == 0
            assert "archiving without --parallel" in done.stderr
            cluster.archived(path)
        assert content(cluster.wal) == before
        assert background_processes(spool) == []
        assert sorted(os.listdir(cluster.wal)) == sorted([*before, "archive_status"])

    def test_recovery_goes_on_without_touching_it(
        self, run: Run, cluster: Cluster, tmp_path: Path, spool: Path, owner: int
    ) -> None:
        for number in range(1, 9):
            cluster.add(number)
        destination = tmp_path / "RECOVERYXLOG"
        assert run("wal-restore", segment_name(1), destination).returncode == 0
        replace_by_link(spool, "restore", cluster.wal)
        spool.chmod(0o777)
        os.chown(spool, owner, -1)
        before = content(cluster.wal)
        for number in (2, 3, 4):
            done = run("wal-restore", segment_name(number), destination)
            assert done.returncode == 0
            assert "WARNING: restoring without a spool" in done.stderr
            assert destination.read_bytes() == segment(number)
        assert content(cluster.wal) == before
        assert background_processes(spool) == []
        assert sorted(os.listdir(cluster.wal)) == sorted([*before, "archive_status"])


def test_a_directory_that_is_replaced_under_the_background_process(
    run: Run, cluster: Cluster, spool: Path, tmp_path: Path
) -> None:
    paths = [cluster.add(number) for number in range(1, 9)]
    assert run("wal-archive", paths[0]).returncode == 0
    wait_for(lambda: list(spool.glob(f"archive-*/{paths[4].name}")), what="segments to be archived ahead")
    (directory,) = (path.parent for path in spool.glob("archive-*/requests"))
    moved = directory.rename(tmp_path / "moved")
    directory.symlink_to(cluster.wal)
    before = content(cluster.wal)
    for path in paths[:7]:
        cluster.archived(path)
    fifo = os.open(moved / "requests", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fifo, f"{paths[7]}\n".encode())
    os.close(fifo)
    wait_for(lambda: not (moved / paths[4].name).exists(), what="old entries to be dropped")
    assert content(cluster.wal) == before
