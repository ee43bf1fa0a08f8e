"""``barman-cloud drill``: a real backup is restored, recovered, started and questioned, and nothing is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import DrillError
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.store.open import open_store
from barman_cloud.verify import drill_record
from barman_cloud.verify.check import check
from barman_cloud.verify.drill import DrillOptions, drill
from barman_cloud.verify.findings import Level
from barman_cloud.verify.limits import Limits
from tests.support.commands import program
from tests.support.installations import newest_installation
from tests.support.ports import wait_for
from tests.support.postgres import (
    PostgresServer,
    command_environment,
    server_directory,
    temporary_server_directory,
)
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository
from tests.support.schemas import require_valid

UMBRELLA = program("backup").removesuffix("-backup")
INERT = """
-- What the server must not do, and what its user asserts; statements without rows just run.
CREATE TEMPORARY TABLE seen AS SELECT name, setting FROM pg_settings;
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('logical replication launcher', 'archiver');
SELECT bool_and(setting = '') FROM seen WHERE name IN
  ('listen_addresses', 'archive_cleanup_command', 'recovery_end_command', 'primary_conninfo', 'external_pid_file');
SELECT setting = '16384' FROM seen WHERE name = 'shared_buffers';
"""


@dataclass
class Made:
    """An archive with a full backup, an incremental one (PostgreSQL 17 on), and a full one with a damaged table."""

    repository: Repository
    directory: Path
    installation_bin: Path
    touched: Path
    """A file that the commands of the server's configuration would make."""

    def copy(self, name: str) -> Repository:
        """A copy of the archive that may be damaged."""
        return Repository(Path(shutil.copytree(self.repository.directory, self.directory / name)))

    def words(self, repository: Repository, *arguments: str) -> list[str]:
        place = ["--pg-bin", str(self.installation_bin), "--directory", str(self.directory / "drills")]
        return server_account().command([UMBRELLA, "drill", *place, *arguments, repository.url, "main"])

    def drill(self, repository: Repository, *arguments: str, backup: str | None = None) -> Completed:
        """Run the command as the servers' user, and see that nothing is left of it."""
        words = [*self.words(repository, *arguments), *([backup] if backup else [])]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), cwd="/", timeout=280,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert self.left() == [], done.stderr
        return done

    def json(self, repository: Repository, *arguments: str, backup: str | None = None, code: int = 0) -> dict[str, Any]:
        done = self.drill(repository, "--format", "json", *arguments, backup=backup)
        assert done.returncode == code, done.stderr + done.stdout
        document = json.loads(done.stdout)
        require_valid(document, "drill")
        (server,) = document["servers"]
        assert isinstance(server, dict)
        return server

    def left(self) -> list[str]:
        """What drills have left on disk or running."""
        place = self.directory / "drills"
        running = [name for found in processes() for name in found.info["cmdline"] or () if str(place) in name]
        return [*running, *(path.name for path in place.iterdir())]


def environment() -> dict[str, str]:
    # What would lead a client to another server.
    return command_environment({"PGHOSTADDR": "127.0.0.1", "PGPORT": "1", "PGSERVICE": "none", "TMPDIR": "/tmp"})


def names_of(family: Iterable[psutil.Process]) -> set[str]:
    """The names of processes, some of which may have ended."""
    found = set()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.name())
    return found


def processes() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline", "name"])


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    installation = newest_installation()
    settings = {"archive_mode": "on", **({"summarize_wal": "on"} if installation.major >= 17 else {})}
    no_checksums = ["--no-data-checksums"] if installation.major >= 18 else []
    with temporary_server_directory() as directory:
        touched = directory / "touched"
        server_directory(directory / "drills")
        server = PostgresServer.create(
            directory / "server", initdb=("--wal-segsize=1", *no_checksums), settings=settings
        )
        try:
            server.start()
            repository = Repository(directory / "store")
            repository.archive_from(server)
            server.configure(
                max_connections="150",  # from the next start on: it comes to the copy by WAL
                external_pid_file=str(touched),
                archive_cleanup_command=f"touch {touched}",
                recovery_end_command=f"touch {touched}",
                recovery_min_apply_delay="1h",
                shared_buffers="96MB",
            )
            server.create_tablespace("fast")
            server.query("CREATE TABLE hurt AS SELECT g AS a FROM generate_series(1, 1000) g")
            server.query("CREATE TABLE t (a int PRIMARY KEY) TABLESPACE fast")
            server.query("INSERT INTO t SELECT generate_series(1, 1000)")
            arguments: list[list[str]] = [[]]
            if installation.major >= 17:
                arguments.append(["--incremental", "latest"])
            for words in arguments:
                done = repository.backup(server, *words)
                assert done.returncode == 0, done.stderr
                server.query("INSERT INTO t SELECT max(a) + 1 FROM t")
            place = server.data / server.value("SELECT pg_relation_filepath('hurt')")
            server.stop()
            damage(place)
            server.start()
            done = repository.backup(server)
            assert done.returncode == 0, done.stderr
            for _ in range(3):
                server.query("INSERT INTO t SELECT max(a) + 1 FROM t")
                last = server.switch_wal()
            server.wait_archived(last)
        finally:
            server.crash()
        touched.unlink(missing_ok=True)
        yield Made(repository, directory, installation.bin, touched)


def damage(relation: Path) -> None:
    """Let the first line pointer of a table's first page point where no tuple can begin."""
    with relation.open("r+b") as file:
        file.seek(24)
        file.write(struct.pack("<I", 8001 | 1 << 15 | 40 << 17))


def messages(server: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Level and message of each finding, by subject."""
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in server["findings"]:
        found.setdefault(finding["subject"], []).append((finding["level"], finding["message"]))
    return found


def catalog_of(repository: Repository) -> Catalog:
    store = open_store(repository.url)
    return Catalog(store, Layout.of(store.url, "main"))


def wals(repository: Repository) -> list[Path]:
    return sorted(path for path in (repository.directory / "main/wals").rglob("*") if len(path.name) == 24)


def test_a_good_backup_is_recovered_to_the_newest_wal_questioned_and_thrown_away(made: Made) -> None:
    repository = made.repository
    first = repository.ids[0]
    (made.directory / "asserted.sql").write_text(INERT)
    server = made.json(
        repository, "--assert", f"SELECT count(*) = {1003 + len(repository.ids) - 1} FROM t",
        "--assert-file", str(made.directory / "asserted.sql"),
        "--json-summary", str(made.directory / "drills.json"), backup=first,
    )  # fmt: skip
    found, told = messages(server), server["drill"]
    summary = json.loads((made.directory / "drills.json").read_text())
    require_valid(summary, "summary")
    more = {"level": "ok", "problems": [], "can_restore": True, "next": []}
    assert summary["drill"] == {**told, **more}
    assert summary["stored_bytes"] == told["stored_bytes"]
    assert server["level"] == "ok"
    assert [message for _, message in found["assertion"]][1] == f"{made.directory}/asserted.sql: all 3 are true"
    assert found["amcheck"] == [("ok", "pg_amcheck found nothing wrong with tables and indexes of all databases")]
    assert told["backup_id"] == first
    assert told["restored_files"] >= told["verified_files"] > 900
    assert 0 < told["restore_seconds"] + told["recovery_seconds"] <= told["rto_seconds"] + 0.01
    # The last thing that was written is the restore point with which the last segment was finished.
    newest = wals(repository)[-1].name
    assert found["wal"] == [("ok", f"no segment that recovery needs is missing, up to {newest}")]
    high, low = told["recovered_lsn"].split("/")
    assert (int(high, 16), (int(low, 16) - 1) >> 20) == (0, int(newest[16:], 16) + (int(newest[8:16], 16) << 12))
    assert told["recovered_time"] is not None
    assert not made.touched.exists(), "a command of the configuration was run"

    catalog = catalog_of(repository)
    last = drill_record.last(catalog.store, catalog.layout)
    assert last is not None
    assert (last.succeeded, last.backup_id, last.recovered_lsn) == (True, first, told["recovered_lsn"])
    report = check(catalog.store, catalog.layout, Limits())
    assert report.metrics["last_drill_succeeded"] == 1
    assert any(finding.subject == "drill" and "succeeded: it took" in finding.message for finding in report.findings)


def test_damage_and_data_that_is_missing_are_told(made: Made) -> None:
    repository = made.copy("damaged")
    assertions = [
        "SELECT count(*) = 7 FROM t", "SELECT 42", "SELECT true FROM t WHERE false", "SELECT 1 FROM nowhere", "SELECT",
        "SET lock_timeout = 1", "SELECT a > 0 FROM t ORDER BY a",
    ]  # fmt: skip
    words = [word for text in assertions for word in ("--assert", text)]
    server = made.json(repository, *words, "--max-rto", "24h", code=1)
    found = messages(server)
    assert server["drill"]["backup_id"] == repository.ids[-1]
    ((level, message),) = found["amcheck"]
    assert level == "critical"
    assert message.startswith("pg_amcheck found damage: ")
    assert "hurt" in message
    assert "line pointer to page offset 8001 is not maximally aligned" in message
    assert found["assertion"] == [
        ("critical", "SELECT count(*) = 7 FROM t returned False, not true"),
        ("critical", "SELECT 42 returned 42, not true"),
        ("critical", "SELECT true FROM t WHERE false returned no row, not true"),
        (
            "critical",
            'SELECT 1 FROM nowhere failed: relation "nowhere" does not exist / LINE 1: SELECT 1 FROM nowhere / ^',
        ),
        ("critical", "SELECT returned no column, not true"),
        ("critical", "SET lock_timeout = 1 has no statement that returns rows, so it asserts nothing"),
        ("ok", "SELECT a > 0 FROM t ORDER BY a is true"),
    ]
    assert found["rto"][0][0] == "ok"
    catalog = catalog_of(repository)
    report = check(catalog.store, catalog.layout, Limits())
    told = [finding for finding in report.findings if finding.subject == "drill"]
    assert [finding.level for finding in told] == [Level.CRITICAL]


def test_wal_that_is_missing_or_damaged_is_a_defect(made: Made) -> None:
    repository = made.copy("holes")
    segment = wals(repository)[-2]
    content = bytearray(segment.read_bytes())
    content[200] ^= 0xFF  # in a record: its CRC alone tells
    segment.write_bytes(content)
    server = made.json(repository, "--no-amcheck", "--max-rto", "1s", backup=repository.ids[0], code=1)
    ((level, message),) = messages(server)["recovery"]
    assert level == "critical"
    assert f"it ended before the newest WAL of the archive, {wals(repository)[-1].name}" in message

    segment.unlink()
    done = made.drill(repository, backup=repository.ids[0])
    assert done.returncode == 1
    assert f"{segment.name} is missing" in done.stdout
    assert "FAILED   wal" in done.stdout
    assert "OK       restore" not in done.stdout, "nothing is restored in vain"


def start(made: Made, *arguments: str) -> subprocess.Popen[str]:
    """Start a drill, and return when its server answers an assertion that takes long."""
    words = made.words(made.repository, "--no-amcheck", "--assert", "SELECT pg_sleep(600) IS NOT NULL", *arguments)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment(), cwd="/")

    def asked() -> bool:
        assert process.poll() is None
        below = {found.pid for found in psutil.Process(process.pid).children(recursive=True)}
        titles = [" ".join(found.info["cmdline"] or ()) for found in processes() if found.pid in below]
        return any("[local] SELECT" in title for title in titles)

    wait_for(asked, what="the drill to ask")
    return process


def test_a_killed_drill_leaves_nothing_running_and_the_next_one_removes_its_files(made: Made) -> None:
    process = start(made)
    family = psutil.Process(process.pid).children(recursive=True)
    assert "postgres" in names_of(family)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not psutil.wait_procs(family, timeout=0.2)[1], what="the server to end as well")
    (left,) = made.left()
    again = start(made)
    assert left not in made.left()
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 128 + signal.SIGTERM
    assert f"{left}, which a drill has left that was killed" in errors
    assert "interrupted by SIGTERM; the drill has left nothing behind" in errors
    assert made.left() == []


@pytest.mark.long
def test_without_pg_amcheck_its_queries_find_the_same(made: Made) -> None:
    programs = made.directory / "programs"
    programs.mkdir()
    for name in ("postgres", "pg_controldata"):
        (programs / name).symlink_to(made.installation_bin / name)
    server = made.json(made.repository, "--pg-bin", str(programs), code=1)
    ((level, message),) = messages(server)["amcheck"]
    assert level == "critical"
    assert message.startswith("amcheck found damage: postgres: hurt: line pointer to page offset 8001")
    server = made.json(made.repository, "--pg-bin", str(programs), backup=made.repository.ids[0])
    assert "tables and indexes of 2 databases" in messages(server)["amcheck"][0][1]


@pytest.mark.long
def test_a_chain_and_a_target_and_what_is_kept(made: Made) -> None:
    if len(made.repository.ids) < 3:
        pytest.skip("incremental backups need PostgreSQL 17")
    chain = made.repository.ids[1]
    done = made.drill(made.repository, "--target-immediate", "--assert", "SELECT count(*) = 1001 FROM t", backup=chain)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{chain}, incremental, on top of {made.repository.ids[0]}" in done.stdout
    words = made.words(made.repository, "--keep", "--no-amcheck", "--format", "json")
    kept = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd="/", check=True)
    place = Path(json.loads(kept.stdout)["servers"][0]["drill"]["kept"])
    assert (place / "PG_VERSION").exists()
    assert not (place / "postmaster.pid").exists()
    assert sorted(path.name for path in place.parent.iterdir() if "tablespace" not in path.name) == ["data"]
    shutil.rmtree(place.parent)


def test_what_this_machine_lacks_is_told_before_anything_is_written(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    catalog = catalog_of(made.repository)
    settings = RecoverySettings("false")

    def refused(**options: Any) -> str:
        with pytest.raises(DrillError) as caught:
            drill(catalog, None, settings, DrillOptions(directory=made.directory / "drills", **options))
        assert made.left() == []
        return f"{caught.value} ({caught.value.hint})"

    usual = os.statvfs(made.directory)
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _path: os.statvfs_result((*usual[:2], *(10,) * 8)))
        text = refused(pg_bin=str(made.installation_bin))
    assert "not enough room in" in text
    assert "give another place with --directory" in text
    monkeypatch.setattr("barman_cloud.postgres.programs._KNOWN_PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("barman_cloud.postgres.programs._version", lambda _program: "9.6")
    text = refused(pg_bin="/somewhere")
    major = newest_installation().major
    assert f"can't be drilled here: no PostgreSQL {major} on this machine (looked in /somewhere, which has 9.6)" in text
    assert "--pg-bin" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_is_told_whom_to_become(made: Made) -> None:
    words = [UMBRELLA, "drill", made.repository.url, "main"]
    for user, problem in {
        "no_such_user": "there is no user no_such_user", "root": "that is root, which PostgreSQL refuses",
    }.items():  # fmt: skip
        done = subprocess.run(
            [*words, "--run-as", user], capture_output=True, text=True, env=environment(), check=False
        )
        assert done.returncode in (3, 4)
        assert problem in done.stderr
    done = subprocess.run([*words, "--pg-bin", str(made.installation_bin), "--no-amcheck"], capture_output=True,
                          text=True, env=environment(), check=False)  # fmt: skip
    if server_account().method == "setuid":
        assert done.returncode == 0, done.stderr
    else:
        assert f"can't read this installation ({sys.prefix})" in done.stderr
