"""Options to provider: the only place that knows which class serves which cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError
from barman_cloud.snapshots.base import SnapshotOptions, SnapshotProvider
from barman_cloud.store import providers

if TYPE_CHECKING:
    from barman_cloud.catalog.backup_info import SnapshotsInfo

_TALKATIVE = ("azure", "boto3", "botocore", "google", "requests", "urllib3")


def kind_of_store(store_provider: str) -> str:
    """Return the snapshot provider that belongs to a kind of store; ``ConfigurationError`` if none does."""
    kind = providers.named(store_provider).snapshots
    if kind is None:
        raise ConfigurationError(
            f"disk snapshots can't go with a store of kind {store_provider}",
            hint="store the backup's metadata in S3, Azure Blob Storage or Google Cloud Storage",
        )
    return kind


def open_provider(kind: str, options: SnapshotOptions) -> SnapshotProvider:
    """Return the provider, ready for requests; none is made yet.

    ``ConfigurationError`` if an option that it needs is missing or its credentials can't be found, ``OperationError``
    if its libraries aren't installed.
    """
    logs.silence(_TALKATIVE)
    if kind == "aws":
        from barman_cloud.snapshots import aws

        return aws.connect(options)
    if kind == "azure":
        from barman_cloud.snapshots import azure

        return azure.connect(options)
    from barman_cloud.snapshots import gcp

    return gcp.connect(options)


def open_recorded(info: SnapshotsInfo, options: SnapshotOptions) -> SnapshotProvider:
    """Return the provider of a backup's snapshots: what the options leave open comes from ``backup.info``."""
    recorded = info.provider_info
    return open_provider(
        info.provider,
        replace(
            options,
            aws_region=options.aws_region or recorded.get("region"),
            azure_subscription_id=recorded.get("subscription_id") or options.azure_subscription_id,
            azure_resource_group=options.azure_resource_group or recorded.get("resource_group"),
            gcp_project=recorded.get("project") or options.gcp_project,
        ),
    )
