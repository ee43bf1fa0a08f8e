"""The commands, as programs, on snapshot backups: EC2 by moto, disks that are loop devices, a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run_command
from tests.support.machine import LoopDisks, loop_disks
from tests.support.postgres import Installation, PostgresServer, adopt
from tests.support.servers import REGION, StoreServer
from tests.support.snapshot_clouds import AwsCloud

SNAPSHOT = ("--snapshot-instance", "pg-host", "--snapshot-disk", "pgdata")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("-z", *SNAPSHOT), 4),
        (("--zstd", "--snapshot-disk", "pgdata"), 4),
        (("--snapshot-instance", "pg-host"), 4),
        (("--snapshot-disk", "pgdata"), 4),
        ((*SNAPSHOT, "--aws-snapshot-lock-mode", "compliance"), 4),
        ((*SNAPSHOT, "--aws-snapshot-lock-mode", "governance", "--aws-snapshot-lock-cool-off-period", "3"), 4),
        ((*SNAPSHOT, "--aws-snapshot-lock-mode", "forever"), 3),
        ((*SNAPSHOT, "--aws-snapshot-lock-duration", "40000"), 3),
        ((*SNAPSHOT, "--aws-snapshot-lock-duration", "0"), 3),
        ((*SNAPSHOT, "--aws-snapshot-lock-cool-off-period", "99"), 3),
        ((*SNAPSHOT, "--aws-snapshot-lock-expiration-date", "2024-01-01"), 3),
        (
            (
                *SNAPSHOT,
                *("--aws-snapshot-lock-duration", "1"),
                *("--aws-snapshot-lock-expiration-date", "2099-01-01T00:00:00.0Z"),
            ),
            3,
        ),
        ((*SNAPSHOT, "--aws-await-snapshots-timeout", "0"), 3),
        ((*SNAPSHOT, "--kms-key-name", "k"), 4),
        ((*SNAPSHOT, "--tag", "Name,x", "--aws-region", REGION), 4),
    ],
)
def test_bad_options_end_with_the_contracts_code_and_one_line(
    aws: AwsCloud, moto: StoreServer, postgres: PostgresServer, arguments: tuple[str, ...], code: int
) -> None:
    environ = {**moto.environ, "AWS_ENDPOINT_URL_EC2": aws.server.endpoint, **postgres.client_environ}
    url = moto.new_bucket()
    done = run_command("backup", *moto.options, *arguments, f"{url}/prod", "main", environ=environ)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 4:
        assert len(done.stderr.splitlines()) == 1
    assert "CreateSnapshot" not in aws.server.actions()


def test_without_a_region(moto: StoreServer, postgres: PostgresServer) -> None:
    environ = {**moto.environ, **postgres.client_environ, "AWS_CONFIG_FILE": "/nonexistent"}
    del environ["AWS_DEFAULT_REGION"]
    url = moto.new_bucket()
    done = run_command("backup", *moto.options, *SNAPSHOT, f"{url}/prod", "main", environ=environ)
    assert done.returncode == 4
    assert "--aws-region" in done.stderr


@pytest.mark.parametrize(
    ("provider", "module", "extra"),
    [("aws", "boto3", "aws"), ("azure", "azure", "azure"), ("gcp", "google", "google")],
)
def test_a_missing_library_is_one_line_and_exit_1(provider: str, module: str, extra: str) -> None:
    """Ask a process in which the library can't be imported."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{module}":
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Missing())
from barman_cloud.errors import BarmanCloudError
from barman_cloud.snapshots.base import SnapshotOptions
from barman_cloud.snapshots.open import open_provider
try:
    open_provider("{provider}", SnapshotOptions(azure_subscription_id="s", azure_resource_group="g", gcp_project="p"))
except BarmanCloudError as error:
    print(error, error.hint, sep="|")
    raise SystemExit(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    message, hint = done.stdout.strip().split("|")
    assert module in message
    assert hint == f"pip install 'barman-cloud[{extra}]'"


@pytest.fixture
def disks(server_dir: Path) -> Iterator[LoopDisks]:
    with loop_disks(server_dir) as disks:
        yield disks


@pytest.mark.slow
def test_the_life_of_a_snapshot_backup(
    aws: AwsCloud, moto: StoreServer, server_dir: Path, disks: LoopDisks, postgres_installation: Installation
) -> None:
    """Back up two disks, lose the machine, clone, restore, recover past the end of the backup, delete."""
    url = f"{moto.new_bucket()}/prod"
    environ = {**moto.environ, "AWS_ENDPOINT_URL_EC2": aws.server.endpoint}
    archive = server_dir / "archive"
    archive.mkdir(mode=0o777)
    archive.chmod(0o777)

    # The cluster on two disks, which EC2 calls by names that lead to loop devices here.
    pgdata, fast = disks.create("pgdata", 512), disks.create("fast", 64)
    names = {disk: f"bc-{os.getpid()}-{disk}" for disk in ("pgdata", "fast")}
    volumes = {aws.add_volume(f"loop-{disk}", f"/dev/{name}"): disk for disk, name in names.items()}
    for disk, name in names.items():
        disks.link(Path("/dev") / name, disk)
    aws.server.on_snapshot = lambda volume, snapshot: disks.snapshot(volumes[volume], snapshot)
    aws.volumes = list(volumes)

    with PostgresServer.create(pgdata / "cluster", postgres_installation, settings={"fsync": "on"}) as server:
        # The tests' initdb doesn't sync; a real one does, and a disk's snapshot has only what was written to the disk.
        disks.sync()
        server.archive_with(f"cp %p {archive}/%f")
        server.create_tablespace("fast", fast / "space")
        server.query("CREATE TABLE kept AS SELECT 1 AS number")
        server.query("CREATE TABLE fast_kept TABLESPACE fast AS SELECT generate_series(1, 10000) AS number")
        data = server.data

        def backup(*options: str) -> None:
            arguments = [*moto.options, "--aws-region", REGION, "--immediate-checkpoint", "--name", "snap", *options]
            arguments += ["--snapshot-instance", aws.instance, "--snapshot-disk", "loop-pgdata"]
            arguments += ["--snapshot-disk", "loop-fast", "-v", "-d", server.conninfo, url, "main"]
            done = run_command("backup", *arguments, environ=environ)
            assert done.returncode == 0, done.stderr
            assert done.stdout == ""

        backup("--tag", "team,db")
        server.query("INSERT INTO kept VALUES (2)")
        server.query("INSERT INTO fast_kept SELECT generate_series(10001, 10100)")
        server.wait_archived(server.switch_wal())

    def run(name: str, *arguments: str | Path, expect: int = 0) -> str:
        done = run_command(name, *moto.options, *arguments, environ=environ)
        assert done.returncode == expect, done.stderr
        return done.stdout

    shown = json.loads(run("backup-show", "--format", "json", url, "main", "snap"))["main"]
    snapshots = shown["snapshots_info"]["snapshots"]
    assert [entry["mount"]["mount_point"] for entry in snapshots] == [str(pgdata), str(fast)]
    assert "snap" in run("backup-list", url, "main")

    # The machine is gone. A new one gets clones of the snapshots, mounted where the originals were.
    disks.detach()
    run("restore", "--snapshot-recovery-instance", aws.instance, url, "main", "snap", data, expect=4)
    recovery, _ = aws.run_instance("recovery-host")
    for entry, disk in zip(snapshots, ("pgdata", "fast"), strict=True):
        identifier = entry["provider"]["snapshot_id"]
        aws.add_volume(f"clone-{disk}", f"/dev/{names[disk]}", instance_id=recovery, SnapshotId=identifier)
    run("restore", "--snapshot-recovery-instance", "recovery-host", url, "main", "snap", data, expect=4)
    for entry, disk in zip(snapshots, ("pgdata", "fast"), strict=True):
        disks.mount(entry["provider"]["snapshot_id"], disk)
        disks.link(Path("/dev") / names[disk], disk)
    run("restore", "--snapshot-recovery-instance", "recovery-host", url, "main", "snap", data)
    assert (data / "backup_label").read_text().startswith("START WAL LOCATION: ")

    (data / "postmaster.pid").unlink(missing_ok=True)
    restored = adopt(data, postgres_installation)
    restored.recover_with(f"cp {archive}/%f %p")
    with restored:
        restored.wait_recovered()
        assert restored.query("SELECT number FROM kept ORDER BY 1") == [(1,), (2,)]
        assert restored.value("SELECT count(*) FROM fast_kept") == 10100
        restored.amcheck()

    dry = run("backup-delete", "-b", "snap", "--dry-run", url, "main").splitlines()
    assert dry[0] == "Skipping deletion of snapshots due to --dry-run option"
    aws.server.locks[snapshots[1]["provider"]["snapshot_id"]] = {"LockMode": "governance"}
    run("backup-delete", "-b", "snap", url, "main", expect=1)
    assert len(aws.snapshot_names()) == 2
    assert "snap" in run("backup-list", url, "main")
    aws.server.locks.clear()
    run("backup-delete", "-b", "snap", url, "main")
    assert aws.snapshot_names() == []
    assert run("backup-list", "--format", "json", url, "main") == '{"backups_list": []}\n'
