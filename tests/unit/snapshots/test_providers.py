"""What every provider promises, asked of each through its real library."""

from __future__ import annotations

import logging
import time

import pytest

from barman_cloud.catalog.backup_info import SNAPSHOT_KEYS, SnapshotsInfo
from barman_cloud.errors import AccessDeniedError, ConflictError, ConnectivityError, SnapshotError
from barman_cloud.snapshots.base import SnapshotProvider, belongs_to, select_disks
from barman_cloud.snapshots.deletion import delete_snapshots
from barman_cloud.snapshots.mounts import Mount
from barman_cloud.snapshots.taking import SnapshotSet
from tests.support.rest import Answer, Fault
from tests.support.snapshot_clouds import DISKS, AwsCloud, AzureCloud, Cloud, GoogleCloud

BACKUP_ID = "20261122T123131"
NAMES = [f"{disk}-20261122t123131" for disk in DISKS]


def snapshot_set(provider: SnapshotProvider) -> SnapshotSet:
    return SnapshotSet(provider, time.sleep, discard_pauses=(0.05, 0.1))


def take(cloud: Cloud, provider: SnapshotProvider) -> tuple[SnapshotSet, SnapshotsInfo]:
    snapshots = snapshot_set(provider)
    disks = select_disks(provider.attached_disks(cloud.instance), cloud.instance, DISKS)
    provider.check(disks, BACKUP_ID)
    snapshots.take(disks, BACKUP_ID)
    snapshots.lock()
    return snapshots, snapshots.info({disk.id: Mount("/dev/x", f"/srv/{disk.name}", "rw,noatime") for disk in disks})


def test_snapshots_of_all_disks_are_made_and_described(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        _, info = take(cloud, provider)
    assert cloud.snapshot_names() == NAMES
    info_keys, snapshot_keys = SNAPSHOT_KEYS[cloud.kind]
    written = info.as_dict()
    assert tuple(written["provider_info"]) == info_keys
    assert all(written["provider_info"].values())
    assert [snapshot["mount"] for snapshot in written["snapshots"]] == [
        {"mount_options": "rw,noatime", "mount_point": f"/srv/{disk}"} for disk in DISKS
    ]
    for snapshot, name in zip(written["snapshots"], NAMES, strict=True):
        assert tuple(snapshot["provider"]) == snapshot_keys
        assert snapshot["provider"]["snapshot_name"] == name


def test_an_unknown_machine_is_an_error(cloud: Cloud) -> None:
    with cloud.provider() as provider, pytest.raises(SnapshotError, match="no-such-host"):
        provider.attached_disks("no-such-host")


def test_disks_that_cannot_be_backed_up_are_refused(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        attached = provider.attached_disks(cloud.instance)
    for names, reason in (
        (["elsewhere"], "not attached"),
        ([cloud.root_disk()], "boot disk"),
        ([DISKS[0], DISKS[0]], "given twice"),
    ):
        with pytest.raises(SnapshotError, match=reason):
            select_disks(attached, cloud.instance, names)


def test_disks_come_in_the_providers_order_under_the_users_names(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        attached = provider.attached_disks(cloud.instance)
    chosen = select_disks(attached, cloud.instance, list(reversed(DISKS)))
    assert [disk.name for disk in chosen] == list(DISKS)


def test_waiting_for_slow_snapshots_tells_the_progress(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.slow_down(3)
    with caplog.at_level(logging.INFO, "barman_cloud"), cloud.provider() as provider:
        take(cloud, provider)
    progress = [record.getMessage() for record in caplog.records if record.getMessage().startswith("snapshots: ")]
    assert len(progress) >= 2
    assert progress[-1] == f"snapshots: {NAMES[0]} 100 %, {NAMES[1]} 100 %"


def test_snapshots_that_take_too_long_fail_and_are_removed(cloud: Cloud) -> None:
    cloud.slow_down(20)
    with cloud.provider() as provider:
        provider.wait_timeout = 0.3
        snapshots = snapshot_set(provider)
        disks = select_disks(provider.attached_disks(cloud.instance), cloud.instance, DISKS)
        with pytest.raises(SnapshotError, match=r"not complete after 0\.3 s"):
            snapshots.take(disks, BACKUP_ID)
        snapshots.discard()
    assert cloud.snapshot_names() == []


def test_a_failed_snapshot_fails_all_and_all_are_removed(cloud: Cloud) -> None:
    cloud.fail()
    with cloud.provider() as provider:
        snapshots = snapshot_set(provider)
        disks = select_disks(provider.attached_disks(cloud.instance), cloud.instance, DISKS)
        with pytest.raises(SnapshotError, match="damaged"):
            snapshots.take(disks, BACKUP_ID)
        snapshots.discard()
    assert cloud.snapshot_names() == []


def test_an_interruption_removes_what_was_begun(cloud: Cloud) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with cloud.provider() as provider:
        snapshots = SnapshotSet(provider, interrupt, discard_pauses=(0.1, 0.2, 0.3))
        disks = select_disks(provider.attached_disks(cloud.instance), cloud.instance, DISKS)
        with pytest.raises(KeyboardInterrupt):
            snapshots.take(disks, BACKUP_ID)
        snapshots.discard()
    assert cloud.snapshot_names() == []


def test_requests_to_slow_down_are_obeyed(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        cloud.throttle(2)
        assert len(provider.attached_disks(cloud.instance)) >= len(DISKS)


def test_inspect_tells_the_name_and_that_there_is_none(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        _, info = take(cloud, provider)
        found = provider.inspect(info.identifiers[0])
        assert found is not None
        assert belongs_to(found.name, BACKUP_ID)
        provider.delete(info.identifiers[0])
        assert provider.inspect(info.identifiers[0]) is None
        provider.delete(info.identifiers[0])


def test_clones_name_the_snapshot_that_they_were_made_of(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        _, info = take(cloud, provider)
        cloud.attach_clones("recovery-host", info.identifiers)
        sources = [provider.cloned_from(disk) for disk in provider.attached_disks("recovery-host") if not disk.is_root]
        assert sources == list(info.identifiers)
        assert all(provider.cloned_from(disk) is None for disk in provider.attached_disks(cloud.instance))


def test_deletion_removes_the_snapshots_and_can_be_repeated(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        _, info = take(cloud, provider)
    delete_snapshots(info, BACKUP_ID, cloud.options)
    assert cloud.snapshot_names() == []
    delete_snapshots(info, BACKUP_ID, cloud.options)


def test_deletion_asks_the_provider_whose_snapshot_it_is(cloud: Cloud) -> None:
    with cloud.provider() as provider:
        _, info = take(cloud, provider)
    with pytest.raises(SnapshotError, match="isn't one of backup 20261122T123132"):
        delete_snapshots(info, "20261122T123132", cloud.options)
    assert cloud.snapshot_names() == NAMES


def test_a_server_that_is_gone_is_a_connectivity_error(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with cloud.provider() as provider:
        cloud.server.faults.append(Fault("GET", "", None, times=100))
        cloud.server.faults.append(Fault("POST", "", None, times=100))
        with pytest.raises(ConnectivityError):
            provider.attached_disks(cloud.instance)


class TestAzure:
    def test_the_request_is_the_documented_one(self, azure: AzureCloud) -> None:
        with azure.provider() as provider:
            take(azure, provider)
        puts = [request for request in azure.server.requests if request.method == "PUT"]
        assert len(puts) == len(DISKS)
        for put in puts:
            disk = put.path.rpartition("/")[2].removesuffix("-20261122t123131")
            source = azure.server.resource_id("disks", disk)
            assert put.json == {
                "location": "uksouth",
                "properties": {"creationData": {"createOption": "Copy", "sourceUri": source}, "incremental": True},
            }

    def test_an_existing_snapshot_is_neither_replaced_nor_removed(self, azure: AzureCloud) -> None:
        with azure.provider() as provider:
            take(azure, provider)
            again = snapshot_set(provider)
            disks = select_disks(provider.attached_disks(azure.instance), azure.instance, DISKS)
            with pytest.raises(ConflictError, match="already exists"):
                again.take(disks, BACKUP_ID)
            again.discard()
        assert azure.snapshot_names() == NAMES

    def test_disks_of_another_resource_group_are_found(self, azure: AzureCloud) -> None:
        azure.server.add_machine("other", ["far"], disk_group="disks-group")
        with azure.provider() as provider:
            disks = select_disks(provider.attached_disks("other"), "other", ["far"])
            snapshot_set(provider).take(disks, BACKUP_ID)
        assert azure.snapshot_names() == ["far-20261122t123131"]

    def test_deletion_while_the_snapshot_is_being_made_is_tried_again(self, azure: AzureCloud) -> None:
        azure.slow_down(10)
        with azure.provider() as provider:
            disk = provider.attached_disks(azure.instance)[0]
            made = provider.begin(disk, NAMES[0])
            with pytest.raises(SnapshotError, match="being created"):
                provider.delete(made.identifier)

    def test_refused_access_names_the_resource(self, azure: AzureCloud) -> None:
        body = {"error": {"code": "AuthorizationFailed", "message": "The client does not have authorization."}}
        azure.server.faults.append(Fault("GET", "virtualMachines", Answer(403, body)))
        with azure.provider() as provider, pytest.raises(AccessDeniedError, match=r"pg-host.*AuthorizationFailed"):
            provider.attached_disks(azure.instance)

    def test_long_names_are_refused_beforehand(self, azure: AzureCloud) -> None:
        azure.server.add_machine("big", ["d" * 65])
        with azure.provider() as provider:
            disks = select_disks(provider.attached_disks("big"), "big", ["d" * 65])
            with pytest.raises(SnapshotError, match="can't be the name"):
                provider.check(disks, BACKUP_ID)


class TestGoogle:
    def test_the_request_is_the_documented_one(self, gcp: GoogleCloud) -> None:
        with gcp.provider() as provider:
            take(gcp, provider)
        posts = [request for request in gcp.server.requests if request.path.endswith("/global/snapshots")]
        assert sorted(post.json["name"] for post in posts) == NAMES
        sources = {post.json["sourceDisk"] for post in posts}
        assert sources == {f"projects/pg-project/zones/europe-west2-b/disks/{disk}" for disk in DISKS}

    def test_a_repeated_request_makes_one_snapshot(self, gcp: GoogleCloud) -> None:
        gcp.server.faults.append(Fault("POST", "/global/snapshots", Answer(503), after=True))
        with gcp.provider() as provider:
            _, info = take(gcp, provider)
        assert list(info.identifiers) == NAMES
        assert gcp.server.count("POST", "/global/snapshots") == 3

    def test_a_connection_that_breaks_for_a_moment_is_borne(self, gcp: GoogleCloud) -> None:
        """Snapshots of large disks take hours, in which their operations are asked about again and again."""
        gcp.server.faults.append(Fault("POST", "/global/snapshots", None, after=True))
        gcp.server.faults.append(Fault("GET", "/global/operations/", None, times=3))
        with gcp.provider() as provider:
            _, info = take(gcp, provider)
        assert list(info.identifiers) == gcp.snapshot_names() == NAMES

    def test_a_lost_answer_leaves_no_snapshot_behind(self, gcp: GoogleCloud) -> None:
        gcp.server.polls = 0
        gcp.server.faults.append(Fault("POST", "/global/snapshots", None, times=100, after=True))
        with gcp.provider() as provider:
            snapshots = snapshot_set(provider)
            disks = select_disks(provider.attached_disks(gcp.instance), gcp.instance, DISKS)
            with pytest.raises(ConnectivityError):
                snapshots.take(disks, BACKUP_ID)
            snapshots.discard()
        assert gcp.snapshot_names() == []

    def test_a_name_that_is_taken_is_not_removed(self, gcp: GoogleCloud) -> None:
        with gcp.provider() as provider:
            take(gcp, provider)
            again = snapshot_set(provider)
            disks = select_disks(provider.attached_disks(gcp.instance), gcp.instance, DISKS)
            with pytest.raises(ConflictError, match="already exists"):
                again.take(disks, BACKUP_ID)
            again.discard()
        assert gcp.snapshot_names() == NAMES

    def test_regional_disks_keep_their_region(self, gcp: GoogleCloud) -> None:
        gcp.server.add_instance("regional", {"device-r": "regions/europe-west2/disks/wide"})
        with gcp.provider() as provider:
            disks = select_disks(provider.attached_disks("regional"), "regional", ["wide"])
            snapshot_set(provider).take(disks, BACKUP_ID)
        post = next(request for request in gcp.server.requests if request.path.endswith("/global/snapshots"))
        assert post.json["sourceDisk"] == "projects/pg-project/regions/europe-west2/disks/wide"

    def test_warnings_of_the_operation_are_logged(self, gcp: GoogleCloud, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "barman_cloud"), gcp.provider() as provider:
            take(gcp, provider)
        assert "LARGE_DEPLOYMENT_WARNING: a warning" in caplog.text

    def test_long_names_are_refused_beforehand(self, gcp: GoogleCloud) -> None:
        gcp.server.add_instance("big", {"device": "d" * 48})
        with gcp.provider() as provider:
            disks = select_disks(provider.attached_disks("big"), "big", ["d" * 48])
            with pytest.raises(SnapshotError, match="can't be the name"):
                provider.check(disks, BACKUP_ID)


class TestAws:
    def test_a_machine_may_be_given_by_id(self, aws: AwsCloud) -> None:
        with aws.provider() as provider:
            assert provider.attached_disks(aws.instance_id) == provider.attached_disks(aws.instance)

    def test_machines_of_one_name_are_ambiguous(self, aws: AwsCloud) -> None:
        aws.run_instance(aws.instance)
        with aws.provider() as provider, pytest.raises(SnapshotError, match="several instances"):
            provider.attached_disks(aws.instance)

    def test_volumes_of_one_name_are_ambiguous_unless_given_by_id(self, aws: AwsCloud) -> None:
        twin = aws.add_volume(DISKS[0], "/dev/sdh")
        with aws.provider() as provider:
            attached = provider.attached_disks(aws.instance)
        with pytest.raises(SnapshotError, match="several disks"):
            select_disks(attached, aws.instance, [DISKS[0]])
        assert [disk.id for disk in select_disks(attached, aws.instance, [twin])] == [twin]

    def test_tags_go_to_the_snapshots(self, aws: AwsCloud) -> None:
        with aws.provider(tags={"team": "db"}) as provider:
            _, info = take(aws, provider)
        found = aws.ec2.describe_snapshots(SnapshotIds=list(info.identifiers))["Snapshots"]
        assert all({"Key": "team", "Value": "db"} in snapshot["Tags"] for snapshot in found)

    def test_two_snapshots_of_a_repeated_request_are_both_removed(self, aws: AwsCloud) -> None:
        with aws.provider() as provider:
            disk = select_disks(provider.attached_disks(aws.instance), aws.instance, [DISKS[0]])[0]
            provider.begin(disk, NAMES[0])
            made = provider.begin(disk, NAMES[0])
            provider.discard(disk, NAMES[0], made)
        assert aws.snapshot_names() == []
