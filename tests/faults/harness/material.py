"""Real backups and WAL, made once for many cases: the objects of a store, and what their restore looks like."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.postgres import PostgresServer, run_as_server, server_directory

SERVER = "main"
BACKUPS = 3
COMPARED: Counter[str] = Counter()
"""How much was compared with what it had to be, in ``bytes``."""


@dataclass(frozen=True)
class Material:
    """A store with three backups of a small cluster and their WAL, as files, and the cluster, running."""

    directory: Path
    server: PostgresServer
    ids: tuple[str, ...]
    """The backups, ascending."""
    objects: Mapping[str, bytes]
    """The store, by key."""
    wals: tuple[str, ...] = ()
    trees: dict[str, dict[str, str]] = field(default_factory=dict)
    cleaned: dict[str, int] = field(default_factory=dict)
    """What ``cleanup`` leaves of it, once that was tried."""

    def fill(self, url: str, environ: Mapping[str, str]) -> None:
        """Put all objects into an empty store."""
        with open_store(url, environ=environ) as store:
            prefix = f"{store.url.path}/".lstrip("/")
            for key, content in self.objects.items():
                store.put(prefix + key, content)

    def restored(self, backup_id: str) -> dict[str, str]:
        """Return what a restore of this backup looks like (:func:`tree`)."""
        if backup_id not in self.trees:
            target = server_directory(self.directory / f"reference-{backup_id}") / "data"
            url = f"file://{self.directory / 'store'}"
            run_as_server([program("restore"), url, SERVER, backup_id, target])
            run_as_server([self.server.installation.tool("pg_verifybackup"), "-n", target])
            self.trees[backup_id] = tree(target)
            shutil.rmtree(target)
        return self.trees[backup_id]


@contextlib.contextmanager
def material(directory: Path) -> Iterator[Material]:
    """Make it with a server of its own; the server runs until the block ends."""
    store = server_directory(directory / "store")
    url = f"file://{store}"
    with PostgresServer.create(directory / "server", settings={"wal_keep_size": "1GB"}) as server:
        server.archive_with(f"barman-cloud-wal-archive --gzip {url} {SERVER} %p")
        for number in range(BACKUPS):
            server.query(f"CREATE TABLE t{number} AS SELECT n, md5(n::text) AS m FROM generate_series(1, 2000) n")
            options = ["--immediate-checkpoint", "--gzip", "--jobs", "2"]
            command = [program("backup"), *options, url, SERVER]
            run_as_server(command, environ=server.client_environ)
            server.wait_archived(server.switch_wal())
        server.query("ALTER SYSTEM SET archive_command = 'true'")
        server.query("SELECT pg_reload_conf()")
        objects = {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
        ids = tuple(sorted({key.split("/")[2] for key in objects if "/base/" in key}))
        wals = sorted(key.rpartition("/")[2].removesuffix(".gz") for key in objects if "/wals/" in key)
        segments = tuple(name for name in wals if len(name) == 24)
        assert len(ids) == BACKUPS
        yield Material(directory, server, ids, objects, segments)


def tree(directory: Path) -> dict[str, str]:
    """Return each path below ``directory`` with its kind, mode, and content."""
    found = {}
    for folder, folders, names in os.walk(directory):
        for name in folders + names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = stat.filemode(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                data = Path(path).read_bytes()
                COMPARED["bytes"] += len(data)
                content = hashlib.sha256(data).hexdigest()
            else:
                content = ""
            found[os.path.relpath(path, directory)] = f"{kind} {content}"
    return found


def difference(got: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Say in a line how a tree differs from the expected one; empty if it doesn't."""
    missing = sorted(expected.keys() - got.keys())
    extra = sorted(got.keys() - expected.keys())
    other = sorted(name for name in got.keys() & expected.keys() if got[name] != expected[name])
    parts = [
        f"{what} {names[:5]}" for what, names in (("lacks", missing), ("has", extra), ("differs in", other)) if names
    ]
    return ", ".join(parts)
