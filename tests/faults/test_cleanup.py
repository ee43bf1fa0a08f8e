"""What a backup that is killed leaves in a real store, found by ``check`` and removed by ``cleanup``."""

from __future__ import annotations

import json
import subprocess

import boto3
import pytest

from tests.faults.test_backup_faults import SLOW, Running
from tests.support.commands import program
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment
from tests.support.schemas import require_valid
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, StoreServer

UMBRELLA = program("backup").removesuffix("-backup")


@pytest.mark.long
@pytest.mark.parametrize(
    "method",
    [
        pytest.param((), id="files"),
        pytest.param(("--method", "stream", "--include-wal"), id="stream", marks=pytest.mark.long),
    ],
)
def test_a_killed_backup_and_its_uploads_go(
    postgres: PostgresServer, moto: StoreServer, method: tuple[str, ...]
) -> None:
    bucket = moto.new_bucket()
    name, url = bucket.removeprefix("s3://"), f"{bucket}/prod"
    client = boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )  # fmt: skip

    def cleaned(*arguments: str) -> dict[str, str]:
        done = subprocess.run(
            [UMBRELLA, "cleanup", "--format", "json", *moto.options, *arguments, url, "main"],
            env=command_environment(moto.environ), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        require_valid(document, "cleanup")
        leftovers = document["leftovers"]
        return {f"{item['kind']} {item['name'].rpartition('/')[2]}": item["result"] for item in leftovers}

    with Running(
        postgres, url, "--immediate-checkpoint", *method, *SLOW, *moto.options, environ=dict(moto.environ)
    ) as running:
        wait_for(
            lambda: client.list_multipart_uploads(Bucket=name).get("Uploads") or running.process.poll(),
            what="an upload to begin",
        )
        # It is young, and moto says of every upload that it began years ago: all the same nothing of it goes.
        assert cleaned("--dry-run") == {}
        running.process.kill()
        running.process.wait()
    uploads = client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert uploads
    assert cleaned() == {}  # nobody knows yet that it is dead
    (backup_id,) = {item["Key"].split("/")[3] for item in uploads}
    old = ("--older-than", "1s")
    wait_for(lambda: cleaned("--dry-run", *old), what="the backup to be a second old")
    told, done = cleaned("--dry-run", *old), cleaned(*old)
    assert told[f"abandoned-backup {backup_id}"] == "would be removed"
    assert set(told.values()) == {"would be removed"}
    assert done == dict.fromkeys(told, "removed")
    assert len(done) == 1 + len(uploads)
    assert client.list_multipart_uploads(Bucket=name).get("Uploads") is None
    left = [item["Key"] for item in client.list_objects_v2(Bucket=name).get("Contents", [])]
    assert left == ["prod/main/system_identifiers"]
