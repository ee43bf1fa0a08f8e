"""Each command works with just the S3 permissions that docs/reference/permissions.md lists, where they are enforced.

moto checks every request against the policies of the IAM user whose key signed it, once it is told to. In two
things it isn't AWS: HEAD bucket needs ``s3:HeadBucket`` (``s3:ListBucket`` at AWS), so ``--test`` isn't covered, and a
request that deletes many keys needs ``s3:DeleteObject`` on the bucket itself, which is granted for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.support.commands import run_command
from tests.support.postgres import PostgresServer
from tests.support.privileges import PROJECT
from tests.support.segments import Cluster
from tests.support.servers import REGION, StoreServer, moto_server, request

BUCKET, SERVER = "guarded", "main"
ROW = re.compile(r"\|(?P<commands> `[^|]+)\|(?P<bucket>[^|]*)\|(?P<objects>[^|]*)\|")


def documented_actions() -> dict[str, tuple[list[str], list[str]]]:
    """Return, for each command of the S3 table, its actions on the bucket and on objects."""
    page = (PROJECT / "docs" / "reference" / "permissions.md").read_text()
    section = page.split("## S3")[1].split("\n## ")[0]
    found = {}
    for row in ROW.finditer(section):
        actions = [re.findall(r"`(s3:\w+)`", row[column]) for column in ("bucket", "objects")]
        for command in re.findall(r"`([\w-]+)`", row["commands"]):
            found[command] = (actions[0], actions[1])
    return found


@dataclass(frozen=True)
class Guarded:
    """A bucket behind policies: one user per documented command."""

    server: StoreServer
    users: Mapping[str, Mapping[str, str]]

    def run(self, user: str, command: str, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
        """Run a command with the key of ``user`` and return its stdout."""
        environ = {**self.server.environ, **self.users[user]}
        done = run_command(command, *arguments, environ=environ)
        assert done.returncode in ok, f"{command} as {user}: {done.returncode}\n{done.stderr}"
        return done.stdout


def policy(bucket: list[str], objects: list[str]) -> str:
    if "s3:DeleteObject" in objects:
        bucket = [*bucket, "s3:DeleteObject"]
    parts = ((bucket, f"arn:aws:s3:::{BUCKET}"), (objects, f"arn:aws:s3:::{BUCKET}/p/*"))
    statements = [
        {"Effect": "Allow", "Action": actions, "Resource": resource} for actions, resource in parts if actions
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with moto_server() as server:
        server.make_bucket(BUCKET)
        keys = {"aws_access_key_id": "set-up", "aws_secret_access_key": "set-up-secret"}
        iam = boto3.client("iam", endpoint_url=server.endpoint, region_name=REGION, **keys)
        users = {}
        for name, (bucket, objects) in documented_actions().items():
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="least", PolicyDocument=policy(bucket, objects))
            key = iam.create_access_key(UserName=name)["AccessKey"]
            users[name] = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        request("POST", f"{server.endpoint}/moto-api/reset-auth", body=b"0", headers={"Content-Type": "text/plain"})
        yield Guarded(server, users)


def test_every_command_has_a_row() -> None:
    from barman_cloud.cli.commands import PROGRAMS as SUMMARIES

    assert set(SUMMARIES) <= set(documented_actions())


def test_commands_need_no_more_than_documented(guarded: Guarded, postgres: PostgresServer, server_dir: Path) -> None:
    url = f"s3://{BUCKET}/p"
    system = postgres.value("SELECT system_identifier FROM pg_control_system()")
    wal = Cluster(server_dir / "cluster", system=system).add(1)
    connection = ["--host", str(postgres.directory), "--port", str(postgres.port), "--user", "postgres"]

    guarded.run("check-wal-archive", "check-wal-archive", url, SERVER)
    for _ in range(2):  # the second one finds the object and compares
        guarded.run("wal-archive", "wal-archive", "--tag", "a,b", url, SERVER, str(wal))
    guarded.run("wal-restore", "wal-restore", url, SERVER, wal.name, str(server_dir / "out"))
    guarded.run("wal-restore", "wal-restore", url, SERVER, wal.name[:-1] + "2", str(server_dir / "out"), ok=(1,))

    backup = ["--immediate-checkpoint", "--name", "one", "--tag", "a,b", *connection, url, SERVER]
    guarded.run("backup", "backup", *backup)
    assert "one" in guarded.run("backup-list", "backup-list", url, SERVER)
    assert json.loads(guarded.run("backup-show", "backup-show", "--format", "json", url, SERVER, "one"))
    for action in (["--target", "full"], ["--status"], ["--release"]):
        guarded.run("backup-keep", "backup-keep", *action, url, SERVER, "one")
    guarded.run("restore", "restore", url, SERVER, "one", str(server_dir / "restored"))
    guarded.run("backup-delete", "backup-delete", "-b", "one", url, SERVER)
    assert "one" not in guarded.run("backup-list", "backup-list", url, SERVER)


def test_the_server_does_enforce(guarded: Guarded, server_dir: Path) -> None:
    wal = Cluster(server_dir / "cluster").add(1)
    environ = {**guarded.server.environ, **guarded.users["backup-list"]}
    done = run_command("wal-archive", f"s3://{BUCKET}/p", "other", str(wal), environ=environ)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert wal.name in done.stderr
    assert guarded.users["backup-list"]["AWS_SECRET_ACCESS_KEY"] not in done.stderr
