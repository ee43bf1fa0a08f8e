"""The fixtures of the snapshot providers."""

from tests.support.snapshot_fixtures import aws, azure, cloud, gcp

__all__ = ["aws", "azure", "cloud", "gcp"]
