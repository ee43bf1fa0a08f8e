"""What is checked before the label of a snapshot backup is written."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import BackupInfo, Snapshot, SnapshotsInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError, ConfigurationError, SnapshotError
from barman_cloud.restore.snapshot import restore_snapshot_backup
from barman_cloud.snapshots.base import select_disks, snapshot_name
from barman_cloud.snapshots.mounts import Host
from barman_cloud.store.url import parse_url
from tests.support.machine import recorded_host
from tests.support.memory_store import MemoryStore
from tests.support.snapshot_clouds import DISKS, AwsCloud, AzureCloud, Cloud, GoogleCloud

BACKUP_ID = "20261122T123131"
LABEL = b"START WAL LOCATION: 0/3B000028\n"
MOUNTS = {DISKS[0]: ("/srv/pg/data", "rw,noatime"), DISKS[1]: ("/srv/pg/ts", "rw,relatime")}
RECOVERY_HOST = "recovery-host"


class Bench:
    """A snapshot backup, its clones on a recovery machine, and a store with its label."""

    def __init__(self, cloud: Cloud, root: Path) -> None:
        self.cloud = cloud
        url = parse_url("memory://metadata/prod", None)
        self.store = MemoryStore(url)
        self.layout = Layout.of(url, "main")
        self.store.put(self.layout.backup_label(BACKUP_ID), LABEL)
        self.target = root / "data"
        self.target.mkdir()
        self.root = root
        self.host: Host = recorded_host(root, cloud, MOUNTS)
        self.info = BackupInfo(BACKUP_ID, snapshots_info=self._snapshots(), end_time=datetime.now(UTC))

    def _snapshots(self) -> SnapshotsInfo:
        with self.cloud.provider() as provider:
            disks = select_disks(provider.attached_disks(self.cloud.instance), self.cloud.instance, DISKS)
            made = [provider.begin(disk, snapshot_name(disk.name, BACKUP_ID)) for disk in disks]
            snapshots = tuple(Snapshot(*MOUNTS[item.disk.name], item.record) for item in made)
            return SnapshotsInfo(provider.kind, provider.provider_info(made), snapshots)

    @property
    def identifiers(self) -> tuple[str, ...]:
        assert self.info.snapshots_info is not None
        return self.info.snapshots_info.identifiers

    def restore(self, instance: str | None = RECOVERY_HOST, *tablespaces: str, **options: Any) -> None:
        given = {"aws_region": None, "azure_subscription_id": None, "gcp_project": None, **options}
        how = replace(self.cloud.options, **given)
        restore_snapshot_backup(self.store, self.layout, self.info, self.target, instance, how, tablespaces, self.host)

    def expect(self, error: type[BarmanCloudError], reason: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(error, match=reason) as caught:
            self.restore(*arguments, **options)
        assert caught.value.exit_code == 4
        assert not self.target.exists() or list(self.target.iterdir()) == []


@pytest.fixture
def bench(cloud: Cloud, tmp_path: Path) -> Bench:
    return Bench(cloud, tmp_path)


def test_clones_in_their_places_get_the_label(bench: Bench) -> None:
    bench.cloud.attach_clones(RECOVERY_HOST, bench.identifiers)
    (bench.target / "backup_label").write_text("an older one")
    if os.geteuid() == 0:
        os.chown(bench.target, 12345, 12346)
    bench.restore()
    label = bench.target / "backup_label"
    assert label.read_bytes() == LABEL
    assert [path.name for path in bench.target.iterdir()] == ["backup_label"]
    assert (label.stat().st_uid, label.stat().st_gid) == (bench.target.stat().st_uid, bench.target.stat().st_gid)
    assert label.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_was_not_attached(bench: Bench) -> None:
    bench.cloud.attach_clones(RECOVERY_HOST, bench.identifiers[:1])
    bench.expect(SnapshotError, bench.identifiers[1])


def test_the_original_disks_are_not_clones(bench: Bench) -> None:
    bench.expect(SnapshotError, ", ".join(bench.identifiers), bench.cloud.instance)


def test_an_unknown_machine(bench: Bench) -> None:
    bench.expect(SnapshotError, "no-such-host", "no-such-host")


def test_a_disk_in_another_place_or_with_other_options(bench: Bench) -> None:
    bench.cloud.attach_clones(RECOVERY_HOST, bench.identifiers)
    bench.host = recorded_host(
        bench.root, bench.cloud, {DISKS[0]: ("/srv/pg/data", "rw,relatime"), DISKS[1]: ("/mnt", "rw,relatime")}
    )
    first, second = bench.identifiers
    bench.expect(
        SnapshotError,
        f"{second} must be mounted on /srv/pg/ts, not /mnt; "
        f"{first} on /srv/pg/data must be mounted rw,noatime, not rw,relatime",
    )


def test_a_disk_that_is_not_mounted(bench: Bench) -> None:
    bench.cloud.attach_clones(RECOVERY_HOST, bench.identifiers)
    bench.host = recorded_host(bench.root, bench.cloud, MOUNTS, unmounted=(DISKS[1],))
    bench.expect(SnapshotError, f"{bench.identifiers[1]} must be mounted on /srv/pg/ts, not nowhere")


def test_a_recovery_directory_that_does_not_exist(bench: Bench) -> None:
    bench.cloud.attach_clones(RECOVERY_HOST, bench.identifiers)
    bench.target.rmdir()
    bench.expect(SnapshotError, "is not a directory")


def test_options_that_are_missing_or_impossible(bench: Bench) -> None:
    bench.expect(ConfigurationError, "--tablespace", RECOVERY_HOST, "ts:/elsewhere")
    bench.expect(ConfigurationError, "--snapshot-recovery-instance", None)


def test_google_needs_the_zone(gcp: GoogleCloud, tmp_path: Path) -> None:
    Bench(gcp, tmp_path).expect(ConfigurationError, "--gcp-zone", RECOVERY_HOST, gcp_zone=None)


def test_azure_needs_the_resource_group(azure: AzureCloud, tmp_path: Path) -> None:
    Bench(azure, tmp_path).expect(
        ConfigurationError, "--azure-resource-group", RECOVERY_HOST, azure_resource_group=None
    )


def test_the_recorded_region_is_the_default(aws: AwsCloud, tmp_path: Path) -> None:
    bench = Bench(aws, tmp_path)
    bench.expect(SnapshotError, f"no instance {RECOVERY_HOST} in region eu-west-3", aws_region="eu-west-3")
    bench.expect(SnapshotError, f"no instance {RECOVERY_HOST} in region us-east-1")
