"""Where the AWS access key comes from, in the order of the AWS SDKs.

1. ``AWS_ACCESS_KEY_ID`` and the variables that belong to it, unless an option named a profile
2. the profile: role, web identity or SSO (by botocore, the optional extra ``aws``), static keys, ``credential_process``
3. web identity of the environment (``AWS_WEB_IDENTITY_TOKEN_FILE``, as in EKS)
4. container credentials (ECS, EKS pod identity)
5. the instance's role (EC2 metadata service, version 2)

Static keys cost nothing. The others are asked when the first request is made, and again before they expire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.expiring import Refreshing
from barman_cloud.store.s3.keys import AwsCredentials, from_json, usable
from barman_cloud.store.s3.profile import Profile

Source = Callable[[], AwsCredentials]

_BY_BOTOCORE = ("role_arn", "sso_session", "sso_start_url", "login_session")
"""Settings of a profile that only botocore can follow."""


def find_credentials(environ: Mapping[str, str], profile: Profile, region: str, ca_file: str | None) -> Source:
    """Return a function that gives the key to use now. It raises ``AccessDeniedError`` or ``ConfigurationError``."""
    if not profile.chosen and (key := environ.get("AWS_ACCESS_KEY_ID")):
        static = _environment_key(key, environ)
        return lambda: static
    if any(profile.get(name) for name in _BY_BOTOCORE):
        return Refreshing(lambda: _from_botocore(profile, region))
    if key := profile.get("aws_access_key_id"):
        secret = profile.get("aws_secret_access_key")
        if secret is None:
            raise ConfigurationError(f"AWS profile {profile.name} has an access key but no aws_secret_access_key")
        static = usable(key, secret, profile.get("aws_session_token"), f"the AWS profile {profile.name}")
        return lambda: static
    if command := profile.get("credential_process"):
        return Refreshing(lambda: _from_process(command))
    from barman_cloud.store.s3.metadata_service import MetadataSource

    return Refreshing(MetadataSource(environ, region, ca_file))


def origin_of(environ: Mapping[str, str], profile: Profile) -> tuple[str, bool]:
    """Return where :func:`find_credentials` looks, for people, and whether keys from there are renewed."""
    where = f"profile {profile.name} of the AWS configuration files"
    if not profile.chosen and environ.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID of the environment", False
    if any(profile.get(name) for name in _BY_BOTOCORE):
        return f"{where}: a role or a login", True
    if profile.get("aws_access_key_id"):
        return where, False
    if profile.get("credential_process"):
        return f"{where}: credential_process", True
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
        return f"web identity for {environ['AWS_ROLE_ARN']}", True
    if environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return "the container's credentials service", True
    return "the role of this instance", True


def _environment_key(key: str, environ: Mapping[str, str]) -> AwsCredentials:
    secret = environ.get("AWS_SECRET_ACCESS_KEY")
    if not secret:
        raise ConfigurationError(
            "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY isn't", hint="set both, or neither"
        )
    token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN")
    return usable(key, secret, token, "the environment")


def _from_process(command: str) -> AwsCredentials:
    """Run the ``credential_process`` of a profile (AWS SDKs Reference, "Process credential provider", version 1)."""
    import json
    import shlex
    import subprocess

    name = shlex.split(command)[0]
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=120)
        answer = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise AccessDeniedError(
            f"credential_process {name} failed ({type(error).__name__})", hint="run the command of the profile by hand"
        ) from error
    return from_json(answer, f"credential_process {name}")


def _from_botocore(profile: Profile, region: str) -> AwsCredentials:
    """Let botocore walk a chain of roles, or use a login of AWS SSO."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError as error:
        raise ConfigurationError(
            f"AWS profile {profile.name} assumes a role or uses SSO, which needs botocore",
            hint="install barman-cloud[aws]",
        ) from error
    try:
        session = Session(profile=profile.name)
        session.set_config_variable("region", region)
        credentials = session.get_credentials()
        if credentials is None:
            raise AccessDeniedError(f"AWS profile {profile.name} gave no credentials")
        frozen = credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:
        raise AccessDeniedError(f"AWS profile {profile.name}: {error}") from error
    # botocore renews its keys itself; ours only has to come back to it in time.
    expires = getattr(credentials, "_expiry_time", None) or datetime.now(UTC) + timedelta(minutes=15)
    origin = f"the AWS profile {profile.name}"
    return usable(str(frozen.access_key), str(frozen.secret_key), frozen.token, origin, expires)
