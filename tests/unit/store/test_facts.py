"""What S3 and Google buckets say about themselves, and where credentials come from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from barman_cloud.store.facts import BucketSettings, Facts, Untold
from barman_cloud.store.open import open_store
from barman_cloud.store.s3.identity import origin_of
from barman_cloud.store.s3.profile import load_profile
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.servers import StoreServer, s3_environ

ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 5}}
OLD = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}


def facts_of(url: str, environ: dict[str, str]) -> Facts:
    found = open_store(url, environ=environ).facts()
    assert found is not None
    return found


def client(moto: StoreServer):  # type: ignore[no-untyped-def]
    return boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


def rule(name: str, prefix: str, **action: object) -> dict[str, object]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}


def test_a_bucket_without_any_settings(moto: StoreServer) -> None:
    url = f"{moto.new_bucket()}/prod"
    assert facts_of(url, dict(moto.environ)).settings("k") == BucketSettings(False, 0, 0, "", ())


def test_rules_count_where_they_hold_for_our_path(moto: StoreServer) -> None:
    url = moto.new_bucket(object_lock=True)
    bucket = url.removeprefix("s3://")
    rules = [
        rule("all", "", **ABORT),
        rule("ours", "prod/", **OLD, Expiration={"Days": 40}),
        rule("others", "dev/", Expiration={"Days": 1}),
        {**rule("off", "", Expiration={"Days": 2}), "Status": "Disabled"},
        {**rule("cold", "prod/main/", Transitions=[{"Days": 3, "StorageClass": "GLACIER"}])},
    ]
    configuration = {"Rules": rules}
    client(moto).put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=configuration)
    retention = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
    client(moto).put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=retention)
    found = facts_of(f"{url}/prod", dict(moto.environ)).settings("k")
    assert found.versioning is True
    assert (found.unfinished_days, found.old_versions_days) == (5, 30)
    assert found.lock == "new objects are retained for 3 days (governance mode)"
    assert isinstance(found.expiry, tuple)
    assert found.expiry[0] == "rule ours deletes objects after 40 days"
    assert "rule cold moves objects to GLACIER" in found.expiry[1]
    assert len(found.expiry) == 2


def test_what_these_credentials_may_not_see_is_told_so(moto: StoreServer) -> None:
    url = moto.new_bucket()
    with fault_proxy(moto.endpoint) as proxy:
        denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        for name in ("versioning", "lifecycle", "object-lock"):
            proxy.add(Fault("GET", name, status=403, body=denied, times=9))
        found = facts_of(url, s3_environ(proxy.endpoint)).settings("k")
    assert all(isinstance(answer, Untold) for answer in found)
    assert "AccessDenied" in found.versioning.reason  # type: ignore[union-attr]


GOOGLE = b"""{"kind": "storage#bucket", "versioning": {"enabled": true},
"retentionPolicy": {"retentionPeriod": "864000"}, "lifecycle": {"rule": [
 {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 3}},
 {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 20}},
 {"action": {"type": "Delete"}, "condition": {"age": 50, "matchesPrefix": ["prod/"]}},
 {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["dev/"]}}]}}"""


def test_google_tells_it_in_one_answer(fake_gcs: StoreServer) -> None:
    with fault_proxy(fake_gcs.endpoint) as proxy:
        proxy.add(Fault("GET", "/storage/v1/b/bucket", status=200, body=GOOGLE))
        found = facts_of("gs://bucket/prod", {"STORAGE_EMULATOR_HOST": proxy.endpoint}).settings("k")
    assert found == BucketSettings(
        True, 20, 3, "new objects are retained for 10 days", ("a rule deletes objects after 50 days",)
    )


AWS_ORIGINS = [
    ({"AWS_ACCESS_KEY_ID": "k"}, "", "AWS_ACCESS_KEY_ID of the environment", False),
    ({}, "aws_access_key_id = k", "profile default of the AWS configuration files", False),
    ({}, "credential_process = x", "profile default of the AWS configuration files: credential_process", True),
    ({}, "role_arn = x", "profile default of the AWS configuration files: a role or a login", True),
    ({"AWS_WEB_IDENTITY_TOKEN_FILE": "f", "AWS_ROLE_ARN": "arn:r"}, "", "web identity for arn:r", True),
    ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, "", "the container's credentials service", True),
    ({}, "", "the role of this instance", True),
]


@pytest.mark.parametrize(("environ", "profile", "origin", "renewed"), AWS_ORIGINS)
def test_where_aws_credentials_come_from(
    tmp_path: Path, environ: dict[str, str], profile: str, origin: str, renewed: bool
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(f"[default]\n{profile}\n")
    variables = {**environ, "HOME": str(tmp_path)}
    assert origin_of(variables, load_profile(variables, None)) == (origin, renewed)


def test_a_shared_access_signature_says_when_it_ends() -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    environ = {"AZURE_STORAGE_SAS_TOKEN": f"sv=2021-12-02&se={end:%Y-%m-%dT%H:%M:%SZ}&sig=x"}
    found = facts_of("https://account.blob.core.windows.net/container", environ).credentials()
    assert found.expires == end
    assert (found.origin, found.renewed) == ("AZURE_STORAGE_SAS_TOKEN of the environment", False)
