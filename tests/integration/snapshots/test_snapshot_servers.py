"""A server of the configuration whose backups are disk snapshots: taken from another host, listed, and retired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.machine import fake_ssh, recorded_host
from tests.support.maintenance import Host
from tests.support.postgres import PostgresServer
from tests.support.servers import REGION, StoreServer
from tests.support.snapshot_clouds import DISKS, AwsCloud

MOUNTS = {DISKS[0]: ("/srv/pg/data", "rw,noatime"), DISKS[1]: ("/srv/pg/ts 1", "rw,relatime")}


@pytest.mark.long
def test_snapshots_of_another_machine_by_the_configuration(
    aws: AwsCloud, moto: StoreServer, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "machine"
    recorded_host(machine, aws, MOUNTS)
    url = moto.new_bucket()
    host = Host(
        tmp_path,
        "[barman]\nbarman_home = HOME\n[volumes]\nbackup_method = snapshot\nimmediate_checkpoint = on\n"
        f"conninfo = {postgres.conninfo}\nendpoint_url = {moto.endpoint}\nwals_directory = {url}/prod\n"
        f"snapshot_provider = aws\nsnapshot_instance = {aws.instance}\nsnapshot_disks = {', '.join(DISKS)}\n"
        f"ssh_command = {fake_ssh(machine)}\naws_region = {REGION}\nretention_policy = REDUNDANCY 1\n"
        "base_compression = zstd\n",
    )
    environ = {**moto.environ, "AWS_ENDPOINT_URL_EC2": aws.server.endpoint}

    def run(*words: str) -> str:
        done = host.run(*words, environ=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def checked() -> dict[str, str]:
        done = host.run("check", "volumes", "--format", "json", environ=environ)
        (report,) = json.loads(done.stdout)["servers"]
        (found,) = [finding for finding in report["findings"] if finding["subject"] == "snapshots"]
        return {found["level"]: found["message"]}

    for name in ("one", "two"):
        run("backup", "volumes", "--wal-timeout", "0", "--name", name)
    assert len(aws.snapshot_names()) == 2 * len(DISKS)
    shown = json.loads(run("backup-show", "volumes", "two", "--format", "json"))["volumes"]
    snapshots = shown["snapshots_info"]
    assert snapshots["provider"] == "aws"
    assert [one["mount"]["mount_point"] for one in snapshots["snapshots"]] == [MOUNTS[disk][0] for disk in DISKS]
    places = ", ".join(sorted(where for where, _ in MOUNTS.values()))
    assert checked() == {"ok": f"the disks of {aws.instance} are attached, and mounted on {places}"}
    recorded_host(machine, aws, MOUNTS, unmounted=(DISKS[1],))
    assert checked() == {"critical": f"disk {DISKS[1]} (/dev/xvdg) is not mounted"}
    run("backup-delete", "volumes")
    assert len(aws.snapshot_names()) == len(DISKS)
    assert [
        one["backup_name"] for one in json.loads(run("backup-list", "volumes", "--format", "json"))["backups_list"]
    ] == ["two"]
