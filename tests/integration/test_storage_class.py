"""``--storage-class``: archives and WAL segments are of the class, everything else is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.commands import run_command
from tests.support.postgres import PostgresServer
from tests.support.segments import Cluster
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, StoreServer

HISTORY = b"1\t0/3000000\tno recovery target specified\n"


def classes(server: StoreServer, url: str) -> dict[str, str]:
    """Return the class of every object in the bucket of moto, by the last part of its key."""
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    client = boto3.client("s3", endpoint_url=server.endpoint, region_name=REGION, **keys)
    bucket = url.removeprefix("s3://")
    with open_store(url, environ=server.environ) as store:
        names = [info.key for info in store.list("")]
    heads = {key: client.head_object(Bucket=bucket, Key=key) for key in names}
    return {key.rpartition("/")[2]: head.get("StorageClass", "STANDARD") for key, head in heads.items()}


def test_wal_segments_are_of_the_class_and_history_files_are_not(moto: StoreServer, tmp_path: Path) -> None:
    cluster, url = Cluster(tmp_path / "data"), moto.new_bucket()
    segment, history = cluster.add(3), cluster.add_file("00000002.history", HISTORY)
    for path in (segment, history):
        done = run_command("wal-archive", "--storage-class", "standard_ia", url, "main", path, environ=moto.environ)
        assert done.returncode == 0, done.stderr
    found = classes(moto, url)
    assert found.pop(segment.name) == "STANDARD_IA"
    assert history.name in found
    assert set(found.values()) == {"STANDARD"}


def test_archives_are_of_the_class_and_what_describes_them_is_not(moto: StoreServer, postgres: PostgresServer) -> None:
    url = moto.new_bucket()
    arguments = ["--storage-class", "GLACIER_IR", "--immediate-checkpoint", "--min-chunk-size", "5MB", url, "main"]
    done = run_command("backup", *arguments, environ={**moto.environ, **postgres.client_environ})
    assert done.returncode == 0, done.stderr
    found = classes(moto, url)
    archives = {name for name in found if name.endswith(".tar")}
    assert archives
    assert {found[name] for name in archives} == {"GLACIER_IR"}
    assert {found[name] for name in found.keys() - archives} == {"STANDARD"}


@pytest.mark.parametrize("value", ["GLACIER", "deep_archive"])
@pytest.mark.parametrize("command", ["wal-archive", "backup"])
def test_a_class_that_cannot_be_read_at_once_is_refused(command: str, value: str, tmp_path: Path) -> None:
    path = [Cluster(tmp_path / "data").add(3)] if command == "wal-archive" else []
    done = run_command(command, "--storage-class", value, "s3://bucket", "main", *path, environ={"AWS_REGION": "x"})
    assert done.returncode == 4
    assert "can't be read for hours" in done.stderr
    assert "STANDARD_IA or GLACIER_IR" in done.stderr


def s3(value: str, **options: str) -> None:
    open_store("s3://b", options=StoreOptions(storage_class=value, **options), environ={})  # type: ignore[arg-type]


def azure(value: str) -> None:
    environ = {"AZURE_STORAGE_SAS_TOKEN": "sig=x"}
    open_store("https://a.blob.core.windows.net/c", options=StoreOptions(storage_class=value), environ=environ)


def google(value: str) -> None:
    environ = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}
    open_store("gs://b", options=StoreOptions(storage_class=value), environ=environ)


@pytest.mark.parametrize(
    ("opening", "value"),
    [
        (s3, "GOLD"),
        (s3, "Cool"),
        (azure, "Archive"),
        (azure, "STANDARD_IA"),
        (google, "Hot"),
        (google, ""),
        (lambda value: s3(value, endpoint_url="http://127.0.0.1:9"), "new\nline"),
        (lambda value: s3(value, endpoint_url="http://127.0.0.1:9"), "GLACIER"),
    ],
)
def test_a_class_that_the_provider_does_not_have_is_refused(opening: Callable[[str], None], value: str) -> None:
    with pytest.raises(ConfigurationError, match="--storage-class"):
        opening(value)


@pytest.mark.parametrize(
    ("opening", "value"),
    [
        (s3, "Intelligent_Tiering"),
        (azure, "cool"),
        (google, "archive"),
        (lambda value: s3(value, endpoint_url="http://127.0.0.1:9"), "COLD-HDD_1"),
    ],
)
def test_a_class_that_the_provider_has_or_may_have_is_taken(opening: Callable[[str], None], value: str) -> None:
    opening(value)
