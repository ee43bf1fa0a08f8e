"""Every command line that the Kubernetes client writes, with its options in its order, on a real cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.client.pod import Pod
from tests.support.postgres import PostgresServer, adopt
from tests.support.segments import Cluster, segment
from tests.support.servers import StoreServer

NAME = "backup-20260102030405"


@pytest.mark.slow
def test_life_of_a_cluster(
    any_store: StoreServer, new_pod: Callable[[StoreServer], Pod], archiving_postgres: PostgresServer
) -> None:
    pod, postgres = new_pod(any_store), archiving_postgres
    wal_archive = ["--gzip", *pod.endpoint, "--tags", "cluster,example", "--history-tags", "kind,history", *pod.cloud]
    database = {**postgres.client_environ, "TMPDIR": str(pod.volume / "tmp")}

    checked = pod.run("barman-cloud-check-wal-archive", *pod.endpoint, *pod.cloud, *pod.place)
    assert (checked.code, checked.stdout) == (0, "")

    postgres.environ.update(any_store.environ)
    postgres.restart()
    postgres.archive_with(" ".join(["barman-cloud-wal-archive", *wal_archive, *pod.place, "%p"]))
    postgres.wait_archived(postgres.switch_wal())

    taken = pod.run(
        *(
            "barman-cloud-backup",
            "--user",
            "postgres",
            "--name",
            NAME,
            "--lz4",
            "--immediate-checkpoint",
            "--jobs",
            "2",
        ),
        *("--min-chunk-size=5MB", "--read-timeout=60", "-vv", "--tags", "cluster,example", "owner,us"),
        *(*pod.endpoint, *pod.cloud, *pod.place),
        environ=database,
    )
    assert (taken.code, taken.stdout) == (0, ""), taken.stderr

    shown = pod.run("barman-cloud-backup-show", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place, NAME)
    assert shown.code == 0, shown.stderr
    backup = json.loads(shown.stdout)["cloud"]
    assert backup["backup_name"] == NAME
    listed = pod.run("barman-cloud-backup-list", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place)
    assert [found["backup_id"] for found in json.loads(listed.stdout)["backups_list"]] == [backup["backup_id"]]

    postgres.query("CREATE TABLE written_later AS SELECT generate_series(1, 100)")
    postgres.wait_archived(postgres.switch_wal())

    deleted = pod.run(
        *("barman-cloud-backup-delete", *pod.endpoint, *pod.cloud),
        *("--retention-policy", "RECOVERY WINDOW OF 7 DAYS", *pod.place),
    )
    assert deleted.code == 0, deleted.stderr
    not_empty = pod.run("barman-cloud-check-wal-archive", *pod.endpoint, *pod.cloud, *pod.place)
    assert not_empty.code == 1

    test_wal = pod.volume / "controller" / "test.wal"
    fetched = pod.run(
        *("barman-cloud-wal-restore", *pod.endpoint, *pod.cloud, *pod.place),
        *("--no-partial", "--spool-dir", str(pod.volume / "spool"), backup["begin_wal"], test_wal),
    )
    assert fetched.code == 0, fetched.stderr
    assert test_wal.stat().st_size == 16 << 20

    target = pod.volume / "restored"
    restored = pod.run(
        *("barman-cloud-restore", *pod.cloud, *pod.endpoint, *pod.place, backup["backup_id"], target),
    )
    assert restored.code == 0, restored.stderr
    server = adopt(target, postgres.installation)
    server.environ.update(any_store.environ)
    wal_restore = ["barman-cloud-wal-restore", *pod.endpoint, *pod.cloud, *pod.place, "%f", "%p"]
    server.recover_with(" ".join(wal_restore))
    with server:
        server.wait_recovered()
        assert server.value("SELECT count(*) FROM written_later") == 100

    gone = pod.run(
        *("barman-cloud-backup-delete", *pod.endpoint, *pod.cloud, "--backup-id", backup["backup_id"], *pod.place)
    )
    assert gone.code == 0, gone.stderr
    empty = pod.run("barman-cloud-backup-list", "--format", "json", *pod.endpoint, *pod.cloud, *pod.place)
    assert json.loads(empty.stdout) == {"backups_list": []}


@pytest.mark.parametrize(
    "command",
    [
        *("backup", "backup-delete", "backup-keep", "backup-list", "backup-show", "check-wal-archive", "restore"),
        *("wal-archive", "wal-restore"),
    ],
)
def test_version_is_one_line_that_old_clients_parse(
    command: str, moto: StoreServer, new_pod: Callable[[StoreServer], Pod]
) -> None:
    answer = new_pod(moto).run(f"barman-cloud-{command}", "--version")
    assert answer.code == 0
    match = re.fullmatch(r"barman-cloud.* (?P<version>\d+\.\d+\.\d+)\n", answer.stdout)
    assert match and tuple(map(int, match["version"].split("."))) >= (3, 19, 0)


def test_a_value_for_a_flag_is_refused(moto: StoreServer, new_pod: Callable[[StoreServer], Pod]) -> None:
    pod = new_pod(moto)
    answer = pod.run("barman-cloud-backup", "--immediate-checkpoint=false", *pod.endpoint, *pod.cloud, *pod.place)
    assert answer.code == 3


@pytest.mark.parametrize("compression", ["--bzip2", "--gzip", "--lz4", "--snappy", "--xz", "--zstd"])
def test_wal_compressions_of_the_client(
    compression: str, moto: StoreServer, new_pod: Callable[[StoreServer], Pod], cluster: Cluster
) -> None:
    pod = new_pod(moto)
    path = cluster.add(1)
    archived = pod.run(
        *("barman-cloud-wal-archive", compression, "-e", "AES256", "--compression-level=low"),
        *(*pod.endpoint, *pod.cloud, *pod.place, str(path)),
    )
    assert (archived.code, archived.stdout) == (0, ""), archived.stderr
    target = pod.volume / "spool" / f"{path.name}.tmp"
    fetched = pod.run("barman-cloud-wal-restore", *pod.endpoint, *pod.cloud, *pod.place, path.name, target)
    assert (fetched.code, fetched.stdout) == (0, ""), fetched.stderr
    assert target.read_bytes() == segment(1)
    assert [file.name for file in target.parent.iterdir()] == [target.name]
