"""The main job, for real, in under a minute: full backups, an increment, WAL, a lost table, and the moment before back.

Run by ``make demo``. Everything is in ``.demo``, which stays for a look around; no process stays. With
``make demo URL=s3://bucket/path ENDPOINT=http://…`` the backups go to that store, below ``path/demo-…``, by the
credentials in the environment.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.installations import newest_installation
from tests.support.postgres import SUPERUSER, PostgresServer, adopt, run_as_server, server_directory
from tests.support.privileges import PROJECT, server_account

from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions

DEMO = PROJECT / ".demo"
CLOUD_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "CLOUDSDK_")
SERVER_NAME = "shop"
SUMMARIES_SINCE = 17
"""From this PostgreSQL on a server streams increments, if it summarizes its WAL."""
MIB = 1 << 20


@dataclass(frozen=True)
class Bucket:
    """Where the backups go."""

    url: str
    options: tuple[str, ...] = ()
    """Options of every command that reaches it."""
    environ: Mapping[str, str] = field(default_factory=dict)

    def size(self, part: str) -> tuple[int, int]:
        """Return the number and the bytes of the objects whose key contains ``part``."""
        said = dict(zip(self.options[::2], self.options[1::2], strict=True))
        options = StoreOptions(endpoint_url=said.get("--endpoint-url"))
        with open_store(self.url, said.get("--cloud-provider"), options, self.environ) as store:
            folder = f"{store.url.path}/{SERVER_NAME}/".lstrip("/")
            sizes = [info.size for info in store.list(folder) if part in info.key.removeprefix(folder)]
        return len(sizes), sum(sizes)


def bucket(url: str | None, endpoint: str | None, provider: str | None) -> Bucket:
    """Return the bucket that the command line asks for, by default a directory."""
    if url is None:
        return Bucket(f"file://{server_directory(DEMO / 'store')}")
    options = (
        *(("--endpoint-url", endpoint) if endpoint else ()),
        *(("--cloud-provider", provider) if provider else ()),
    )
    environ = {name: value for name, value in os.environ.items() if name.startswith(CLOUD_VARIABLES)}
    return Bucket(f"{url.rstrip('/')}/demo-{os.getpid()}", options, environ)


@dataclass
class Story:
    """Prints numbered steps with their timings."""

    store: Bucket
    started: float = field(default_factory=time.monotonic)
    number: int = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell what is done now and, at the end, how long it took."""
        self.number += 1
        print(f"\n{self.number}. {title}", flush=True)
        started = time.monotonic()
        yield
        print(f"   [{time.monotonic() - started:.1f} s]", flush=True)

    def tell(self, text: str) -> None:
        """Print one line of a step."""
        print(f"   {text}", flush=True)

    def run(self, command: str, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """Show a command, run it as the servers' user and return its output."""
        command_line = [command, *self.store.options, *arguments]
        print(f"   $ {shlex.join(command_line)}", flush=True)
        return run_as_server(command_line, environ={**(environ or {}), **self.store.environ}).stdout


def main() -> int:
    """Tell the story; exit 1 if what was lost doesn't come back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", metavar="URL", help="a store to back up to; a directory by default")
    parser.add_argument("--endpoint-url", help="of a store that isn't Amazon's")
    parser.add_argument("--cloud-provider", help="where the URL doesn't tell it, as for Azure's emulator")
    arguments = parser.parse_args()
    print(f"PostgreSQL {newest_installation().version}; servers run as uid {server_account().uid}; files in {DEMO}")
    shutil.rmtree(DEMO, ignore_errors=True)
    server_directory(DEMO)
    place = bucket(arguments.url, arguments.endpoint_url, arguments.cloud_provider)
    story = Story(place)
    store = place.url
    with_summaries = newest_installation().major >= SUMMARIES_SINCE
    server = PostgresServer.create(DEMO / "server", settings={"summarize_wal": "on"} if with_summaries else {})
    server.environ.update(place.environ)
    try:
        with story.step(f"Start PostgreSQL {server.installation.version}, archiving with barman-cloud-wal-archive"):
            server.start()
            options = shlex.join(["--gzip", *place.options])
            server.archive_with(f"barman-cloud-wal-archive {options} {store} {SERVER_NAME} %p")
            story.tell(f"archive_command = '{server.value('SHOW archive_command')}'")
        create_data(story, server)
        back_up(story, server, store)
        stream(story, server, store)
        increment(story, server, store, "stream" if with_summaries else "files")
        moment, before = lose_a_table(story, server)
    finally:
        server.stop()
    restored = DEMO / "restored" / "data"
    restore(story, store, restored, moment)
    recovered = adopt(restored)
    recovered.environ.update(place.environ)
    try:
        came_back = prove(story, recovered, before)
    finally:
        recovered.stop()
    outcome = "Nothing was lost." if came_back else "DATA IS MISSING."
    print(f"\nDone in {time.monotonic() - story.started:.1f} s. {outcome}")
    print(f"Look around: {store}/{SERVER_NAME} is the bucket (base/ and wals/), {restored} the restored cluster.")
    return 0 if came_back else 1


def create_data(story: Story, server: PostgresServer) -> None:
    """Fill the cluster with pgbench's tables and a table in a tablespace of its own."""
    with story.step("Create data: pgbench, and a table in a second tablespace"):
        server.pgbench("-i", "-s", "12")
        location = server.create_tablespace("cold_storage")
        server.query(
            "CREATE TABLE orders TABLESPACE cold_storage AS SELECT n AS id, md5(n::text) AS article,"
            " (random() * 1000)::numeric(9, 2) AS price, now() - n * interval '1 minute' AS ordered_at"
            " FROM generate_series(1, 300000) n"
        )
        server.query("ALTER TABLE orders ADD PRIMARY KEY (id)")
        size = size_of(server.data, without="pg_wal")
        story.tell(f"PGDATA holds {megabytes(size)}, the tablespace {megabytes(size_of(location))}")


def back_up(story: Story, server: PostgresServer, store: str) -> None:
    """Take a full backup of the running server and show what the catalog says about it."""
    with story.step("Take a full backup of the running server"):
        started = time.monotonic()
        story.run(
            *("barman-cloud-backup", "--name", "before-the-accident", "--gzip", "--jobs", "2"),
            *("--immediate-checkpoint", "--user", SUPERUSER, store, SERVER_NAME),
            environ=server.client_environ,
        )
        seconds = time.monotonic() - started
        archives, stored = story.store.size(".tar")
        raw = size_of(server.data, without="pg_wal") + size_of(server.directory / "tablespace-cold_storage")
        story.tell(
            f"{megabytes(raw)} became {megabytes(stored)} in {archives} archives:"
            f" {raw / MIB / seconds:.0f} MiB/s, the start of Python and PostgreSQL's checkpoint included"
        )
        for line in story.run("barman-cloud-backup-list", store, SERVER_NAME).splitlines():
            story.tell(line)


def stream(story: Story, server: PostgresServer, store: str) -> None:
    """Take another full backup over a replication connection, as a host without access to the files would."""
    with story.step(
        "Take another full backup from elsewhere: PostgreSQL streams it, nothing touches a disk on the way"
    ):
        started = time.monotonic()
        story.run(
            *("barman-cloud-backup", "--method", "stream", "--name", "streamed", "--zstd", "--jobs", "2"),
            *("--immediate-checkpoint", "--host", "127.0.0.1", "--port", str(server.port), "--user", SUPERUSER),
            *(store, SERVER_NAME),
        )
        seconds = time.monotonic() - started
        raw = size_of(server.data, without="pg_wal") + size_of(server.directory / "tablespace-cold_storage")
        story.tell(f"{raw / MIB / seconds:.0f} MiB/s")


def increment(story: Story, server: PostgresServer, store: str, method: str) -> None:
    """Change something, and take an incremental backup on top of the streamed one."""
    with story.step("Work for a second, then take an incremental backup: only the blocks that changed since the last"):
        server.pgbench("-T", "1", "-c", "4", "-N")
        _, before = story.store.size(".tar")
        started = time.monotonic()
        story.run(
            *("barman-cloud-backup", "--method", method, "--incremental", "last", "--name", "increment", "--zstd"),
            *("--immediate-checkpoint", "--host", "127.0.0.1", "--port", str(server.port), "--user", SUPERUSER),
            *(store, SERVER_NAME),
        )
        seconds = time.monotonic() - started
        _, after = story.store.size(".tar")
        story.tell(
            f"{megabytes(after - before)} more are stored, in {seconds:.1f} s;"
            " it is the newest, so that the restore puts it together with the full one below it"
        )
        for line in story.run("barman-cloud-backup-list", store, SERVER_NAME).splitlines():
            story.tell(line)


def lose_a_table(story: Story, server: PostgresServer) -> tuple[str, tuple[int, str]]:
    """Go on working, note the time, drop a table; return the time and what the tables held."""
    with story.step("Go on working for three seconds, then drop a table by accident"):
        server.pgbench("-T", "3", "-c", "4", "-N")
        server.query("INSERT INTO orders SELECT n, 'after the backup', 1, now() FROM generate_series(300001, 300100) n")
        before = contents(server)
        moment = str(server.value("SELECT now()"))
        story.tell(f"{moment}: orders has {before[0]} rows, pgbench_history sums up to {before[1]}")
        time.sleep(0.1)
        server.query("DROP TABLE orders")
        story.tell("DROP TABLE orders")
        server.wait_archived(server.switch_wal())
        segments, stored = story.store.size("wals/")
        story.tell(f"{segments} WAL files are archived, {megabytes(stored)} in all; the server stops")
        return moment, before


def restore(story: Story, store: str, target: Path, moment: str) -> None:
    """Restore the backup beside the lost cluster and prepare it for recovery to ``moment``."""
    with story.step("Restore into an empty directory, to the moment before the accident"):
        server_directory(target.parent)
        tablespace = target.parent / "cold_storage"
        started = time.monotonic()
        story.run(
            *(
                "barman-cloud-restore",
                "--write-recovery-settings",
                "--target-time",
                moment,
                "--target-action",
                "promote",
            ),
            *("--tablespace", f"cold_storage:{tablespace}", store, SERVER_NAME, "auto", str(target)),
        )
        seconds = time.monotonic() - started
        size = size_of(target) + size_of(tablespace)
        story.tell(f"{megabytes(size)} are back: {size / MIB / seconds:.0f} MiB/s")
        for line in (target / "postgresql.auto.conf").read_text().splitlines():
            if line.startswith(("restore_command", "recovery_target")) and not line.endswith("''"):
                story.tell(line)


def prove(story: Story, server: PostgresServer, before: tuple[int, str]) -> bool:
    """Start the restored cluster, compare the data and check every table and index."""
    with story.step("Start the restored cluster and look"):
        server.start()
        server.wait_recovered()
        after = contents(server)
        same = after == before
        story.tell(
            f"orders has {after[0]} rows, pgbench_history sums up to {after[1]}: {'equal' if same else 'DIFFERENT'}"
        )
        server.amcheck()
        story.tell("pg_amcheck --heapallindexed: every table and index is sound")
    return same


def contents(server: PostgresServer) -> tuple[int, str]:
    """Return what must come back: the rows of the lost table, and a sum over what pgbench wrote."""
    rows = server.value("SELECT count(*) FROM orders")
    total = server.value("SELECT count(*) || ' rows / ' || coalesce(sum(delta), 0) FROM pgbench_history")
    return int(rows), str(total)


def size_of(directory: Path, *, without: str = "") -> int:
    """Return the bytes of all files below ``directory``, one folder name left out."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if not without or without not in path.parts)


def megabytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / MIB:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
