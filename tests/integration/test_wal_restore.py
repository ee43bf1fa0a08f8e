"""``barman-cloud-wal-restore`` as processes: alone, with its background process, and for a recovering PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.archive.compression import SUFFIX, compress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from tests.support.background_processes import background_processes, ended_background_processes
from tests.support.commands import program, run_command
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.ports import free_port, wait_for
from tests.support.postgres import PostgresServer, adopt, command_environment
from tests.support.segments import SYSTEM, Cluster, segment, segment_name
from tests.support.servers import StoreServer

NAME = segment_name(3)
LAYOUT = Layout("prod", "main")
HISTORY = b"1\t0/3000000\tno recovery target specified\n"
Restore = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture
def destination(cluster: Cluster) -> Path:
    return cluster.wal / "RECOVERYXLOG"


@pytest.fixture
def bucket(rclone_s3: StoreServer) -> ObjectStore:
    """A new bucket, opened at the path that the commands use."""
    return open_store(f"{rclone_s3.new_bucket()}/prod", environ=rclone_s3.environ)


@pytest.fixture
def proxy(rclone_s3: StoreServer) -> Iterator[FaultProxy]:
    with fault_proxy(rclone_s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def restore(rclone_s3: StoreServer, proxy: FaultProxy, bucket: ObjectStore, tmp_path: Path) -> Iterator[Restore]:
    """Run the command on the bucket, through the proxy; a background process that it left is ended with the test."""
    spool_dir = tmp_path / "spool"

    def run(*arguments: str | Path, spool: Path | str = spool_dir) -> subprocess.CompletedProcess[str]:
        command = ["--endpoint-url", proxy.endpoint, "--spool-dir", spool, bucket.url.text, "main"]
        return run_command("wal-restore", *command, *arguments, environ=rclone_s3.environ)

    with ended_background_processes(spool_dir):
        yield run


def store(bucket: ObjectStore, name: str, compression: str | None = None, data: bytes | None = None) -> bytes:
    """Put a WAL file into the archive and return its content."""
    content = segment(int(name[16:24], 16)) if data is None else data
    bucket.put(LAYOUT.wal(name, SUFFIX.get(compression or "", "")), compress_bytes(content, compression))
    return content


def listings(proxy: FaultProxy) -> int:
    return len(proxy.requests("GET", "list-type=2"))


def downloads(proxy: FaultProxy) -> int:
    return len(proxy.requests("GET")) - listings(proxy)


class TestOneFile:
    @pytest.mark.parametrize("compression", [None, *SUFFIX])
    def test_every_compression(
        self, restore: Restore, bucket: ObjectStore, destination: Path, compression: str | None
    ) -> None:
        content = store(bucket, NAME, compression)
        done = restore(NAME, destination)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert destination.read_bytes() == content
        assert sorted(os.listdir(destination.parent)) == [destination.name, "archive_status"]

    def test_a_miss_is_exit_1_and_one_request_more_for_the_pieces_of_a_segment(
        self, restore: Restore, bucket: ObjectStore, destination: Path, proxy: FaultProxy
    ) -> None:
        store(bucket, NAME)
        for number, name in enumerate((segment_name(4), "00000002.history", f"{NAME}.partial"), 2):
            done = restore("-v", name, destination)
            assert done.returncode == 1, done.stderr
            assert name in done.stderr
            assert len(proxy.seen) == number
        assert not destination.exists()

    def test_a_miss_is_no_error_and_has_no_trace(self, restore: Restore, destination: Path) -> None:
        done = restore("00000002.history", destination)
        assert (done.returncode, done.stderr) == (1, "")
        done = restore(NAME, destination)
        assert done.returncode == 1
        assert "WARNING" in done.stderr
        assert "normal at the end of the archive" in done.stderr
        for name in (NAME, "00000002.history"):
            done = restore("-vv", name, destination)
            assert done.returncode == 1
            assert "normal at" in done.stderr
            assert "ERROR" not in done.stderr
            assert "Traceback" not in done.stderr

    def test_later_hits_cost_one_request(
        self, restore: Restore, bucket: ObjectStore, destination: Path, proxy: FaultProxy
    ) -> None:
        for number in range(1, 5):
            store(bucket, segment_name(number), "lz4")
        for number in range(1, 5):
            assert restore(segment_name(number), destination).returncode == 0
            assert destination.read_bytes() == segment(number)
        assert (listings(proxy), downloads(proxy)) == (1, 4)

    def test_history_and_partial_files(self, restore: Restore, bucket: ObjectStore, destination: Path) -> None:
        store(bucket, "00000002.history", "gzip", HISTORY)
        partial = store(bucket, f"{NAME}.partial", "zstd")
        assert restore("00000002.history", destination).returncode == 0
        assert destination.read_bytes() == HISTORY
        assert restore("--no-partial", NAME, destination).returncode == 1
        assert restore(NAME, destination).returncode == 0
        assert destination.read_bytes() == partial
        full = store(bucket, NAME, "zstd", segment(3, content=1))
        assert restore(NAME, destination).returncode == 0
        assert destination.read_bytes() == full

    def test_a_transient_error_is_survived(
        self, restore: Restore, bucket: ObjectStore, destination: Path, proxy: FaultProxy
    ) -> None:
        content = store(bucket, NAME, "lz4")
        proxy.add(Fault("GET", path=NAME, status=503))
        proxy.add(Fault("GET", path=NAME, cut=1000))
        assert restore(NAME, destination).returncode == 0
        assert destination.read_bytes() == content

    def test_without_a_place_for_the_spool_nothing_is_missing(
        self, restore: Restore, bucket: ObjectStore, destination: Path
    ) -> None:
        content = store(bucket, NAME)
        for parallel in ("0", "4"):
            done = restore("--parallel", parallel, NAME, destination, spool="/proc/nope/spool")
            assert done.returncode == 0
            assert destination.read_bytes() == content
            (line,) = done.stderr.splitlines()
            assert "WARNING: restoring without a spool" in line
            assert "/proc/nope/spool" in line

    def test_exit_codes(
        self, restore: Restore, bucket: ObjectStore, destination: Path, rclone_s3: StoreServer, tmp_path: Path
    ) -> None:
        store(bucket, NAME, "lz4", b"damaged")
        assert restore("foo", destination).returncode == 3
        assert restore("--test", "foo", destination).returncode == 3
        assert restore(NAME, destination).returncode == 4
        assert restore(f"{NAME}.00000028.backup", destination).returncode == 1
        store(bucket, segment_name(4))
        assert restore(segment_name(4), tmp_path / "missing" / "x").returncode == 4
        assert restore("-p", "two", segment_name(4), destination).returncode == 3
        nowhere = ["--spool-dir", tmp_path / "spool", "s3://no-such-bucket", "main", NAME, destination]
        assert run_command("wal-restore", *rclone_s3.options, *nowhere, environ=rclone_s3.environ).returncode == 4
        assert not destination.exists()

    @pytest.mark.slow
    def test_a_lost_connection_is_exit_2_and_never_1(
        self, destination: Path, rclone_s3: StoreServer, tmp_path: Path
    ) -> None:
        endpoint = f"http://127.0.0.1:{free_port()}"
        rest = ["--spool-dir", tmp_path / "spool", "s3://bucket", "main", NAME, destination]
        environ = {**rclone_s3.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "2"}
        done = run_command("wal-restore", "--endpoint-url", endpoint, *rest, environ=environ, timeout=200)
        assert done.returncode == 2
        abort = ["--abort-recovery-on-error", "--endpoint-url", endpoint]
        assert run_command("wal-restore", *abort, *rest, environ=environ, timeout=200).returncode == 130

    def test_a_damaged_segment_can_abort_recovery_but_a_missing_one_never_does(
        self, restore: Restore, bucket: ObjectStore, destination: Path
    ) -> None:
        store(bucket, NAME, None, b"damaged")
        assert restore("--abort-recovery-on-error", NAME, destination).returncode == 130
        assert restore("--abort-recovery-on-error", segment_name(4), destination).returncode == 1

    def test_a_segment_of_another_cluster_is_refused(
        self, restore: Restore, bucket: ObjectStore, destination: Path
    ) -> None:
        store(bucket, NAME, None, segment(3, system=SYSTEM + 1))
        done = restore(NAME, destination)
        assert done.returncode == 4
        assert str(SYSTEM + 1) in done.stderr

    def test_a_termination_leaves_nothing(
        self, bucket: ObjectStore, destination: Path, proxy: FaultProxy, rclone_s3: StoreServer, tmp_path: Path
    ) -> None:
        store(bucket, NAME)
        proxy.add(Fault("GET", path=NAME, delay=100))
        command = [program("wal-restore"), "--endpoint-url", proxy.endpoint, "--spool-dir", tmp_path / "spool"]
        process = subprocess.Popen(
            [*command, bucket.url.text, "main", NAME, destination],
            env=command_environment(rclone_s3.environ),
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: proxy.requests("GET", NAME), what="the request")
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        assert os.listdir(destination.parent) == ["archive_status"]


class TestAhead:
    @pytest.fixture
    def ahead(self, restore: Restore) -> Restore:
        return lambda *arguments, **more: restore("--parallel", "4", *arguments, **more)

    @staticmethod
    def _await_spooled(spool_dir: Path, name: str) -> None:
        wait_for(lambda: list(spool_dir.glob(f"restore-*/{name}")), what=f"{name} to be fetched ahead")

    def test_segments_are_fetched_once_and_mostly_ahead(
        self, ahead: Restore, bucket: ObjectStore, destination: Path, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        for number in range(1, 31):
            store(bucket, segment_name(number), "zstd")
        for number in range(1, 31):
            if number > 1:
                self._await_spooled(tmp_path / "spool", segment_name(number))
            assert ahead(segment_name(number), destination).returncode == 0
            assert destination.read_bytes() == segment(number)
        assert downloads(proxy) <= 30 + 8
        # One that was started while the other began sees that and ends.
        wait_for(lambda: len(background_processes(tmp_path / "spool")) == 1, what="one process to be left")
        miss = ahead(segment_name(31), destination)
        assert miss.returncode == 1

    @pytest.mark.long
    def test_a_dead_background_process_is_replaced(
        self, ahead: Restore, bucket: ObjectStore, destination: Path, tmp_path: Path
    ) -> None:
        for number in range(1, 8):
            store(bucket, segment_name(number))
        for number in range(1, 8):
            assert ahead(segment_name(number), destination).returncode == 0
            assert destination.read_bytes() == segment(number)
            for process in background_processes(tmp_path / "spool"):
                process.kill()
                process.wait()

    def test_the_background_process_holds_nothing_of_its_caller(
        self, bucket: ObjectStore, destination: Path, rclone_s3: StoreServer, tmp_path: Path, restore: Restore
    ) -> None:
        for number in range(1, 4):
            store(bucket, segment_name(number))
        reader, writer = os.pipe()
        command = [program("wal-restore"), *rclone_s3.options, "-p", "2", "--spool-dir", tmp_path / "spool"]
        process = subprocess.Popen(
            [*command, bucket.url.text, "main", segment_name(1), destination],
            env=command_environment(rclone_s3.environ),
            stdout=writer,
            stderr=writer,
            pass_fds=(writer,),
            cwd=tmp_path,
        )
        os.close(writer)
        assert process.wait(200) == 0
        closed = threading.Thread(target=lambda: os.read(reader, 1), daemon=True)
        closed.start()
        closed.join(60)
        assert not closed.is_alive(), "the pipe is still open in the background process"
        os.close(reader)
        (background,) = background_processes(tmp_path / "spool")
        wait_for(lambda: background.cwd() == "/", what="it to leave our directory")
        assert os.getsid(background.pid) == background.pid
        assert background.num_fds() < 20

    def test_two_servers_and_two_stores_share_a_spool_directory(
        self, ahead: Restore, bucket: ObjectStore, destination: Path, rclone_s3: StoreServer, tmp_path: Path
    ) -> None:
        for number in range(1, 4):
            store(bucket, segment_name(number))
            bucket.put(Layout("prod", "other").wal(segment_name(number)), segment(number, content=1))
        second = ["-p", "4", "--spool-dir", tmp_path / "spool", bucket.url.text, "other"]
        for number in range(1, 4):
            assert ahead(segment_name(number), destination).returncode == 0
            assert destination.read_bytes() == segment(number)
            done = run_command(
                "wal-restore", *rclone_s3.options, *second, segment_name(number), destination, environ=rclone_s3.environ
            )
            assert done.returncode == 0
            assert destination.read_bytes() == segment(number, content=1)


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.long), ("--parallel", "4")], ids=["single", "parallel"]
)
def test_a_real_recovery(
    new_postgres: Callable[..., PostgresServer],
    rclone_s3: StoreServer,
    server_dir: Path,
    options: tuple[str, ...],
) -> None:
    url = f"{rclone_s3.new_bucket()}/prod"
    server = new_postgres(environ=dict(rclone_s3.environ))
    server.archive_with(" ".join([program("wal-archive"), *rclone_s3.options, "--lz4", url, "main", "%p"]))
    server.run_tool("pg_basebackup", "-D", str(server_dir / "restored"), "-X", "none", "-c", "fast")
    server.query("CREATE TABLE lines (number int)")
    for number in range(8):
        server.query("INSERT INTO lines VALUES (%s)", [number])
        last = server.switch_wal()
    server.wait_archived(last, timeout=200)
    server.stop()
    restored = adopt(server_dir / "restored", server.installation)
    restored.environ = dict(rclone_s3.environ)
    spool = server_dir / "spool"
    command = [program("wal-restore"), *rclone_s3.options, *options, "--spool-dir", str(spool), url, "main"]
    restored.recover_with(" ".join([*command, "%f", "%p"]))
    with ended_background_processes(spool), contextlib.ExitStack() as stack:
        restored.start(wait=False)
        stack.callback(restored.stop, mode="immediate")
        restored.wait_recovered(timeout=200)
        assert [number for (number,) in restored.query("SELECT number FROM lines ORDER BY 1")] == list(range(8))
        began = time.monotonic()
        restored.stop()
        assert time.monotonic() - began < 30
        assert not list((restored.data / "pg_wal").glob(".*"))
