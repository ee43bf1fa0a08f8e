"""Opening a provider: what is asked for before any request, and how credentials fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import SnapshotsInfo
from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.snapshots.base import SnapshotOptions
from barman_cloud.snapshots.open import kind_of_store, open_provider, open_recorded

AZURE = SnapshotOptions(azure_subscription_id="s", azure_resource_group="g", azure_credential="azure-cli")
GOOGLE = SnapshotOptions(gcp_project="p", gcp_zone="z")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def test_the_store_decides_the_cloud() -> None:
    assert kind_of_store("aws-s3") == "aws"
    assert kind_of_store("azure-blob-storage") == "azure"
    assert kind_of_store("google-cloud-storage") == "gcp"
    with pytest.raises(ConfigurationError, match="a store of kind file"):
        kind_of_store("file")


@pytest.mark.parametrize(
    ("kind", "missing"),
    [("azure", "--azure-subscription-id, --azure-resource-group"), ("gcp", "--gcp-project")],
)
def test_missing_options_are_named(kind: str, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing) as caught:
        open_provider(kind, SnapshotOptions())
    assert caught.value.exit_code == 4


def test_google_needs_the_zone_to_find_an_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "user.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
    with (
        open_provider("gcp", SnapshotOptions(gcp_project="p")) as provider,
        pytest.raises(ConfigurationError, match="--gcp-zone"),
    ):
        provider.attached_disks("pg-host")


def test_aws_needs_a_region_and_credentials() -> None:
    with pytest.raises(ConfigurationError, match="no AWS region"):
        open_provider("aws", SnapshotOptions())
    with (
        open_provider("aws", SnapshotOptions(aws_region="eu-west-1")) as provider,
        pytest.raises(ConfigurationError, match="credentials"),
    ):
        provider.attached_disks("pg-host")


def test_an_unknown_aws_profile() -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        open_provider("aws", SnapshotOptions(aws_profile="nobody"))


def test_azure_without_a_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with open_provider("azure", AZURE) as provider, pytest.raises(AccessDeniedError, match="Azure CLI") as caught:
        provider.attached_disks("pg-host")
    assert "\n" not in str(caught.value)


def test_google_without_credentials() -> None:
    with pytest.raises(ConfigurationError, match="no Google credentials"):
        open_provider("gcp", GOOGLE)


def test_what_the_options_leave_open_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    info = SnapshotsInfo("aws", {"account_id": "1", "region": "eu-west-3"}, ())
    for given, used in ((None, "eu-west-3"), ("us-west-2", "us-west-2")):
        with open_recorded(info, SnapshotOptions(aws_region=given)) as provider:
            assert provider._ec2.meta.region_name == used  # type: ignore[attr-defined]
