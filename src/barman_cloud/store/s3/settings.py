"""Everything about a bucket of S3 that options, environment and files of AWS say, as one value."""

from __future__ import annotations

from typing import Any, NamedTuple

from barman_cloud.store.bucket_api import Attributes
from barman_cloud.store.clients import READ_TIMEOUT
from barman_cloud.store.options import StoreOptions

REGION_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


class S3Settings(NamedTuple):
    """Everything about a bucket that options, environment and files of AWS say."""

    bucket: str
    region: str
    endpoint: str
    """Base URL without the bucket."""
    virtual_host: bool
    """The bucket is part of the host name, not of the path."""
    aws: bool
    """The endpoint is Amazon's own."""
    access_point: bool = False
    """``bucket`` is an access point or an alias of one, which answers by other names."""
    ca_file: str | None = None
    options: StoreOptions = StoreOptions()
    """What the command line says, for whatever shapes a request as it stands there."""
    read_timeout: float = READ_TIMEOUT
    customer_key: str | None = None
    """SSE-C key in base64."""
    storage_class: str | None = None
    """Of archives and WAL segments."""
    checksums_when_required: bool | None = None
    """``AWS_REQUEST_CHECKSUM_CALCULATION``; None: not set."""
    validate_responses: bool = False
    """``AWS_RESPONSE_CHECKSUM_VALIDATION`` is ``when_supported``."""

    def __repr__(self) -> str:
        return f"S3Settings({self.bucket!r})"  # the customer key is in it

    def in_region(self, region: str) -> S3Settings:
        """The same bucket reached through Amazon's endpoint of another region."""
        return self._replace(region=region, endpoint=self.endpoint.replace(f".{self.region}.", f".{region}.", 1))

    @property
    def bucket_url(self) -> str:
        """The URL that stands for the bucket in requests."""
        scheme, _, rest = self.endpoint.rstrip("/").partition("://")
        return f"{scheme}://{self.bucket}.{rest}" if self.virtual_host else f"{scheme}://{rest}/{self.bucket}"

    def customer_key_headers(self) -> dict[str, str]:
        """The headers that go with every read of an object under SSE-C."""
        if self.customer_key is None:
            return {}
        import base64
        import hashlib

        digest = hashlib.md5(base64.b64decode(self.customer_key), usedforsecurity=False).digest()
        return {
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": self.customer_key,
            "x-amz-server-side-encryption-customer-key-md5": base64.b64encode(digest).decode(),
        }

    def encryption_headers(self) -> dict[str, str]:
        """The headers that go with every write."""
        headers = self.customer_key_headers()
        if self.options.encryption:
            headers["x-amz-server-side-encryption"] = self.options.encryption
        if self.options.sse_kms_key_id:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = self.options.sse_kms_key_id
        return headers

    def write_headers(self, attributes: Attributes) -> dict[str, str]:
        """The headers of a request that makes an object."""
        from barman_cloud.store.s3.sigv4 import encode_query

        headers = self.encryption_headers()
        if attributes.tags:
            headers["x-amz-tagging"] = encode_query(attributes.tags)
        if attributes.storage_class:
            headers["x-amz-storage-class"] = attributes.storage_class
        return headers | {f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()}

    def obstore_config(self) -> dict[str, Any]:
        """The same for obstore. Every key that obstore would look for in the environment itself is set here."""
        config: dict[str, Any] = {
            "region": self.region,
            "endpoint": self.bucket_url if self.virtual_host else self.endpoint.rstrip("/"),
            "virtual_hosted_style_request": self.virtual_host,
            "skip_signature": False,
            "conditional_put": "etag",
        }
        config["aws_endpoint_url_s3"] = config["endpoint"]
        if self.customer_key is not None:
            config |= {"server_side_encryption": "sse-c", "sse_customer_key_base64": self.customer_key}
        elif self.options.encryption:
            config["server_side_encryption"] = self.options.encryption
            if self.options.sse_kms_key_id:
                config["sse_kms_key_id"] = self.options.sse_kms_key_id
        return config
