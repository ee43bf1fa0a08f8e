"""List and delete with a large catalog: the requests made and the time, ours and Barman's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.support.peers import Commands, find_barman, our_commands
from tests.support.postgres import command_environment
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY

from barman_cloud.catalog.backup_info import BackupInfo, dump
from benchmarks.counting_store import CountingStore, counting_store
from benchmarks.meter import measure
from benchmarks.setting import Bench

BUCKET = "bucket"
SERVER = "main"
SEGMENT = 16 << 20
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def run(bench: Bench) -> None:
    """Fill the store and run each command of each contestant on the same catalog."""
    peer = find_barman()
    contestants = {"ours": our_commands()}
    if peer:
        contestants[f"Barman {'.'.join(map(str, peer.version))}"] = peer
    with counting_store() as (store, endpoint):
        runs: list[Callable[[], float]] = []
        for name, commands in contestants.items():
            runs.append(partial(_list, bench, store, endpoint, name, commands))
            runs.append(partial(_delete_one, bench, store, endpoint, name, commands))
            runs.append(partial(_delete_by_policy, bench, store, endpoint, name, commands))
        bench.results.take_turns(bench.scale.rounds, runs)


def fill(store: CountingStore, backups: int, wal_objects: int) -> list[str]:
    """Put a backup every ``wal_objects / backups`` segments into the store, and return their ids, oldest first."""
    store.objects = {}
    for number in range(wal_objects):
        name = _wal_name(number)
        store.put(f"{SERVER}/wals/{name[:16]}/{name}.gz", b"")
    ids = []
    every = wal_objects // backups
    for number in range(backups):
        end = FIRST + timedelta(hours=number)
        backup_id = end.strftime("%Y%m%dT%H%M%S")
        ids.append(backup_id)
        store.put(f"{SERVER}/base/{backup_id}/data.tar.gz", b"")
        store.put(f"{SERVER}/base/{backup_id}/backup.info", dump(_info(backup_id, number * every, end)).encode())
    return ids


def _info(backup_id: str, segment: int, end: datetime) -> BackupInfo:
    name, lsn = _wal_name(segment), segment * SEGMENT
    location = f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
    return BackupInfo(
        backup_id=backup_id,
        server_name=SERVER,
        status="DONE",
        mode="concurrent",
        version=170000,
        systemid="7512345678901234567",
        pgdata="/var/lib/postgresql/data",
        timeline=1,
        xlog_segment_size=SEGMENT,
        begin_wal=name,
        end_wal=name,
        begin_xlog=location,
        end_xlog=location,
        begin_offset=40,
        end_offset=312,
        begin_time=end - timedelta(minutes=5),
        end_time=end,
        size=1 << 30,
    )


def _wal_name(number: int) -> str:
    return f"00000001{number // 256:08X}{number % 256:08X}"


def _list(bench: Bench, store: CountingStore, endpoint: str, name: str, commands: Commands) -> float:
    fill(store, bench.scale.backups, bench.scale.wal_objects)
    return _run(bench, store, endpoint, name, commands, "list", "barman-cloud-backup-list")


def _delete_one(bench: Bench, store: CountingStore, endpoint: str, name: str, commands: Commands) -> float:
    ids = fill(store, bench.scale.backups, bench.scale.wal_objects)
    options = ["--backup-id", ids[0]]
    return _run(bench, store, endpoint, name, commands, "delete the oldest", "barman-cloud-backup-delete", *options)


def _delete_by_policy(bench: Bench, store: CountingStore, endpoint: str, name: str, commands: Commands) -> float:
    fill(store, bench.scale.backups, bench.scale.wal_objects)
    keep = bench.scale.backups - bench.scale.backups // 20
    options = ["--retention-policy", f"REDUNDANCY {keep}"]
    return _run(bench, store, endpoint, name, commands, f"keep {keep} of them", "barman-cloud-backup-delete", *options)


def _run(
    bench: Bench,
    store: CountingStore,
    endpoint: str,
    name: str,
    commands: Commands,
    case: str,
    command: str,
    *options: str,
) -> float:
    environ = command_environment(
        {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )
    store.requests.clear()
    before = len(store.objects)
    argv = [commands.path(command), *options, "--endpoint-url", endpoint, f"s3://{BUCKET}", SERVER]
    used = measure(argv, environ)
    made = ", ".join(f"{count} {kind}" for kind, count in sorted(store.requests.items()))
    deleted = f"; {before - len(store.objects)} objects deleted" if before > len(store.objects) else ""
    label = f"{bench.scale.backups} backups, {bench.scale.wal_objects} WAL: {case}"
    bench.results.add("catalog", label, name, used, f"{sum(store.requests.values())} requests ({made}){deleted}")
    return used.wall
