"""What the client reads: JSON on stdout, exit codes, and never a shortened list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from barman_cloud.catalog import backup_info
from tests.client.pod import SERVER_NAME, Pod
from tests.support.ports import free_port
from tests.support.segments import Cluster, segment_name
from tests.support.servers import StoreServer

GOLDEN = Path(__file__).parents[1] / "golden" / "backup-info"
STRINGS = (
    *("backup_name", "backup_label", "begin_time", "end_time", "begin_time_iso", "end_time_iso", "begin_wal"),
    *("end_wal", "begin_xlog", "end_xlog", "systemid", "backup_id", "error"),
)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
INFOS = {
    "20260101T000000": "done-plain.info",
    "20260102T000000": "done-gzip-name-tags.info",
    "20260103T000000": "done-other-timezone.info",
    "20260104T000000": "failed-during-copy.info",
    "20260105T000000": "failed-start-denied.info",
    "20260106T000000": "started.info",
}


@pytest.fixture
def pod(rclone_s3: StoreServer, new_pod: Callable[[StoreServer], Pod]) -> Pod:
    """A container whose store holds backups in every state."""
    pod = new_pod(rclone_s3)
    for backup, golden in INFOS.items():
        store_info(pod, backup, (GOLDEN / golden).read_bytes())
    return pod


def store_info(pod: Pod, backup: str, text: bytes) -> None:
    """Put a backup.info where the store keeps its objects."""
    assert pod.store.directory is not None
    path = pod.store.directory / pod.url.removeprefix("s3://") / SERVER_NAME / "base" / backup / "backup.info"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)


def listed(pod: Pod) -> list[dict[str, object]]:
    answer = pod.run("barman-cloud-backup-list", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place)
    assert answer.code == 0, answer.stderr
    backups: list[dict[str, object]] = json.loads(answer.stdout)["backups_list"]
    return backups


def everything(pod: Pod) -> Iterator[dict[str, object]]:
    """Every backup, as the list and as show tell it."""
    yield from listed(pod)
    for backup in INFOS:
        answer = pod.run("barman-cloud-backup-show", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place, backup)
        assert answer.code == 0, answer.stderr
        document = json.loads(answer.stdout)
        assert list(document) == ["cloud"]
        yield document["cloud"]


def test_the_client_can_parse_every_backup(pod: Pod) -> None:
    backups = list(everything(pod))
    assert len(backups) == 2 * len(INFOS)
    for backup in backups:
        for field in STRINGS:
            assert isinstance(backup.get(field), str | None), field
        assert isinstance(backup.get("timeline"), int | None)
        for field in ("begin_time_iso", "end_time_iso"):
            value = backup.get(field)
            assert value is None or RFC_3339.fullmatch(str(value)), f"{field}={value}"
        done = backup["status"] == "DONE"
        assert bool(backup.get("begin_time") and backup.get("end_time")) is done
        assert done or not backup.get("end_time_iso")
        assert not {"BeginTime", "EndTime"} & backup.keys()


def is_done(backup: dict[str, object]) -> bool:
    """The client's own rule: both times are there. It doesn't read the status."""
    return all(backup.get(f"{name}_iso") or backup.get(name) for name in ("begin_time", "end_time"))


def offered(backups: list[dict[str, object]]) -> str:
    """Return what the client restores when no target is given: the latest of the done backups by its end."""
    done = [backup for backup in backups if is_done(backup)]
    return str(max(done, key=lambda backup: datetime.fromisoformat(str(backup["end_time_iso"])))["backup_id"])


def forgotten(backups: list[dict[str, object]], known: set[str]) -> set[str]:
    """Return the backups that the client forgets because they aren't in the list."""
    return known - {str(backup["backup_id"]) for backup in backups}


@pytest.mark.parametrize("content", [b"status=DONE\nbegin_time=yesterday-ish\n", b"\x89PNG\r\n", b"x" * (2 << 20)])
def test_an_unreadable_backup_is_neither_offered_nor_forgotten_nor_in_the_way(pod: Pod, content: bytes) -> None:
    store_info(pod, "20260107T000000", content)
    known = {*INFOS, "20260107T000000"}
    answer = pod.run("barman-cloud-backup-list", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place)
    assert answer.code == 0, answer.stderr
    after: list[dict[str, object]] = json.loads(answer.stdout)["backups_list"]
    assert forgotten(after, known) == set()
    (stray,) = (backup for backup in after if backup["backup_id"] == "20260107T000000")
    assert not is_done(stray)
    assert all(isinstance(stray.get(field), str | None) for field in STRINGS)
    assert stray["timeline"] is None
    assert offered(after) == "20260103T000000"
    assert " WARNING: " in answer.stderr
    assert "20260107T000000/backup.info" in answer.stderr


def test_a_backup_whose_deletion_was_killed_is_neither_offered_nor_forgotten(pod: Pod) -> None:
    before = listed(pod)
    best = offered(before)
    assert pod.store.directory is not None
    path = pod.store.directory / pod.url.removeprefix("s3://") / SERVER_NAME / "base" / best / "backup.info"
    info = backup_info.parse(path.read_text(), best)
    path.write_text(
        backup_info.dump(replace(info, status="FAILED", end_time=None, deletion="begun", error="being deleted"))
    )
    after = listed(pod)
    assert forgotten(after, set(INFOS)) == set()
    assert offered(after) != best


def test_log_lines_are_short_and_without_carriage_returns(pod: Pod) -> None:
    answer = pod.run("barman-cloud-backup-list", "-vv", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place)
    json.loads(answer.stdout)
    assert "\r" not in answer.stderr
    assert all(len(line) < 1 << 20 for line in answer.stderr.splitlines())


def wal_restore(pod: Pod, name: str, *, endpoint: list[str] | None = None, url: str | None = None) -> int:
    answer = pod.run(
        *("barman-cloud-wal-restore", *(endpoint or pod.endpoint), *pod.cloud),
        *(url or pod.url, SERVER_NAME, name, pod.volume / "spool" / "fetched.tmp"),
    )
    assert answer.stdout == ""
    assert list((pod.volume / "spool").iterdir()) == []
    return answer.code


@pytest.mark.long
def test_wal_restore_tells_missing_from_unreachable(pod: Pod) -> None:
    missing = segment_name(7)
    assert wal_restore(pod, missing) == 1
    assert wal_restore(pod, "00000009.history") == 1
    assert wal_restore(pod, missing, endpoint=["--endpoint-url", f"http://127.0.0.1:{free_port()}"]) == 2
    assert wal_restore(pod, "not-a-segment") == 3
    assert wal_restore(pod, missing, url="s3://no-such-bucket") == 4


@pytest.mark.long
def test_restore_tells_failed_from_unreachable(pod: Pod) -> None:
    def code(backup: str, *endpoint: str) -> int:
        target = pod.volume / "restored"
        answer = pod.run("barman-cloud-restore", *pod.cloud, *(endpoint or pod.endpoint), *pod.place, backup, target)
        return answer.code

    assert code("20260109T000000") == 1
    assert code("20260101T000000") == 1, "its archives are missing"
    assert code("nosuchname") == 4
    unreachable = f"http://127.0.0.1:{free_port()}"
    assert code("20260101T000000", "--endpoint-url", unreachable, "--read-timeout", "1") in (2, 4)


@pytest.mark.long
def test_what_must_not_succeed(pod: Pod, cluster: Cluster) -> None:
    wrong = ["--endpoint-url", f"http://127.0.0.1:{free_port()}"]
    path = cluster.add(1)
    policy = ["--retention-policy", "RECOVERY WINDOW OF 1 DAYS"]
    commands: list[list[str | Path]] = [
        ["barman-cloud-backup-list", "--format", "json", *wrong, *pod.cloud, *pod.place],
        ["barman-cloud-backup-delete", *wrong, *pod.cloud, *policy, *pod.place],
        ["barman-cloud-wal-archive", *wrong, *pod.cloud, *pod.place, path],
        ["barman-cloud-check-wal-archive", *wrong, *pod.cloud, *pod.place],
    ]
    for answer in pod.run_all(commands):
        assert 0 < answer.code <= 4
        assert answer.stdout == ""
        *warnings, last = answer.stderr.splitlines()
        assert " ERROR: " in last
        assert all(" WARNING: " in line for line in warnings), answer.stderr
