"""Commands that meet: many archivers, backups, deletions, keeps and restores at the same moment, as processes.

On moto, which honours conditional writes, and on ``rclone serve s3``, which ignores them: there two that write one
object at the same instant can't be told apart by any client, so what has to hold is less, and said at each test.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from barman_cloud.catalog import keep
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.background_processes import ended_background_processes
from tests.support.commands import program
from tests.support.postgres import PostgresServer, command_environment
from tests.support.segments import SYSTEM, Cluster, segment
from tests.support.servers import StoreServer
from tests.unit.catalog.builders import backup, fill
from tests.unit.catalog.builders import segment as wal_name
from tests.unit.restore.backups import Bucket, member, minimal, with_manifest

ARCHIVERS = 32
NAME = "main"
_OF_WAL = {"backup-wal", "restorable"}
"""What ``verify`` misses where no server archives."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: str


@dataclass
class Place:
    """A bucket on a server, and commands on it."""

    server: StoreServer
    url: str
    home: Path

    @property
    def store(self) -> ObjectStore:
        options = StoreOptions(endpoint_url=self.server.endpoint)
        return open_store(self.url, None, options, self.server.environ)

    @property
    def layout(self) -> Layout:
        return Layout.of(self.store.url, NAME)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.store, self.layout)

    def start(self, name: str, *arguments: object, before: Sequence[str] = (), **environ: str) -> subprocess.Popen[str]:
        """Start a command on this place; ``arguments`` come behind URL and server, ``before`` before them."""
        command = [program(name), *before, *self.server.options, self.url, NAME, *map(str, arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=command_environment({**self.server.environ, "HOME": str(self.home), **environ}),
        )  # fmt: skip


def all_ended(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
    """Wait for commands that run, and return how each ended."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [Ended(process.returncode, said) for process, said in zip(processes, errors, strict=True)]


BOTH = ["moto", "rclone_s3"]


@pytest.fixture(params=["moto", pytest.param("rclone_s3", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    server: StoreServer = request.getfixturevalue(request.param)
    home = tmp_path / "home"
    home.mkdir()
    return Place(server, server.new_bucket(), home)


def stored_segments(place: Place) -> dict[str, bytes]:
    found = {}
    for item in place.store.list(place.layout.wals_dir):
        wal = place.layout.parse_wal_key(item.key)
        assert wal is not None
        found[wal.name] = place.store.get(item.key)
    return found


class TestArchivers:
    @pytest.mark.parametrize("place", BOTH, indirect=True)
    def test_32_at_once_store_every_segment_once(self, place: Place, tmp_path: Path) -> None:
        """Eight of them archive what another one archives at the same moment: same bytes, so both succeed."""
        cluster = Cluster(tmp_path / "data")
        paths = [cluster.add(number) for number in range(ARCHIVERS - 8)]
        ended = all_ended([place.start("wal-archive", path) for path in (*paths, *paths[:8])])
        assert [end for end in ended if end.code != 0] == []
        assert stored_segments(place) == {path.name: segment(number) for number, path in enumerate(paths)}
        assert place.store.get(place.layout.identity) == f"{SYSTEM}\n".encode()

    @pytest.mark.long
    def test_32_at_once_with_one_spool(self, place: Place, tmp_path: Path) -> None:
        cluster, spool = Cluster(tmp_path / "data"), tmp_path / "spool"
        spool.mkdir(mode=0o700)
        paths = [cluster.add(number) for number in range(ARCHIVERS)]
        with ended_background_processes(spool):
            before = ["--parallel", "4", "--spool-dir", str(spool)]
            ended = all_ended([place.start("wal-archive", path, before=before) for path in paths])
        assert [end for end in ended if end.code != 0] == []
        assert stored_segments(place) == {path.name: segment(number) for number, path in enumerate(paths)}

    @pytest.mark.parametrize("place", BOTH, indirect=True)
    def test_two_hosts_with_one_name(self, place: Place, tmp_path: Path) -> None:
        """Two clusters begin to archive to one place at the same moment.

        With conditional writes, one of them gets it, and nothing of the other is stored. Without, both may find
        the archive free for the first of their segments; but whoever is told that a segment is stored finds it stored
        while nobody else was told the same of another one, and from then on only one archives.
        """
        clusters = [Cluster(tmp_path / str(number), system=SYSTEM + number) for number in (1, 2)]
        # Names of their own, as of two servers whose positions differ; the last one is in both.
        paths = [[cluster.add(10 * number + i) for i in range(6)] for number, cluster in enumerate(clusters)]
        flat = list(itertools.chain.from_iterable(zip(*paths, strict=True)))
        ended = dict(zip(flat, all_ended([place.start("wal-archive", path) for path in flat]), strict=True))
        stored = stored_segments(place)
        for path, end in ended.items():
            assert end.code in (0, 1), end
            if end.code == 0:
                assert stored[path.name] == path.read_bytes(), f"{path} was acknowledged"
            else:
                assert "is the archive of the cluster with system identifier" in end.errors
                assert path.name not in stored
        owner = int(place.store.get(place.layout.identity))
        winners = {SYSTEM + 1 + number for number, own in enumerate(paths) for path in own if ended[path].code == 0}
        if place.store.capabilities.conditional_create and place.server.name != "rclone":
            assert winners == {owner}
        assert owner in winners
        later = [cluster.add(40 + number) for number, cluster in enumerate(clusters)]
        codes = [end.code for end in all_ended([place.start("wal-archive", path) for path in later])]
        assert codes == [0 if SYSTEM + 1 + number == owner else 1 for number in range(2)]


class TestBackups:
    def test_two_in_one_second(self, place: Place, postgres: PostgresServer) -> None:
        """Each gets an id of its own, or is told that another took it; what is DONE is whole."""
        arguments = ["--immediate-checkpoint", "--jobs", "1"]
        running = [place.start("backup", before=arguments, **postgres.client_environ) for _ in range(2)]
        ended = all_ended(running)
        done = [info.backup_id for info in place.catalog.load().backups.values() if info.is_complete]
        assert len(done) == sum(end.code == 0 for end in ended) >= 1, ended
        for end in ended:
            assert end.code == 0 or "took the id" in end.errors
        for backup_id in done:
            names = {key.rpartition("/")[2] for key in _keys(place, place.layout.backup_dir(backup_id))}
            assert {"backup.info", "archives.json", "data.tar"} <= names
        for backup_id in done:
            findings = self._verified(place, backup_id)
            assert {subject for subject, level in findings.items() if level != "ok"} <= _OF_WAL, findings

    @staticmethod
    def _verified(place: Place, backup_id: str) -> dict[str, str]:
        """Return the level of each subject, after every byte of a backup was read."""
        command = [str(Path(program("backup")).parent / "barman-cloud"), "verify", "--format", "json"]
        done = subprocess.run(
            [*command, *place.server.options, place.url, NAME, backup_id],
            capture_output=True, text=True, timeout=280, check=False,
            env=command_environment({**place.server.environ, "HOME": str(place.home)}),
        )  # fmt: skip
        return {finding["subject"]: finding["level"] for finding in json.loads(done.stdout)["servers"][0]["findings"]}

    def test_a_policy_beside_a_backup(self, place: Place, postgres: PostgresServer) -> None:
        """Retention runs again and again while a backup is taken, and takes nothing of it."""
        fill(place.catalog, [backup(f"2020010{number}T000000", wal_name(number)) for number in range(1, 6)])
        running = place.start("backup", before=["--immediate-checkpoint"], **postgres.client_environ)
        rounds = 0
        while running.poll() is None or rounds < 2:
            policy = ["--retention-policy", "REDUNDANCY 1"]
            (end,) = all_ended([place.start("backup-delete", before=policy)])
            assert end.code == 0, end
            rounds += 1
        (ended,) = all_ended([running])
        assert ended.code == 0, ended
        # The last round may have looked before there was the new one.
        (end,) = all_ended([place.start("backup-delete", before=["--retention-policy", "REDUNDANCY 1"])])
        assert end.code == 0, end
        (left,) = place.catalog.load().backups.values()
        assert left.is_complete
        assert left.deletion is None
        names = {key.rpartition("/")[2] for key in _keys(place, place.layout.backup_dir(left.backup_id))}
        assert {"backup.info", "archives.json", "data.tar"} <= names
        assert "being_deleted" not in names

    @pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.long)])
    def test_keep_beside_retention(self, place: Place, rounds: int) -> None:
        """A keep that says 0 has kept, whatever deletes at the moment; a deletion leaves nothing that is half there."""
        old, new = "20200101T000000", "20200102T000000"
        for number in range(rounds):
            fill(place.catalog, [backup(old, wal_name(1)), backup(new, wal_name(2))])
            policy = ["--retention-policy", "REDUNDANCY 1"]
            if number % 2:
                keeping = place.start("backup-keep", old, before=["--target", "full"])
                deleting = place.start("backup-delete", before=policy)
            else:
                deleting = place.start("backup-delete", before=policy)
                keeping = place.start("backup-keep", old, before=["--target", "full"])
            kept, deleted = all_ended([keeping, deleting])
            backups = place.catalog.load().backups
            there = _keys(place, place.layout.backup_dir(old))
            if kept.code == 0:
                assert backups[old].is_complete, (kept, deleted)
                assert place.layout.archive(old, "data") in there
                assert keep.read(place.catalog, old) == "full"
            elif deleted.code:  # each has seen the other
                assert backups[old].is_complete, (kept, deleted)
            if old in backups and backups[old].is_complete:
                assert place.layout.archive(old, "data") in there
            place.store.delete(list(_keys(place, place.layout.root)))


class TestRestores:
    @pytest.fixture
    def bucket(self, place: Place) -> Iterator[Bucket]:
        """A backup of some megabytes, so that two restores of it overlap."""
        bucket = Bucket(place.store)
        files = [member(f"base/5/{number}", os.urandom(400_000)) for number in range(30)]
        with_manifest(bucket, {"data": minimal(*files)})
        bucket.save()
        yield bucket

    def test_two_into_one_place(self, place: Place, bucket: Bucket, tmp_path: Path) -> None:
        """One of them restores, the other says why it doesn't, and nothing of it is in the way."""
        backup_id = bucket.info.backup_id
        alone, shared = tmp_path / "alone", tmp_path / "shared"
        assert all_ended([place.start("restore", backup_id, alone)])[0].code == 0
        for delay in (0.0, 0.2):
            running = [place.start("restore", backup_id, shared / str(delay))]
            time.sleep(delay)
            running.append(place.start("restore", backup_id, shared / str(delay)))
            ended = all_ended(running)
            assert sorted(end.code for end in ended) == [0, 1], ended
            (refused,) = [end for end in ended if end.code]
            assert "another process is restoring" in refused.errors or "is not empty" in refused.errors
            assert _contents(shared / str(delay)) == _contents(alone)


def _keys(place: Place, prefix: str) -> set[str]:
    return {item.key for item in place.store.list(prefix)}


def _contents(directory: Path) -> dict[str, str]:
    """Return every path below a directory with the digest of its content."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in directory.rglob("*")
    }
