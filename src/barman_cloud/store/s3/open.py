"""Options, environment and profile become the settings of one S3 bucket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError
from barman_cloud.store.base import StoreURL
from barman_cloud.store.clients import READ_TIMEOUT
from barman_cloud.store.environment import clean_url
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.retry import Retry
from barman_cloud.store.s3.identity import find_credentials
from barman_cloud.store.s3.profile import Profile, load_profile
from barman_cloud.store.s3.settings import REGION_NAME, S3Settings
from barman_cloud.store.s3.store import S3Store
from barman_cloud.store.storage_class import checked_class

log = logs.get_logger(__name__)

_DNS_BUCKET = r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
"""A bucket that may be part of a host name under Amazon's certificate, so without dots."""
_ALIASES = ("-s3alias", "--ol-s3", ".mrap")
"""How the names of access points end that stand for a bucket (S3 User Guide, "Access point aliases")."""

_CLASSES = ("STANDARD", "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING", "ONEZONE_IA", "REDUCED_REDUNDANCY")
_UNREADABLE = ("GLACIER", "DEEP_ARCHIVE")
"""S3 User Guide, "Understanding and managing Amazon S3 storage classes". Compatible stores have others."""


def open_s3(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> S3Store:
    """Return the store; no request is made."""
    profile = load_profile(environ, options.aws_profile)
    ca_file = environ.get("AWS_CA_BUNDLE") or profile.get("ca_bundle") or environ.get("REQUESTS_CA_BUNDLE") or None
    address = _address(url, options, environ, profile, _region(environ, profile))
    attempts = environ.get("AWS_MAX_ATTEMPTS") or profile.get("max_attempts")
    settings = S3Settings(
        bucket=address.bucket,
        region=address.region,
        endpoint=address.endpoint,
        virtual_host=address.virtual_host,
        aws=address.aws,
        access_point=url.bucket.startswith("arn:") or url.bucket.endswith(_ALIASES),
        ca_file=ca_file,
        read_timeout=options.read_timeout or READ_TIMEOUT,
        options=options._replace(deadline=None),
        customer_key=_customer_key(options),
        storage_class=checked_class(options.storage_class, "S3", _CLASSES, _UNREADABLE, others=not address.aws),
        checksums_when_required=_when_required(
            environ.get("AWS_REQUEST_CHECKSUM_CALCULATION") or profile.get("request_checksum_calculation"),
            "AWS_REQUEST_CHECKSUM_CALCULATION",
        ),
        validate_responses=_when_required(
            environ.get("AWS_RESPONSE_CHECKSUM_VALIDATION") or profile.get("response_checksum_validation"),
            "AWS_RESPONSE_CHECKSUM_VALIDATION",
        )
        is False,
    )
    retry = Retry(options.retry_until(), _attempts(attempts))
    return S3Store(
        url, settings, find_credentials(environ, profile, address.region, ca_file), retry=retry, environ=environ
    )


def _region(environ: Mapping[str, str], profile: Profile) -> str:
    region = environ.get("AWS_DEFAULT_REGION") or environ.get("AWS_REGION") or profile.get("region") or "us-east-1"
    if not re.fullmatch(REGION_NAME, region):
        raise ConfigurationError(
            f"{region!r} isn't the name of a region",
            hint="check AWS_DEFAULT_REGION, AWS_REGION and the region of the profile",
        )
    return region


class _Address(NamedTuple):
    """Where requests go. ``endpoint`` is without the bucket; ``virtual_host``: the bucket is part of the host name."""

    bucket: str
    endpoint: str
    virtual_host: bool
    aws: bool
    """It is Amazon's own service."""
    region: str


def _address(
    url: StoreURL, options: StoreOptions, environ: Mapping[str, str], profile: Profile, region: str
) -> _Address:
    if url.bucket.startswith("arn:"):
        return _access_point(url, options)
    style = options.addressing_style or profile.get("s3.addressing_style") or "auto"
    endpoint = options.endpoint_url or _configured_endpoint(environ, profile)
    if endpoint:
        endpoint = clean_url(endpoint, "the S3 endpoint")
        _warn_of_bucket(endpoint, url.bucket)
        aws = bool(re.search(r"\.amazonaws\.com(\.cn)?(:\d+)?$", endpoint.partition("://")[2].partition("/")[0]))
        # The AWS SDKs put the bucket into the path of a custom endpoint unless told otherwise.
        return _Address(url.bucket, endpoint, style == "virtual", aws, region)
    host = "s3"
    if _is_true(environ.get("AWS_USE_FIPS_ENDPOINT") or profile.get("use_fips_endpoint")):
        host += "-fips"
    if _is_true(environ.get("AWS_USE_DUALSTACK_ENDPOINT") or profile.get("use_dualstack_endpoint")):
        host += ".dualstack"
    virtual = style == "virtual" or (style == "auto" and re.fullmatch(_DNS_BUCKET, url.bucket) is not None)
    return _Address(url.bucket, f"https://{host}.{region}.{_domain(region)}", virtual, True, region)


def _access_point(url: StoreURL, options: StoreOptions) -> _Address:
    """Address an access point by its own host name; its region is part of the ARN (S3 User Guide, "Access points")."""
    _, _, service, region, account, resource = url.bucket.split(":", 5)
    if service != "s3" or options.endpoint_url:
        raise ConfigurationError(
            f"{url.text}: this access point can't be used "
            + ("together with --endpoint-url" if service == "s3" else "by its ARN (S3 on Outposts)"),
            hint="use the alias of the access point in place of a bucket name",
        )
    name = re.split("[:/]", resource)[1]
    return _Address(f"{name}-{account}", f"https://s3-accesspoint.{region}.{_domain(region)}", True, True, region)


def _configured_endpoint(environ: Mapping[str, str], profile: Profile) -> str | None:
    if _is_true(environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or profile.get("ignore_configured_endpoint_urls")):
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or profile.endpoint_url("s3")


def _warn_of_bucket(endpoint: str, bucket: str) -> None:
    """Say that the bucket is added to an endpoint that has it already.

    It isn't left out: the AWS tools add it too, and an archive may be there.
    """
    host, _, path = endpoint.partition("://")[2].partition("/")
    if path.rpartition("/")[2] == bucket or host.lower().startswith(f"{bucket.lower()}."):
        log.warning(
            "the endpoint %s contains the bucket %s, which is added to it again: objects are stored below %s/ in it "
            "(hint: leave the bucket out of the endpoint)",
            endpoint,
            bucket,
            bucket,
        )


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _is_true(text: str | None) -> bool:
    return (text or "").lower() == "true"


def _attempts(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationError(
            f"AWS_MAX_ATTEMPTS is {text}, not a number of attempts", hint="use a whole number from 1"
        )
    return int(text)


def _when_required(text: str | None, name: str) -> bool | None:
    """Return True for ``when_required``, False for ``when_supported``, None for nothing."""
    if not text:
        return None
    if text.lower() not in ("when_supported", "when_required"):
        raise ConfigurationError(f"{name} is {text}", hint="use when_supported or when_required")
    return text.lower() == "when_required"


def _customer_key(options: StoreOptions) -> str | None:
    """Check how the encryption options go together, and read the key of SSE-C."""
    if options.sse_kms_key_id and options.encryption != "aws:kms":
        raise ConfigurationError("--sse-kms-key-id needs --encryption aws:kms")
    if options.encryption not in (None, "AES256", "aws:kms"):
        raise ConfigurationError(f"unknown encryption {options.encryption}", hint="use AES256 or aws:kms")
    if options.sse_customer_key is None:
        return None
    if options.encryption:
        raise ConfigurationError("--sse-customer-key excludes --encryption and --sse-kms-key-id")
    from barman_cloud.store.s3.customer_key import read_customer_key

    return read_customer_key(options.sse_customer_key)
