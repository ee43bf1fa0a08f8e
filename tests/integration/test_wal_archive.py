"""``barman-cloud-wal-archive`` as processes: alone, from a real archiver, and as Barman's hook."""

from __future__ import annotations

import filecmp
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barman_cloud.archive.compression import SUFFIX, decompress_bytes
from tests.support.background_processes import background_processes, ended_background_processes
from tests.support.commands import peak_memory, program, run_command
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment
from tests.support.segments import Cluster, segment, segment_name
from tests.support.servers import StoreServer

HISTORY = b"1\t0/3000000\tno recovery target specified\n"
Archive = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture
def bucket(rclone_s3: StoreServer) -> Path:
    """The directory behind a new bucket."""
    assert rclone_s3.directory is not None
    return rclone_s3.directory / rclone_s3.new_bucket().rpartition("/")[2]


@pytest.fixture
def proxy(rclone_s3: StoreServer) -> Iterator[FaultProxy]:
    with fault_proxy(rclone_s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def archive(rclone_s3: StoreServer, proxy: FaultProxy, bucket: Path) -> Archive:
    """Run the command on the bucket, through the proxy."""

    def run(*arguments: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = ["--endpoint-url", proxy.endpoint, f"s3://{bucket.name}/prod", "main", *map(str, arguments)]
        return run_command("wal-archive", *command, environ={**rclone_s3.environ, **(environ or {})})

    return run


def stored(bucket: Path, name: str) -> Path:
    folder = "" if name.endswith((".history", ".history.gz")) else f"{name[:16]}/"
    return bucket / "prod" / "main" / "wals" / f"{folder}{name}"


class TestOneFile:
    def test_a_segment_costs_one_put(
        self, archive: Archive, cluster: Cluster, bucket: Path, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        """The first one asks whose the archive is; what it learns is enough for all others."""
        spool = f"--spool-dir={tmp_path}/spool"
        assert archive("--gzip", spool, cluster.add(2)).returncode == 0
        proxy.seen.clear()
        path = cluster.add(3)
        done = archive("--gzip", spool, path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert decompress_bytes(stored(bucket, f"{path.name}.gz").read_bytes(), "gzip") == path.read_bytes()
        assert len(proxy.requests("PUT")) == 1
        assert {request.method for request in proxy.seen} <= {"PUT", "HEAD"}

    @pytest.mark.parametrize("flag", ["-z", "--bzip2", "--xz", "--snappy", "--zstd", "--lz4"])
    @pytest.mark.parametrize("level", ["low", "HIGH", "-5"])
    def test_compressions_and_levels(
        self, archive: Archive, cluster: Cluster, bucket: Path, flag: str, level: str
    ) -> None:
        path = cluster.add(3)
        assert archive(flag, f"--compression-level={level}", path).returncode == 0
        name = {"-z": "gzip"}.get(flag, flag[2:])
        content = stored(bucket, path.name + SUFFIX[name]).read_bytes()
        assert decompress_bytes(content, name) == path.read_bytes()

    def test_the_same_again_and_something_else(self, archive: Archive, cluster: Cluster, bucket: Path) -> None:
        path = cluster.add(3)
        assert archive(path).returncode == 0
        assert archive(path).returncode == 0
        other = cluster.add(3, content=1)
        refused = archive(other)
        assert refused.returncode == 1
        assert str(other) in refused.stderr
        assert f"s3://{bucket.name}/prod/main/wals/" in refused.stderr
        assert stored(bucket, path.name).read_bytes() == segment(3)
        assert archive("--overwrite", other).returncode == 0
        assert stored(bucket, path.name).read_bytes() == segment(3, content=1)

    def test_many_at_once_with_the_same_segment(self, archive: Archive, cluster: Cluster, bucket: Path) -> None:
        path = cluster.add(3)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: archive(path), range(4)))
        assert [done.returncode for done in results] == [0] * 4, [done.stderr for done in results]
        assert stored(bucket, path.name).read_bytes() == path.read_bytes()

    def test_a_lost_answer_is_no_conflict(self, archive: Archive, cluster: Cluster, proxy: FaultProxy) -> None:
        proxy.add(Fault("PUT", lose_answer=True))
        assert archive(cluster.add(3)).returncode == 0

    def test_a_transient_error_is_survived(self, archive: Archive, cluster: Cluster, proxy: FaultProxy) -> None:
        proxy.add(Fault("PUT", status=503, times=2))
        assert archive(cluster.add(3)).returncode == 0

    @pytest.mark.parametrize(
        ("name", "content", "code"),
        [
            ("notawal", b"", 3),
            ("000000010000000000000003.gz", b"", 3),
            ("000000010000000000000003", b"short", 4),
            ("000000010000000000000004", segment(3), 4),
        ],
    )
    def test_what_is_refused(
        self, archive: Archive, cluster: Cluster, proxy: FaultProxy, name: str, content: bytes, code: int
    ) -> None:
        done = archive(cluster.add_file(name, content))
        assert done.returncode == code
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not proxy.seen

    def test_a_missing_file_and_a_missing_bucket(
        self, archive: Archive, cluster: Cluster, rclone_s3: StoreServer
    ) -> None:
        missing = archive(cluster.wal / segment_name(9))
        assert missing.returncode == 4
        assert segment_name(9) in missing.stderr
        command = [*rclone_s3.options, "s3://no-such-bucket", "main", str(cluster.add(3))]
        nowhere = run_command("wal-archive", *command, environ=rclone_s3.environ)
        assert nowhere.returncode == 4
        assert "no-such-bucket" in nowhere.stderr

    def test_sigterm_ends_it_at_once(
        self, cluster: Cluster, proxy: FaultProxy, bucket: Path, rclone_s3: StoreServer
    ) -> None:
        proxy.add(Fault("PUT", delay=100))
        command = [program("wal-archive"), "--endpoint-url", proxy.endpoint, f"s3://{bucket.name}", "main"]
        process = subprocess.Popen(
            [*command, str(cluster.add(3))], env=command_environment(rclone_s3.environ), stderr=subprocess.DEVNULL
        )
        wait_for(lambda: proxy.requests("PUT"), what="the upload to begin")
        process.terminate()
        assert process.wait(60) == -15


@pytest.mark.parametrize("options", [(), ("--lz4",)])
def test_memory_does_not_depend_on_the_size_of_a_segment(
    cluster: Cluster, tmp_path: Path, rclone_s3: StoreServer, options: tuple[str, ...]
) -> None:
    path = cluster.add(3, size=128 << 20)
    place = [*rclone_s3.options, rclone_s3.new_bucket(), "main"]
    assert peak_memory("wal-archive", *options, *place, path, environ=rclone_s3.environ) < 125
    fetch = ["--spool-dir", tmp_path / "spool", *place, path.name, tmp_path / "restored"]
    assert peak_memory("wal-restore", *fetch, environ=rclone_s3.environ) < 90
    assert filecmp.cmp(tmp_path / "restored", path, shallow=False)
    # The same again is compared, and that in parts too.
    assert peak_memory("wal-archive", *options, *place, path, environ=rclone_s3.environ) < 125
    path.unlink()


class TestHook:
    def test_barman_passes_the_file_by_its_environment(self, archive: Archive, cluster: Cluster, bucket: Path) -> None:
        path = cluster.add(3)
        for hook in ("archive_script", "archive_retry_script"):
            environ = {"BARMAN_HOOK": hook, "BARMAN_PHASE": "pre", "BARMAN_FILE": str(path)}
            assert archive(environ=environ).returncode == 0
            assert archive("/ignored", environ=environ).returncode == 0
        assert stored(bucket, path.name).exists()

    @pytest.mark.parametrize(
        ("environ", "code"),
        [
            ({"BARMAN_HOOK": "archive_script", "BARMAN_PHASE": "post", "BARMAN_FILE": "x"}, 1),
            ({"BARMAN_HOOK": "backup_script", "BARMAN_PHASE": "pre", "BARMAN_FILE": "x"}, 1),
            ({"BARMAN_HOOK": "archive_script", "BARMAN_PHASE": "pre"}, 1),
            ({"BARMAN_HOOK": "archive_script", "BARMAN_PHASE": "pre", "BARMAN_FILE": "/x/notawal"}, 3),
            ({"BARMAN_HOOK": "archive_script"}, 1),
            ({}, 1),
        ],
    )
    def test_other_environments(self, archive: Archive, proxy: FaultProxy, environ: dict[str, str], code: int) -> None:
        done = archive(environ=environ)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1
        assert not proxy.seen

    def test_connectivity_is_tested_without_a_file(self, archive: Archive) -> None:
        assert archive("--test").returncode == 0


class TestAhead:
    @pytest.fixture
    def ahead(self, archive: Archive, tmp_path: Path) -> Iterator[Archive]:
        with ended_background_processes(tmp_path / "spool"):
            yield lambda *arguments, **more: archive(
                "--parallel", "4", "--spool-dir", tmp_path / "spool", *arguments, **more
            )

    @staticmethod
    def _await_acknowledged(spool_dir: Path, path: Path) -> None:
        wait_for(lambda: list(spool_dir.glob(f"archive-*/{path.name}")), what=f"{path} to be archived ahead")

    def test_calls_after_the_first_find_their_work_done(
        self, ahead: Archive, cluster: Cluster, bucket: Path, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        paths = [cluster.add(number) for number in range(1, 13)]
        for path in paths:
            if path is not paths[0]:
                self._await_acknowledged(tmp_path / "spool", path)
            assert ahead(path).returncode == 0
            assert stored(bucket, path.name).read_bytes() == path.read_bytes()
            cluster.archived(path)
        assert len(proxy.requests("PUT", "/wals/")) == len(paths)
        assert len(background_processes(tmp_path / "spool")) == 1

    def test_a_file_that_waits_alone_starts_nothing(
        self, ahead: Archive, cluster: Cluster, bucket: Path, tmp_path: Path
    ) -> None:
        for number in range(1, 4):
            path = cluster.add(number)
            assert ahead(path).returncode == 0
            assert stored(bucket, path.name).exists()
            cluster.archived(path)
        assert not background_processes(tmp_path / "spool")

    def test_nothing_waits_for_the_background_process(self, ahead: Archive, cluster: Cluster, tmp_path: Path) -> None:
        first, second = cluster.add(1), cluster.add(2)
        assert ahead(first).returncode == 0  # its output was read to the end: nobody else has it open
        self._await_acknowledged(tmp_path / "spool", second)
        (background,) = background_processes(tmp_path / "spool")
        assert background.cwd() == "/"
        assert not [file.path for file in background.open_files() if file.path.startswith(str(cluster.directory))]
        assert os.getsid(background.pid) == background.pid

    def test_killed_in_the_middle_it_loses_nothing(
        self, ahead: Archive, cluster: Cluster, bucket: Path, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        paths = [cluster.add(number) for number in range(1, 4)]
        proxy.add(Fault("PUT", path=paths[1].name, delay=60, times=10))
        assert ahead(paths[0]).returncode == 0
        cluster.archived(paths[0])
        wait_for(lambda: proxy.requests("PUT", paths[1].name), what="the upload to begin")
        assert list((tmp_path / "spool").glob(f"archive-*/{paths[1].name}.part"))
        (background,) = background_processes(tmp_path / "spool")
        background.kill()
        background.wait(60)
        proxy.clear()
        for path in paths[1:]:
            assert ahead(path).returncode == 0
            assert stored(bucket, path.name).read_bytes() == path.read_bytes()
            cluster.archived(path)

    def test_changed_content_is_not_taken_for_archived(self, ahead: Archive, cluster: Cluster, tmp_path: Path) -> None:
        first, second = cluster.add(1), cluster.add(2)
        assert ahead(first).returncode == 0
        self._await_acknowledged(tmp_path / "spool", second)
        cluster.archived(first)
        second.write_bytes(segment(2, content=1))
        assert ahead(second).returncode == 1

    def test_other_options_take_effect_whatever_the_server_is_called(self, cluster: Cluster, tmp_path: Path) -> None:
        paths = [cluster.add(number) for number in range(1, 7)]
        (tmp_path / "store").mkdir()
        command = ["-p", "4", "--spool-dir", tmp_path / "spool", f"file://{tmp_path}/store", "deadbeef"]
        with ended_background_processes(tmp_path / "spool"):
            assert run_command("wal-archive", "--lz4", *command, paths[0]).returncode == 0
            self._await_acknowledged(tmp_path / "spool", paths[1])
            cluster.archived(paths[0])
            assert run_command("wal-archive", "--gzip", *command, paths[1]).returncode == 0
        assert list((tmp_path / "store").rglob(f"{paths[1].name}.gz"))

    def test_other_options_take_effect_at_once(
        self, ahead: Archive, cluster: Cluster, bucket: Path, tmp_path: Path
    ) -> None:
        paths = [cluster.add(number) for number in range(1, 7)]
        assert ahead("--lz4", paths[0]).returncode == 0
        self._await_acknowledged(tmp_path / "spool", paths[1])
        cluster.archived(paths[0])
        assert ahead("--gzip", paths[1]).returncode == 0
        assert stored(bucket, f"{paths[1].name}.gz").exists()
        assert len(background_processes(tmp_path / "spool")) == 2

    def test_another_store_is_not_taken_for_this_one(
        self, ahead: Archive, cluster: Cluster, rclone_s3: StoreServer, tmp_path: Path
    ) -> None:
        first, second = cluster.add(1), cluster.add(2)
        assert ahead(first).returncode == 0
        url = rclone_s3.new_bucket()
        command = [*rclone_s3.options, "-p", "4", "--spool-dir", tmp_path / "spool", url, "main", second]
        assert run_command("wal-archive", *command, environ=rclone_s3.environ).returncode == 0
        assert rclone_s3.directory is not None
        assert list((rclone_s3.directory / url.rpartition("/")[2]).rglob(second.name))

    def test_an_unusable_spool_costs_only_the_parallelism(
        self, archive: Archive, cluster: Cluster, bucket: Path
    ) -> None:
        path = cluster.add(3)
        done = archive("--parallel", "4", "--spool-dir", "/proc/nope", path)
        assert done.returncode == 0
        assert "WARNING" in done.stderr
        assert stored(bucket, path.name).exists()

    def test_nothing_is_acknowledged_that_the_store_refused(
        self, ahead: Archive, cluster: Cluster, bucket: Path, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        paths = [cluster.add(number) for number in range(1, 4)]
        proxy.add(Fault("PUT", path=paths[1].name, status=403, times=1))
        assert ahead(paths[0]).returncode == 0
        self._await_acknowledged(tmp_path / "spool", paths[2])
        wait_for(lambda: not list((tmp_path / "spool").glob("archive-*/*.part")), what="the background process to rest")
        assert not stored(bucket, paths[1].name).exists()
        cluster.archived(paths[0])
        assert ahead(paths[1]).returncode == 0
        assert stored(bucket, paths[1].name).read_bytes() == paths[1].read_bytes()


@pytest.fixture
def archiving(
    new_postgres: Callable[..., PostgresServer], rclone_s3: StoreServer, bucket: Path, server_dir: Path
) -> Iterator[Callable[..., PostgresServer]]:
    """Make a server that archives with our command, with these options."""

    def make(*options: str) -> PostgresServer:
        server = new_postgres(environ=dict(rclone_s3.environ))
        spool = ["--spool-dir", str(server.directory / "spool")] if "--parallel" in options else []
        command = [
            program("wal-archive"),
            *rclone_s3.options,
            *options,
            *spool,
            f"s3://{bucket.name}/prod",
            "main",
            "%p",
        ]
        server.archive_with(" ".join(command))
        spools.append(server.directory / "spool")
        return server

    spools: list[Path] = []
    yield make
    for spool_dir in spools:
        with ended_background_processes(spool_dir):
            pass


def _finish_segments(server: PostgresServer, count: int) -> list[str]:
    """Make the server write and finish ``count`` segments; return their names."""
    names = []
    for _ in range(count):
        server.query("SELECT pg_logical_emit_message(false, 'test', repeat(md5(random()::text), 1000))")
        names.append(server.switch_wal())
    return names


def _assert_archived(server: PostgresServer, bucket: Path, names: list[str], suffix: str, compression: str) -> None:
    server.wait_archived(names[-1], timeout=200)
    for name in names:
        content = decompress_bytes(stored(bucket, name + suffix).read_bytes(), compression)
        kept = server.data / "pg_wal" / name
        assert len(content) == 16 << 20
        assert not kept.exists() or kept.read_bytes() == content
    assert server.value("SELECT failed_count FROM pg_stat_archiver") == 0


def test_a_real_archiver(archiving: Callable[..., PostgresServer], bucket: Path) -> None:
    server = archiving("--zstd", "--compression-level", "low")
    _assert_archived(server, bucket, _finish_segments(server, 5), ".zst", "zstd")


def test_a_real_archiver_with_a_backlog(archiving: Callable[..., PostgresServer], bucket: Path) -> None:
    server = archiving("--lz4", "--compression-level", "low", "--parallel", "8")
    command = server.value("SHOW archive_command")
    server.configure(archive_command="sleep 1; false")
    names = _finish_segments(server, 16)
    server.configure(archive_command=command)
    server.wait_archived(names[-1], timeout=200)
    server.query("SELECT pg_stat_reset_shared('archiver')")
    _assert_archived(server, bucket, [*names, *_finish_segments(server, 4)], ".lz4", "lz4")
