"""What a backup looks at besides copying: can its WAL be archived, is it, and are the pages that it reads whole?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barman_cloud.postgres.backup_mode import BackupMode
from barman_cloud.postgres.connection import ConnectionParameters, connect
from barman_cloud.postgres.page_checksum import bad_pages, segment_of
from tests.support.commands import program
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository

UMBRELLA = program("backup").removesuffix("-backup")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that archives nothing, with a table that is larger than one batch of pages."""
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    server_account().own(directory)
    try:
        with PostgresServer.create(directory / "server", settings={"archive_mode": "on"}) as server:
            server.configure(archive_command="/bin/true")
            server.query("CREATE TABLE t AS SELECT g AS a, repeat('x', 200) FROM generate_series(1, 40000) g")
            server.query("CREATE INDEX ON t (a)")
            server.query("VACUUM t")
            server.query("CHECKPOINT")
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


def warnings(done: Completed) -> list[str]:
    return [line.partition("WARNING: ")[2] for line in done.stderr.splitlines() if "WARNING: " in line]


def first_relation_file(server: PostgresServer) -> Path:
    return server.data / str(server.value("SELECT pg_relation_filepath('t')"))


class TestArchivedWal:
    def test_a_command_that_archives_nothing_is_warned_of_before_and_after(
        self, server: PostgresServer, repository: Repository
    ) -> None:
        done = repository.backup(server)
        assert done.returncode == 0
        before, after = warnings(done)
        assert before == (
            "the backup can be recovered only with its WAL, but archive_command is '/bin/true', which archives nothing"
        )
        info = repository.info()
        assert after.startswith(f"backup {info.backup_id} can't be recovered yet: the archive lacks its WAL, ")
        assert f"{info.begin_wal}, up to {info.end_xlog} (archive_command" in after
        assert info.status == "DONE"

    def test_the_umbrella_waits_and_tells_so(self, server: PostgresServer, repository: Repository) -> None:
        """Nobody archives, but somebody puts the segment there while the backup waits for it."""
        backup = subprocess.Popen(
            server_account().command([UMBRELLA, "backup", "-v", "--immediate-checkpoint", repository.url, "main"]),
            env=command_environment(server.client_environ),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert backup.stderr is not None
        lines = []
        for line in backup.stderr:
            lines.append(line)
            if match := re.search("waiting up to 60 seconds for WAL ([0-9A-F]{24})", line):
                wal = repository.directory / "main/wals" / match[1][:16] / match[1]
                wal.parent.mkdir(exist_ok=True)
                wal.write_bytes(b"")
                server_account().own(wal.parent)
        assert backup.wait(200) == 0
        assert "waiting up to" in "".join(lines)
        assert "can't be recovered" not in "".join(lines)

    def test_an_interrupted_wait_ends_with_success(self, server: PostgresServer, repository: Repository) -> None:
        backup = subprocess.Popen(
            [program("backup"), "-v", "--wal-timeout", "250", "--immediate-checkpoint", repository.url, "main"],
            env=command_environment(server.client_environ),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert backup.stderr is not None
        for line in backup.stderr:
            if "waiting up to 250 seconds" in line:
                backup.terminate()
                break
        rest = backup.stderr.read()
        assert backup.wait(200) == 0
        assert "is done; not waiting for its WAL: interrupted by SIGTERM" in rest
        assert repository.info().status == "DONE"

    def test_an_archiver_that_fails_is_warned_of(self, server: PostgresServer, repository: Repository) -> None:
        server.configure(archive_command="false")
        try:
            server.switch_wal()
            wait_for(lambda: server.value("SELECT failed_count FROM pg_stat_archiver") > 0, what="a failure")
            backup = subprocess.Popen(
                [program("backup"), "--immediate-checkpoint", repository.url, "main"],
                env=command_environment(server.client_environ),
                stderr=subprocess.PIPE,
                text=True,
            )
            assert backup.stderr is not None
            first = backup.stderr.readline()
        finally:
            server.configure(archive_command="/bin/true")
            works = "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver"
            wait_for(lambda: server.value(works), what="the archiver to go on")
        backup.stderr.read()
        assert backup.wait(200) == 0
        assert re.search("but archiving has failed since the last success, at .* for [0-9A-F]{24}", first)

    def test_the_servers_own_hint_is_shown(self, server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
        with connect(ConnectionParameters(server.conninfo)) as connection:
            mode = BackupMode(connection, lambda _: None)
            connection.execute("DO $$BEGIN RAISE WARNING 'still waiting' USING HINT = E'Check\\nit.'; END$$")
            mode.close()
        assert [record.getMessage() for record in caplog.records] == ["PostgreSQL: still waiting (hint: Check it.)"]

    def test_twice_verbose_says_more(self, server: PostgresServer, repository: Repository) -> None:
        once, twice = (repository.backup(server, flag).stderr for flag in ("-v", "-vv"))
        assert " DEBUG: " not in once
        assert re.search(r" DEBUG: .*/base: 0 files, \d+ directories", twice)
        assert re.search(r" DEBUG: .*/postmaster.pid is left out", twice)


class TestPageChecksums:
    def damage(self, server: PostgresServer, blocks: list[int]) -> Path:
        """Change a byte in these blocks of the table."""
        server.query("CHECKPOINT")
        path = first_relation_file(server)
        with path.open("r+b") as file:
            for block in blocks:
                file.seek(block * 8192 + 4000)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0xFF]))
        return path

    def test_whole_pages_are_counted_and_recorded(self, server: PostgresServer, repository: Repository) -> None:
        pytest.importorskip("numpy")
        done = repository.backup(server, "-v", "--verify-checksums")
        found = json.loads(repository.path("archives.json").read_text())["page_checksums"]
        assert (found["failed"], found["files"]) == (0, [])
        assert found["pages"] > first_relation_file(server).stat().st_size // 8192
        assert f"verified the checksums of {found['pages']} pages" in done.stderr

    def test_damaged_pages_are_named_and_recorded(self, server: PostgresServer, repository: Repository) -> None:
        pytest.importorskip("numpy")
        blocks = [0, 7, 8, 600]
        path = self.damage(server, blocks)
        name = str(path.relative_to(server.data))
        try:
            done = repository.backup(server)
            assert done.returncode == 0
            assert f"4 pages of the cluster fail their checksum (file: blocks): {name}: 0, 7-8, 600" in warnings(done)
            found = json.loads(repository.path("archives.json").read_text())["page_checksums"]
            assert found["files"] == [{"path": name, "blocks": [[0, 0], [7, 8], [600, 600]]}]
            assert repository.restore(repository.directory.parent / "copy").returncode == 0

            strict = repository.backup(server, "--strict")
            assert strict.returncode == 1
            assert re.search("ERROR: backup .* is DONE, but 4 pages of the cluster fail their checksum", strict.stderr)
            assert repository.info().status == "DONE"

            without = repository.backup(server, "--no-verify-checksums")
            assert "checksum" not in without.stderr
            assert "page_checksums" not in json.loads(repository.path("archives.json").read_text())
        finally:
            self.damage(server, blocks)

    def test_pages_that_change_while_they_are_read_are_no_damage(
        self, server: PostgresServer, repository: Repository
    ) -> None:
        pytest.importorskip("numpy")
        backup = subprocess.Popen(
            [program("backup"), "--immediate-checkpoint", "--max-bandwidth", "12MB", repository.url, "main"],
            env=command_environment(server.client_environ),
            stderr=subprocess.PIPE,
            text=True,
        )
        with server.connect() as connection:
            while backup.poll() is None:
                connection.execute("UPDATE t SET a = a + 1 WHERE a % 7 = 0")
                connection.execute("CHECKPOINT")
        assert backup.returncode == 0
        assert "checksum" not in backup.communicate()[1]

    def test_the_checks_agree_with_postgresqls_own(self, server: PostgresServer) -> None:
        pytest.importorskip("numpy")
        self.damage(server, [3])
        server.stop()
        try:
            checked = failed = 0
            for path in server.data.rglob("*"):
                segment = segment_of(str(path.relative_to(server.data)))
                if segment is not None:
                    data = path.read_bytes()
                    block = segment * 131072
                    checked += len(data) // 8192
                    failed += len(bad_pages(data, [range(block, block + len(data) // 8192)]))
            command = [server.installation.tool("pg_checksums"), "--check", "-D", server.data]
            theirs = run_as_server(command, environ=server.installation.environ, check=False).stdout
        finally:
            server.start()
            self.damage(server, [3])
        # The blanks are PostgreSQL 14's and 18's.
        figures = dict(re.findall(r"(Blocks scanned|Bad checksums): +(\d+)", theirs))
        assert figures == {"Blocks scanned": str(checked), "Bad checksums": str(failed)}
        assert failed == 1

    def test_without_numpy_nothing_is_verified_unless_it_is_asked_for(
        self, server: PostgresServer, repository: Repository, tmp_path: Path
    ) -> None:
        hidden = tmp_path / "sitecustomize.py"
        hidden.write_text("import sys\nsys.modules['numpy'] = None\n")
        environ = {**server.client_environ, "PYTHONPATH": str(tmp_path)}
        arguments = ["--immediate-checkpoint", repository.url, "main"]
        done = subprocess.run(
            [sys.executable, program("backup"), "-v", *arguments],
            env=command_environment(environ),
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        assert "page checksums are not verified: that needs NumPy (pip install 'barman-cloud[verify]')" in done.stderr
        for option in ("--verify-checksums", "--strict"):
            done = subprocess.run(
                [sys.executable, program("backup"), option, *arguments],
                env=command_environment(environ),
                capture_output=True,
                text=True,
                timeout=280,
            )
            assert (done.returncode, f"{option} needs NumPy" in done.stderr) == (4, True), done.stderr
