"""``barman-cloud-restore``: interrupted restores, memory, and backups of real servers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.store.open import open_store
from tests.support.commands import program, run_command
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt, command_environment, run_as_server
from tests.support.repository import Repository
from tests.support.restoring import failed, succeeded
from tests.support.servers import StoreServer
from tests.unit.restore.backups import BACKUP_ID, Bucket, member, minimal

Completed = subprocess.CompletedProcess[str]


JOURNAL = ".barman-cloud-restore"


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A small backup, made by hand, in a directory."""
    (tmp_path / "store").mkdir()
    bucket = Bucket(open_store(f"file://{tmp_path}/store"))
    bucket.put(minimal(member("base/5/1", b"content")), compression="lz4", suffix=".lz4")
    bucket.save()
    return bucket


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


class TestInterruption:
    """A restore from S3 that a signal hits while one archive doesn't get on."""

    @pytest.fixture
    def proxy(self, rclone_s3: StoreServer) -> Iterator[FaultProxy]:
        with fault_proxy(rclone_s3.endpoint) as proxy:
            yield proxy

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
    def test_goes_on_later(
        self, rclone_s3: StoreServer, proxy: FaultProxy, target: Path, number: signal.Signals, code: int
    ) -> None:
        url = rclone_s3.new_bucket()
        arguments = ["-v", "--endpoint-url", proxy.endpoint, "--jobs", "2", url, "main", BACKUP_ID, str(target)]
        bucket = Bucket(open_store(url, environ=dict(rclone_s3.environ)))
        bucket.put(minimal(member("base/5/1", bytes(100_000))))
        bucket.put([member("base/5/2", b"last")], part=1)
        Catalog(bucket.store, bucket.layout).save(bucket.info)
        proxy.add(Fault("GET", "data_0001.tar", delay=200))
        environ = command_environment(rclone_s3.environ)
        running = subprocess.Popen([program("restore"), *arguments], env=environ, stderr=subprocess.PIPE, text=True)
        wait_for(
            lambda: (target / JOURNAL).exists() and "data.tar" in (target / JOURNAL).read_text(), what="one archive"
        )
        running.send_signal(number)
        began = time.monotonic()
        _, errors = running.communicate(timeout=200)
        assert running.returncode == code, errors
        assert time.monotonic() - began < 25
        assert "Traceback" not in errors
        assert not (target / "global/pg_control").exists()

        done = run_command("restore", *arguments, environ=rclone_s3.environ)
        assert done.returncode == 0, done.stderr
        assert "1 of 2 archives were extracted before" in done.stderr
        assert (target / "base/5/2").read_bytes() == b"last"
        assert not (target / JOURNAL).exists()

    def test_ends_at_once_while_a_range_is_on_its_way(
        self, rclone_s3: StoreServer, proxy: FaultProxy, target: Path
    ) -> None:
        url = rclone_s3.new_bucket()
        bucket = Bucket(open_store(url, environ=dict(rclone_s3.environ)))
        bucket.put(minimal(member("base/5/1", bytes(40 << 20))))
        Catalog(bucket.store, bucket.layout).save(bucket.info)

        def is_later(seen: SeenRequest) -> bool:  # than the first range; the rest may come in one answer
            return not seen.headers.get("range", "").startswith("bytes=0-")

        proxy.add(Fault("GET", "data.tar", times=9, delay=200, only_if=is_later))
        running = subprocess.Popen(
            [program("restore"), "--endpoint-url", proxy.endpoint, url, "main", BACKUP_ID, str(target)],
            env=command_environment(rclone_s3.environ),
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: (target / "base/5/1").exists(), what="the first range")
        wait_for(lambda: any(map(is_later, proxy.requests("GET", "data.tar"))), what="the rest to be on its way")
        running.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = running.communicate(timeout=200)
        assert running.returncode == 1, errors
        assert time.monotonic() - began < 25
        assert "Traceback" not in errors


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 8])
def test_memory_stays_within_the_documented_formula(rclone_s3: StoreServer, target: Path, jobs: int) -> None:
    url = rclone_s3.new_bucket()
    bucket = Bucket(open_store(url, environ=dict(rclone_s3.environ)))
    noise = os.urandom(48 << 20)
    for part in range(8):
        bucket.put([*(minimal() if part == 0 else []), member(f"base/5/{part}", noise)], part=part)
    Catalog(bucket.store, bucket.layout).save(bucket.info)
    process = subprocess.Popen(
        [program("restore"), "--jobs", str(jobs), *rclone_s3.options, url, "main", BACKUP_ID, str(target)],
        env=command_environment(rclone_s3.environ),
    )
    peak = 0
    while process.poll() is None:
        # Not ru_maxrss: that of a child begins with what its parent had.
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")))
        time.sleep(0.01)
    assert process.returncode == 0
    assert 20 < peak / 1024 < 240 + jobs * 12  # docs/explanation/memory.md


class TestRealBackup:
    def test_tablespaces_in_new_places(self, new_postgres: Callable[..., PostgresServer], server_dir: Path) -> None:
        repository = Repository(server_dir / "store")
        server = new_postgres()
        repository.archive_from(server)
        server.create_tablespace("fast")
        server.query("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 1000) AS a")
        succeeded(repository.backup(server, "--zstd"))
        server.switch_wal()
        inside = server_dir / "copy" / "spaces" / "fast"
        done = succeeded(
            run_command(
                "restore",
                "-v",
                "--jobs",
                "3",
                "--tablespace",
                f"fast:{inside}",
                "--write-recovery-settings",
                "--target-immediate",
                "--target-action",
                "promote",
                repository.url,
                "main",
                "last",
                server_dir / "copy",
            )
        )
        assert "of the backup's manifest have the right size and checksum" in done.stderr
        copy = adopt(server_dir / "copy", server.installation)
        if server.installation.has("pg_verifybackup"):
            run_as_server([server.installation.tool("pg_verifybackup"), "-n", "-i", "spaces", copy.data])
        with copy:
            copy.wait_recovered()
            assert copy.value("SELECT count(*) FROM t") == 1000
            assert copy.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'") == str(
                inside
            )
            copy.amcheck()

    @pytest.mark.long
    def test_delta_into_a_directory_that_has_lived_on(
        self, new_postgres: Callable[..., PostgresServer], server_dir: Path
    ) -> None:
        repository = Repository(server_dir / "store")
        server = new_postgres()
        repository.archive_from(server)
        server.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
        succeeded(repository.backup(server, "--lz4"))
        server.wait_archived(server.switch_wal())
        target = server_dir / "copy"
        where = [repository.url, "main", "last", str(target)]
        settings = ["--write-recovery-settings", "--target-immediate", "--target-action", "promote"]
        succeeded(run_command("restore", *settings, *where))
        with adopt(target, server.installation) as copy:
            copy.wait_recovered()
            copy.query("DELETE FROM t")
            copy.query("CREATE DATABASE other")
            copy.query("CHECKPOINT")
            failed(run_command("restore", "--delta", *settings, *where), 1, "belongs to a running server")
            copy.stop()
        failed(run_command("restore", *settings, *where), 1, "not empty")
        told = succeeded(run_command("restore", "--delta", "--dry-run", *settings, *where)).stdout
        assert re.search(r"kept +\d{3,} files", told)
        assert not (target / "recovery.signal").exists()
        done = succeeded(run_command("restore", "--delta", *settings, *where))
        assert re.search(
            r"Kept \d{3,} files \(.*\), wrote \d+ \(.*\), removed \d+ that are not in the backup", done.stdout
        )
        if server.installation.has("pg_verifybackup"):
            run_as_server([server.installation.tool("pg_verifybackup"), "-n", target])
        with adopt(target, server.installation) as copy:
            copy.wait_recovered()
            assert copy.value("SELECT count(*) FROM t") == 1000
            assert copy.value("SELECT count(*) FROM pg_database WHERE datname = 'other'") == 0
            copy.amcheck()
