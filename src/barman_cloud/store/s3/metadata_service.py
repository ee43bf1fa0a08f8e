"""AWS credentials that the surroundings give: web identity, container, instance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from barman_cloud.deadline import Deadline
from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.failures import RequestFailedError, TransientError
from barman_cloud.store.http import HttpClient, Response
from barman_cloud.store.retry import Retry
from barman_cloud.store.s3.identity import from_json
from barman_cloud.store.s3.keys import AwsCredentials

_INSTANCE = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_ROLES = "/latest/meta-data/iam/security-credentials/"


class MetadataSource:
    """Calls the first of the three that the environment points to; the instance's role comes last."""

    def __init__(self, environ: Mapping[str, str], region: str, ca_file: str | None) -> None:
        self._environ = environ
        self._region = region
        self._ca_file = ca_file

    def __call__(self) -> AwsCredentials:
        if self._environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and self._environ.get("AWS_ROLE_ARN"):
            return self._web_identity()
        if self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or self._environ.get(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        ):
            return self._container()
        if self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise _nothing_found()
        return self._instance()

    def _web_identity(self) -> AwsCredentials:
        """Exchange the token for a key (STS API: AssumeRoleWithWebIdentity)."""
        query = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._environ["AWS_ROLE_ARN"],
            "RoleSessionName": self._environ.get("AWS_ROLE_SESSION_NAME") or "barman-cloud",
            "WebIdentityToken": _read_token(self._environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
        }
        endpoint = self._environ.get("AWS_ENDPOINT_URL_STS") or self._environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            endpoint = f"https://sts.{self._region}.amazonaws.com{'.cn' if self._region.startswith('cn-') else ''}"
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = self._ask(endpoint, "POST", "/", form, urlencode(query).encode(), what="web identity", timeout=30)
        text = answer.body.decode("utf-8", "replace")
        found = {name: re.search(f"<{name}>([^<]*)</{name}>", text) for name in _STS_NAMES}
        return from_json({name: match[1] for name, match in found.items() if match}, "the security token service")

    def _container(self) -> AwsCredentials:
        relative = self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = f"{_CONTAINER}{relative}" if relative else self._environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        token_file = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = _read_token(token_file) if token_file else self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        parts = urlsplit(url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"authorization": token} if token else {}
        answer = self._ask(url, "GET", target, headers, what="container credentials", timeout=5)
        return from_json(_json(answer), "the container's credentials service")

    def _instance(self) -> AwsCredentials:
        """Ask the metadata service, version 2 only: token first (EC2 User Guide, "Retrieve instance metadata")."""
        base = self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE
        timeout = float(self._environ.get("AWS_METADATA_SERVICE_TIMEOUT") or 1)
        attempts = int(self._environ.get("AWS_METADATA_SERVICE_NUM_ATTEMPTS") or 1)
        lifetime = {"x-aws-ec2-metadata-token-ttl-seconds": "21600"}
        try:
            token = self._ask(
                base, "PUT", "/latest/api/token", lifetime, what="instance metadata", timeout=timeout, attempts=attempts
            )
        except TransientError as error:
            raise _nothing_found() from error
        headers = {"x-aws-ec2-metadata-token": token.body.decode()}
        role = (
            self._ask(base, "GET", _ROLES, headers, what="the instance's role", timeout=5).body.decode().split("\n")[0]
        )
        answer = self._ask(base, "GET", _ROLES + role, headers, what="the instance's key", timeout=5)
        return from_json(_json(answer), "the instance metadata service")

    def _ask(
        self,
        url: str,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        what: str,
        timeout: float,
        attempts: int = 3,
    ) -> Response:
        direct = url.startswith("http://")
        client = HttpClient(
            url,
            ca_file=self._ca_file,
            timeout=timeout,
            connect_timeout=timeout,
            environ={} if direct else self._environ,
        )

        def once() -> Response:
            try:
                answer = client.request(method, target, headers, body)
            except RequestFailedError as error:
                raise TransientError(f"{what}: no answer ({error})") from error
            if answer.status >= 500 or answer.status == 429:
                raise TransientError(f"{what}: answered {answer.status}")
            if answer.status != 200:
                raise AccessDeniedError(
                    f"{what}: refused with status {answer.status}", hint="check the role and its trust"
                )
            return answer

        try:
            return Retry(Deadline(60), attempts).call(once)
        finally:
            client.close()


_STS_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


def _nothing_found() -> AccessDeniedError:
    return AccessDeniedError(
        "no AWS credentials found",
        hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or give the host a role",
    )


def _json(answer: Response) -> Mapping[str, object]:
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: can't read the token ({error.strerror})") from error
