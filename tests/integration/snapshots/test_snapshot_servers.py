"""A server of the configuration whose backups are disk snapshots: taken from another host, listed, and retired."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo, Snapshot, SnapshotsInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.main import main
from barman_cloud.snapshots.base import COMPLETE, select_disks, snapshot_name
from barman_cloud.store.open import open_store
from tests.support.machine import fake_ssh, recorded_host
from tests.support.maintenance import Host
from tests.support.postgres import PostgresServer
from tests.support.servers import REGION, StoreServer
from tests.support.snapshot_clouds import DISKS, AwsCloud, Cloud

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


IDS = ("20261120T010000", "20261121T010000")
KEYS = ("azure_subscription_id", "azure_resource_group", "gcp_project", "gcp_zone")


@pytest.mark.parametrize("kind", ["azure", "gcp"])
def test_a_server_of_azure_or_google_is_checked_and_retired(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys of the configuration lead to the right cloud; in this process, where its library can be redirected."""
    cloud: Cloud = request.getfixturevalue(kind)
    machine = tmp_path / "machine"
    recorded_host(machine, cloud, MOUNTS)
    (tmp_path / "store").mkdir()
    store = open_store(f"file://{tmp_path}/store")
    file = tmp_path / "barman.conf"
    keys = "".join(f"{key} = {value}\n" for key in KEYS if (value := getattr(cloud.options, key)))
    file.write_text(
        f"[barman]\nbarman_home = {tmp_path}/home\n[volumes]\nbackup_method = snapshot\n"
        "conninfo = host=127.0.0.1 port=1\n"
        f"wals_directory = file://{tmp_path}/store\nsnapshot_provider = {kind}\nsnapshot_instance = {cloud.instance}\n"
        f"snapshot_disks = {', '.join(DISKS)}\nssh_command = {fake_ssh(machine)}\n"
        f"retention_policy = REDUNDANCY 1\n{keys}"
    )
    layout = Layout("", "volumes")
    with cloud.provider() as provider:
        disks = select_disks(provider.attached_disks(cloud.instance), cloud.instance, DISKS)
        for number, backup_id in enumerate(IDS, 1):
            made = [provider.begin(disk, snapshot_name(disk.name, backup_id)) for disk in disks]
            while provider.progress(made) != [COMPLETE] * len(made):
                pass
            snapshots = tuple(Snapshot(*MOUNTS[one.disk.name], one.record) for one in made)
            info = BackupInfo(
                backup_id, server_name="volumes", status="DONE", timeline=1, begin_wal=f"{number:024X}",
                end_time=datetime(2026, 11, 19 + number, tzinfo=UTC),
                snapshots_info=SnapshotsInfo(kind, provider.provider_info(made), snapshots),
            )  # fmt: skip
            store.put(layout.backup_label(backup_id), b"label")
            store.put(layout.backup_info(backup_id), backup_info.dump(info).encode())
    assert len(cloud.snapshot_names()) == 4
    main(["-c", str(file), "check", "volumes", "--format", "json"])
    findings = json.loads(capsys.readouterr().out)["servers"][0]["findings"]
    (found,) = [finding for finding in findings if finding["subject"] == "snapshots"]
    assert found["message"].startswith(f"the disks of {cloud.instance} are attached, and mounted on /srv/pg/data"), (
        found
    )
    assert main(["-c", str(file), "backup-delete", "volumes"]) == 0, capsys.readouterr().err
    assert cloud.snapshot_names() == sorted(f"{disk}-{IDS[1].lower()}" for disk in DISKS)
    assert main(["-c", str(file), "server", "delete", "volumes", "latest"]) == 0, capsys.readouterr().err
    assert cloud.snapshot_names() == []
