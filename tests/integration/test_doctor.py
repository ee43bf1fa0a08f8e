"""``barman-cloud doctor`` on real stores and a real server: what is right, and each thing that can be wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.doctor.machine import ServerProcess, examine_programs
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.gcs_xml_proxy import gcs_xml_proxy
from tests.support.postgres import PostgresServer, command_environment
from tests.support.privileges import UNCHANGED, Account, storing_account
from tests.support.repository import Repository
from tests.support.schemas import require_valid
from tests.support.servers import StoreServer, rclone_s3, s3_environ

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
QUIET = ("user", "programs", "tls")
"""Findings that depend on how the tests are run."""


def doctor(
    url: str, *words: str, environ: Mapping[str, str], account: Account = UNCHANGED
) -> subprocess.CompletedProcess[str]:
    umbrella = str(Path(program("backup")).with_name("barman-cloud"))
    command = account.command([umbrella, "doctor", url, "main", *words])
    return subprocess.run(
        command, capture_output=True, text=True, env=command_environment(environ), check=False, timeout=280
    )


def findings(
    url: str, *words: str, environ: Mapping[str, str], code: int = 0, account: Account = UNCHANGED
) -> dict[str, dict[str, Any]]:
    """Return the worst finding of each subject."""
    done = doctor(url, "--format", "json", *words, environ=environ, account=account)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout + done.stderr
    document = json.loads(done.stdout)
    require_valid(document, "doctor")
    report = document["servers"][0]
    assert report["command"] == "doctor"
    levels = ("ok", "warning", "unknown", "critical")
    found: dict[str, dict[str, Any]] = {}
    for finding in report["findings"]:
        assert finding["level"] == "ok" or finding["hint"], finding
        assert "\n" not in finding["message"] + (finding["hint"] or "")
        known = found.get(finding["subject"])
        if known is None or levels.index(finding["level"]) > levels.index(known["level"]):
            found[finding["subject"]] = finding
    return found


def keys(url: str, environ: Mapping[str, str]) -> list[str]:
    with open_store(url, environ=environ) as store:
        return [info.key for info in store.list("")]


@pytest.fixture
def front(moto: StoreServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.endpoint) as proxy:
        yield proxy


# What is right -------------------------------------------------------------------------------------------------------

PROBES = ("bucket", "list", "write", "read", "conditional-create", "multipart", "delete")


def test_a_bucket_as_it_should_be(moto: StoreServer) -> None:
    url = f"{moto.new_bucket()}/prod"
    found = findings(url, environ=moto.environ)
    assert [found[subject]["level"] for subject in PROBES] == ["ok"] * len(PROBES)
    assert found["credentials"]["message"] == "found in AWS_ACCESS_KEY_ID of the environment; they don't expire"
    assert "answers in" in found["endpoint"]["message"]
    assert found["clock"]["level"] == "ok"
    assert found["unfinished-uploads"]["level"] == "warning"
    assert "aws s3api put-bucket-lifecycle-configuration --bucket" in found["unfinished-uploads"]["hint"]
    assert keys(url, moto.environ) == []
    text = doctor(url, environ=moto.environ).stdout
    assert text.startswith(f"doctor of main at {url}: WARNING\n")
    assert "OK       conditional-create  an object is created once" in text
    assert "\x1b" not in text


def test_on_azure(azurite: StoreServer) -> None:
    url = f"{azurite.new_bucket()}/prod"
    found = findings(url, *azurite.options, environ=azurite.environ)
    assert [found[subject]["level"] for subject in PROBES] == ["ok"] * len(PROBES)
    assert "AZURE_STORAGE_CONNECTION_STRING" in found["credentials"]["message"]
    assert "renewed" in found["credentials"]["message"]
    assert found["unfinished-uploads"]["level"] == "ok"


def test_on_google(fake_gcs: StoreServer) -> None:
    url = f"{fake_gcs.new_bucket()}/prod"
    with gcs_xml_proxy(fake_gcs) as (front, _):
        found = findings(url, environ=front.environ)
    assert [found[subject]["level"] for subject in PROBES] == ["ok"] * len(PROBES)
    assert "gcloud storage buckets update gs://" in found["unfinished-uploads"]["hint"]


def test_in_a_directory(tmp_path: Path) -> None:
    found = findings(f"file://{tmp_path}", environ={})
    assert [found[subject]["level"] for subject in PROBES] == ["ok"] * len(PROBES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_tls_and_its_chain() -> None:
    with rclone_s3(tls=True) as server:
        url = server.new_bucket()
        found = findings(url, environ=server.environ)
        assert "the certificate by authority of a test store is valid until" in found["tls"]["message"]
        assert found["tls"]["level"] == "warning", "it ends tomorrow"
        untrusted = {name: value for name, value in server.environ.items() if name != "AWS_CA_BUNDLE"}
        found = findings(url, environ=untrusted, code=1)
        assert "TLS certificate isn't trusted" in found["endpoint"]["message"]
        assert "openssl s_client -connect 127.0.0.1:" in found["endpoint"]["hint"]
        assert "bucket" not in found, "nothing more is tried"


# What is wrong with the way ------------------------------------------------------------------------------------------


def test_wrong_and_missing_keys(rclone_s3: StoreServer) -> None:
    url = rclone_s3.new_bucket()
    found = findings(url, environ={**rclone_s3.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}, code=1)
    assert "doesn't accept the credentials" in found["bucket"]["message"]
    assert "check the access key" in found["bucket"]["hint"]
    nothing = {k: v for k, v in rclone_s3.environ.items() if k not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    found = findings(url, environ=nothing, code=1)
    assert "no AWS credentials found" in found["credentials"]["message"]
    assert "bucket" not in found
    found = findings(url, environ={**rclone_s3.environ, "AWS_SESSION_TOKEN": "t"})
    assert "nothing says until when" in found["credentials"]["message"]


def test_a_bucket_that_is_not_there_and_a_host_that_is_not(moto: StoreServer) -> None:
    found = findings("s3://no-such-bucket-here/p", environ=moto.environ, code=1)
    assert "the bucket doesn't exist" in found["bucket"]["message"]
    found = findings("s3://b", environ=s3_environ("http://nowhere.invalid"), code=1)
    assert "can't reach the store" in found["endpoint"]["message"]
    assert "getent hosts nowhere.invalid" in found["endpoint"]["hint"]
    found = findings("s3://b", environ=s3_environ("http://127.0.0.1:9"), code=1)
    assert "connection refused" in found["endpoint"]["message"]
    assert "curl -v http://127.0.0.1:9" in found["endpoint"]["hint"]


@pytest.mark.parametrize(("minutes", "level"), [(3, "warning"), (20, "critical")])
def test_a_wrong_clock(moto: StoreServer, front: FaultProxy, minutes: int, level: str) -> None:
    url = moto.new_bucket()
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=minutes), usegmt=True)
    front.add(
        Fault(
            "GET",
            only_if=lambda seen: seen.path == "/" or seen.path.count("/") == 1,
            status=403,
            headers={"Date": date},
        )
    )
    found = findings(url, environ=s3_environ(front.endpoint), code=1 if level == "critical" else 0)
    assert found["clock"]["level"] == level
    assert f"differ by {minutes} min" in found["clock"]["message"]
    assert found["clock"]["hint"].startswith("timedatectl")


def test_a_bucket_in_another_region(moto: StoreServer, front: FaultProxy) -> None:
    url = moto.new_bucket()
    front.add(Fault("HEAD", status=200, headers={"x-amz-bucket-region": "eu-west-3"}))
    found = findings(url, environ=s3_environ(front.endpoint))
    assert found["region"]["hint"] == "export AWS_DEFAULT_REGION=eu-west-3"


# What is wrong with rights -------------------------------------------------------------------------------------------

RIGHTS = [
    ("list", Fault("GET", "prefix=prod/main/", status=403, body=DENIED, times=9), "s3:ListBucket on arn:aws:s3:::"),
    ("write", Fault("PUT", status=403, body=DENIED, times=9), "s3:PutObject on arn:aws:s3:::"),
    ("read", Fault("GET", "/maintenance/", status=403, body=DENIED, times=9), "s3:GetObject on arn:aws:s3:::"),
    ("multipart", Fault("POST", "uploads", status=403, body=DENIED, times=9), "s3:AbortMultipartUpload on"),
    ("multipart", Fault("DELETE", "uploadId", status=403, body=DENIED, times=9), "s3:AbortMultipartUpload on"),
]


@pytest.mark.parametrize(("subject", "fault", "right"), RIGHTS)
def test_what_may_not_be_done_is_named_with_its_right(
    moto: StoreServer, front: FaultProxy, subject: str, fault: Fault, right: str
) -> None:
    url = f"{moto.new_bucket()}/prod"
    fault.times = 9
    front.add(fault)
    found = findings(url, environ=s3_environ(front.endpoint), code=1)
    assert found[subject]["level"] == "critical"
    assert right in found[subject]["hint"]
    if subject != "list":
        assert "/prod/main/*" in found[subject]["hint"]
    front.clear()
    assert keys(url, moto.environ) == []


def test_what_the_bucket_itself_does_to_backups(moto: StoreServer, front: FaultProxy) -> None:
    import boto3

    url = f"{moto.new_bucket(object_lock=True)}/prod"  # such a bucket has versions
    bucket, keys = url[5:].partition("/")[0], {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("s3", endpoint_url=moto.endpoint, region_name="us-east-1", **keys)
    found = findings(url, environ=moto.environ)
    assert found["object-lock"]["message"].startswith("object lock is on, without a default retention")
    assert found["lifecycle"]["message"] == "no rule deletes objects by their age"
    assert (found["versioning"]["level"], found["versioning"]["hint"][:12]) == ("warning", "add a rule (")
    line = found["versioning"]["hint"]
    configuration = json.loads(line[line.index("'") + 1 : line.rindex("'")])
    configuration["Rules"] += json.loads(found["unfinished-uploads"]["hint"].split("'")[1])["Rules"]
    # What is printed is what S3 takes, and what the doctor is content with.
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=configuration)
    found = findings(url, environ=moto.environ)
    assert {found[subject]["level"] for subject in ("versioning", "unfinished-uploads", "object-lock")} == {"ok"}
    assert found["versioning"]["message"] == "on; old versions go after 14 days"
    locked = moto.new_bucket(object_lock=True)  # moto takes a default retention of an empty bucket only
    retention = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 3}}}
    client.put_object_lock_configuration(Bucket=locked[5:], ObjectLockConfiguration=retention)
    found = findings(f"{locked}/prod", environ=moto.environ)
    assert found["object-lock"]["message"].startswith("new objects are retained for 3 days (compliance mode)")

    aging = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "prod/"}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [aging]})
    found = findings(url, environ=moto.environ)
    assert found["lifecycle"]["level"] == "warning"
    assert found["lifecycle"]["message"].startswith("rule tidy deletes objects after 30 days: backups would lose")
    assert "backup-delete --retention-policy" in found["lifecycle"]["hint"]

    for name in ("versioning", "lifecycle", "object-lock"):
        front.add(Fault("GET", f"?{name}", status=403, body=DENIED, times=9))
    found = findings(url, environ=s3_environ(front.endpoint))
    for subject, verb in (("versioning", "get-bucket-versioning"), ("object-lock", "get-object-lock-configuration")):
        assert found[subject]["message"].startswith("these credentials may not see it (")
        assert f"aws s3api {verb} --bucket {bucket}" in found[subject]["hint"]


def test_a_key_that_can_not_delete_leaves_one_small_object(moto: StoreServer, front: FaultProxy) -> None:
    url = f"{moto.new_bucket()}/prod"
    refused = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    for _ in range(2):
        front.add(Fault("POST", "delete", status=200, body=refused))
        found = findings(url, environ=s3_environ(front.endpoint))
        assert found["delete"]["level"] == "warning"
        assert "backup and wal-archive don't" in found["delete"]["message"]
        assert "s3:DeleteObject on" in found["delete"]["hint"]
        assert keys(url, moto.environ) == ["prod/main/maintenance/doctor/probe"]
        assert found["multipart"]["level"] == "ok"


def test_a_store_that_ignores_conditions(moto: StoreServer, front: FaultProxy) -> None:
    url = moto.new_bucket()
    front.add(Fault("PUT", "-once", status=200, headers={"ETag": '"9dd4e461268c8034f5c8564e155c67a6"'}, times=9))
    found = findings(url, environ=s3_environ(front.endpoint))
    assert found["conditional-create"]["level"] == "warning"


# PostgreSQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make(postgres_installation: Any) -> Iterator[Callable[..., PostgresServer]]:
    import contextlib

    from tests.support.postgres import temporary_server_directory

    with contextlib.ExitStack() as stack:

        def start() -> PostgresServer:
            directory = stack.enter_context(temporary_server_directory())
            return stack.enter_context(PostgresServer.create(directory, postgres_installation))

        yield start


@pytest.fixture(scope="module")
def server(make: Callable[..., PostgresServer]) -> PostgresServer:
    return make()


def connection(server: PostgresServer, user: str = "postgres") -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(server.port), "-U", user, "-d", "postgres"]


@pytest.mark.long
def test_a_server_that_archives(server: PostgresServer, server_dir: Path) -> None:
    repository = Repository(server_dir)
    archive = program("wal-archive")
    environ = {"PATH": str(Path(archive).parent)}
    server.archive_with(f"{archive} {repository.url} main %p")
    account = storing_account()
    words = [*connection(server), "--switch-wal"]
    found = findings(repository.url, *words, environ=environ, account=account)
    assert "was in the archive" in found["one-segment"]["message"]
    assert found["archive-command"]["level"] == "ok"
    assert found["role"]["message"] == "role postgres may take backups"
    assert (found["programs"]["level"], found["programs"]["message"].split(",")[0]) == ("ok", archive)
    assert found["settings"]["hint"] == 'psql -c "ALTER SYSTEM SET fsync = on" -c "SELECT pg_reload_conf()"'

    words = [*connection(server), "--server-environment"]
    environ = {**environ, "AWS_PROFILE": "of this shell"}
    assert (
        "AWS_PROFILE"
        in findings(repository.url, *connection(server), environ=environ, account=account)["variables"]["message"]
    )
    assert findings(repository.url, *words, environ=environ, account=account)["variables"]["level"] == "ok"

    server.archive_with(f"barman-cloud-wal-archive {repository.url} main %p || true")
    found = findings(repository.url, *connection(server), environ=environ, account=account, code=1)
    assert found["archive-command"]["message"] == "archive_command ends in success whatever the archiver says"
    assert found["archive-command"]["hint"] == f"archive_command = '{archive} --zstd {repository.url} main %p'"

    server.archive_with("/nowhere/barman-cloud-wal-archive --nonsense s3://elsewhere main %p")
    words = [*connection(server), "--switch-wal", "--wal-timeout", "1"]
    found = findings(repository.url, *words, environ=environ, account=account, code=1)
    assert "wasn't in the archive 1 s after" in found["one-segment"]["message"]
    assert found["archive-command"]["level"] == "critical"
    text = doctor(repository.url, *connection(server), environ=environ, account=account).stdout
    assert "/nowhere/barman-cloud-wal-archive isn't there" in text
    assert "unrecognized arguments: --nonsense" in text

    server.archive_with(f"{archive} {repository.url} another %p")
    found = findings(repository.url, *connection(server), environ=environ, account=account, code=1)
    assert f"archives to {repository.url} another, not to" in found["archive-command"]["message"]


@pytest.mark.long
def test_the_grants_that_are_printed_are_the_ones_that_help(server: PostgresServer, tmp_path: Path) -> None:
    server.query('CREATE ROLE "back up" LOGIN')
    found = findings(f"file://{tmp_path}", *connection(server, "back up"), environ={}, code=1)
    assert 'GRANT pg_monitor TO \\"back up\\";' in found["role"]["hint"]
    line = found["role"]["hint"].replace(
        "psql -U postgres", f"{server.installation.tool('psql')} {' '.join(connection(server))}"
    )
    environ = command_environment(server.installation.environ)
    subprocess.run(["bash", "-c", line], check=True, env=environ, capture_output=True)
    found = findings(f"file://{tmp_path}", *connection(server, "back up"), environ={}, code=1)
    assert found["role"]["message"] == "role back up may take backups"


@pytest.mark.long
def test_what_setup_prints_makes_a_role_that_may_take_backups(server: PostgresServer, tmp_path: Path) -> None:
    umbrella = str(Path(program("backup")).with_name("barman-cloud"))
    version = str(server.value("SHOW server_version_num")[:-4])
    for words in ((), ("--streamed", "--role", "Streamer")):
        command = [umbrella, "setup", f"file://{tmp_path}", "main", "--part", "roles", "--postgresql", version, *words]
        sql = subprocess.run(command, capture_output=True, text=True, check=True, env=command_environment({})).stdout
        for statement in sql.split(";"):
            if body := "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip():
                server.query(body)
    found = findings(f"file://{tmp_path}", *connection(server, "barman_cloud"), environ={}, code=1)
    assert found["role"]["level"] == "ok"
    found = findings(f"file://{tmp_path}", *connection(server, "Streamer"), environ={}, code=1)
    assert found["replication"]["message"] == "the role may stream backups and WAL"


def test_programs_are_looked_for_where_the_server_would(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = program("wal-archive")
    monkeypatch.setattr("sys.argv", [archive])
    (missing,) = examine_programs(ServerProcess(0, "/nowhere", {"PATH": "/nowhere"}))
    assert missing.message.startswith(f"{Path(archive).name} isn't on the server's PATH: ")
    assert missing.hint == f"write the whole path: {archive}"
    (found,) = examine_programs(ServerProcess(0, str(Path(archive).parent), {}))
    assert found.message.startswith(f"{archive}, version ")


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    found = findings(f"file://{tmp_path}", "-h", "127.0.0.1", "-p", "9", environ={}, code=1)
    assert "cannot connect to PostgreSQL" in found["server"]["message"]
    assert found["write"]["level"] == "ok"


def test_one_segment_needs_a_connection(tmp_path: Path) -> None:
    done = doctor(f"file://{tmp_path}", "--switch-wal", environ={})
    assert done.returncode == 3
    assert "--switch-wal needs a connection" in done.stderr
