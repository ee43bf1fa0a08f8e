"""What ``wal-archive`` and ``wal-restore`` import: they run once per segment, and every module costs them time.

A module that shows up here by accident makes these tests fail; one that is needed is added to the lists on purpose.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from tests.support.background_processes import ended_background_processes
from tests.support.ports import wait_for
from tests.support.postgres import command_environment
from tests.support.segments import Cluster, segment, segment_name
from tests.support.servers import StoreServer

OURS = {
    "barman_cloud",
    "barman_cloud.archive",
    "barman_cloud.archive.buffers",
    "barman_cloud.archive.compression",
    "barman_cloud.archive.compressors",
    "barman_cloud.archive.decompressors",
    "barman_cloud.archive.libraries",
    "barman_cloud.buffers",
    "barman_cloud.catalog",
    "barman_cloud.catalog.layout",
    "barman_cloud.cli",
    "barman_cloud.cli.command",
    "barman_cloud.cli.options",
    "barman_cloud.cli.plain",
    "barman_cloud.cli.start",
    "barman_cloud.cli.values",
    "barman_cloud.deadline",
    "barman_cloud.errors",
    "barman_cloud.logs",
    "barman_cloud.postgres",
    "barman_cloud.postgres.wal",
    "barman_cloud.postgres.wal_check",
    "barman_cloud.wal",
    "barman_cloud.wal.spool",
}
ARCHIVE = OURS | {
    "barman_cloud.catalog.identity",
    "barman_cloud.cli.wal_archive",
    "barman_cloud.wal.archive_spool",
    "barman_cloud.wal.archiver",
    "barman_cloud.wal.stored",
    "barman_cloud.wal.wal_file",
    "barman_cloud.wal.background_client",
}
RESTORE = OURS | {
    "barman_cloud.cli.wal_restore",
    "barman_cloud.wal.background_client",
    "barman_cloud.wal.delivery",
    "barman_cloud.wal.key_hint",
    "barman_cloud.wal.restore_spool",
    "barman_cloud.wal.restorer",
    "barman_cloud.wal.stored",
}
QUICK = {
    "barman_cloud",
    "barman_cloud.cli",
    "barman_cloud.cli.start",
    "barman_cloud.deadline",
    "barman_cloud.wal",
    "barman_cloud.wal.background_client",
    "barman_cloud.wal.spool",
}

SMALL = {"__future__", "_blake2", "errno", "gc"}

# What the clients of the store need is the store's own business, but none of this may be part of it.
HEAVY = {
    "argparse",
    "asyncio",
    "azure",
    "backports",
    "boto3",
    "botocore",
    "concurrent.futures",
    "cramjam",
    "dataclasses",
    "dateutil",
    "email",
    "google",
    "http.client",
    "importlib.metadata",
    "gettext",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "psycopg",
    "requests",
    "rich",
    "shutil",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib.request",
    "xml",
    "zstandard",
}

_PROGRAM = """
import sys
before = set(sys.modules)
from barman_cloud.cli import start
def leave(code):
    raise SystemExit(code if "barman_cloud.cli.command" in sys.modules else "quick")
start._leave = leave
name, sys.argv = sys.argv[1], sys.argv[1:]
try:
    getattr(start, name)()
except SystemExit as end:
    code = end.code
print(code, *sorted(set(sys.modules) - before))
"""


def imported(command: str, *arguments: str | Path, environ: dict[str, str] | None = None) -> tuple[str, set[str]]:
    """Run a command in a fresh interpreter; return its exit code (``quick`` for the short way) and what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, command, *map(str, arguments)],
        env=command_environment(environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, *modules = done.stdout.split()
    return code, set(modules)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


def _ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("barman_cloud") and not name.startswith("barman_cloud.store")}


def _others(modules: set[str]) -> set[str]:
    """Return the packages that come neither with us nor with Python."""
    tops = {name.partition(".")[0] for name in modules}
    return {name for name in tops if name not in sys.stdlib_module_names and name != "barman_cloud"}


def test_archiving_one_segment(cluster: Cluster, tmp_path: Path, rclone_s3: StoreServer) -> None:
    place = [*rclone_s3.options, "--lz4", "--spool-dir", tmp_path / "spool", rclone_s3.new_bucket(), "main"]
    # The first call finds out whose the archive is, with our own HTTP client; the later ones know it.
    assert imported("wal_archive", *place, cluster.add(3), environ=dict(rclone_s3.environ))[0] == "0"
    code, modules = imported("wal_archive", *place, cluster.add(4), environ=dict(rclone_s3.environ))
    assert code == "0"
    assert _ours(modules) == ARCHIVE
    assert _others(modules) == {"lz4", "obstore"}
    assert not modules & HEAVY


def test_restoring_one_segment(tmp_path: Path, rclone_s3: StoreServer) -> None:
    url = rclone_s3.new_bucket()
    with open_store(url, environ=rclone_s3.environ) as store:
        for number in (3, 4):
            store.put(Layout("", "main").wal(segment_name(number)), segment(number))
    command = [*rclone_s3.options, "--spool-dir", tmp_path / "spool", url, "main"]
    environ = dict(rclone_s3.environ)
    # The first call lists the archive, with our own HTTP client; the later ones know where the segment is.
    assert imported("wal_restore", *command, segment_name(3), tmp_path / "x", environ=environ)[0] == "0"
    code, modules = imported("wal_restore", *command, segment_name(4), tmp_path / "x", environ=environ)
    assert code == "0"
    assert _ours(modules) == RESTORE
    assert _others(modules) == {"obstore"}
    assert not modules & HEAVY


def test_a_segment_archived_ahead(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    first, second = cluster.add(1), cluster.add(2)
    command = ["--parallel", "2", "--spool-dir", tmp_path / "spool", f"file://{tmp_path}/store", "main"]
    spool = tmp_path / "spool"
    with ended_background_processes(spool):
        assert imported("wal_archive", *command, first)[0] == "0"
        wait_for(lambda: list(spool.glob(f"archive-*/{second.name}")), what="the segment to be archived ahead")
        cluster.archived(first)
        code, modules = imported("wal_archive", *command, second)
    assert code == "quick"
    assert _ours(modules) == QUICK | {"barman_cloud.wal.archive_spool"}
    checksum = {"isal", "isal._isal", "isal._version", "isal.igzip_lib", "isal.isal_zlib", "zlib"}
    assert modules - _ours(modules) <= SMALL | checksum


def test_a_segment_fetched_ahead(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    (tmp_path / "store").mkdir()
    with open_store(url) as store:
        for number in range(1, 4):
            store.put(Layout("", "main").wal(segment_name(number)), segment(number))
    spool = tmp_path / "spool"
    command = ["--parallel", "2", "--spool-dir", spool, url, "main"]
    with ended_background_processes(spool):
        assert imported("wal_restore", *command, segment_name(1), tmp_path / "x")[0] == "0"
        wait_for(lambda: list(spool.glob(f"restore-*/{segment_name(2)}")), what="the segment to be fetched ahead")
        code, modules = imported("wal_restore", *command, segment_name(2), tmp_path / "x")
    assert code == "quick"
    assert _ours(modules) == QUICK | {"barman_cloud.wal.delivery", "barman_cloud.wal.restore_spool"}
    assert modules - _ours(modules) <= SMALL
