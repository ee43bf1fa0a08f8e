"""AWS credentials that the surroundings give: web identity, container, instance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.environment import clean_secret, clean_url
from barman_cloud.store.failures import RequestFailedError, TransientError
from barman_cloud.store.http import Response
from barman_cloud.store.s3.keys import AwsCredentials, from_json
from barman_cloud.store.token_request import ask
from barman_cloud.store.xml import parse

_INSTANCE = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_CONTAINER_HOSTS = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost")
"""Where ECS and EKS answer."""
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
            raise _nothing_found("nothing is configured, and AWS_EC2_METADATA_DISABLED is set")
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
        if endpoint:
            endpoint = clean_url(endpoint, "AWS_ENDPOINT_URL_STS or AWS_ENDPOINT_URL")
        else:
            endpoint = f"https://sts.{self._region}.amazonaws.com{'.cn' if self._region.startswith('cn-') else ''}"
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = self._ask(endpoint, "POST", "/", form, urlencode(query).encode(), what="web identity", timeout=30)
        try:
            found = parse(answer.body, "AssumeRoleWithWebIdentityResponse", "a key of the security token service")
        except RequestFailedError as error:
            raise AccessDeniedError(f"web identity: {error}", hint=f"check the endpoint {endpoint}") from error
        key = found.first("AssumeRoleWithWebIdentityResult", "Credentials")
        return from_json(key.fields() if key is not None else {}, "the security token service")

    def _container(self) -> AwsCredentials:
        relative = self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        if relative and not relative.startswith("/"):
            raise ConfigurationError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI isn't a path", hint="begin with a slash")
        url = f"{_CONTAINER}{relative}" if relative else self._environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        url = clean_url(url, "AWS_CONTAINER_CREDENTIALS_FULL_URI", query=True)
        _check_host(url)
        token_file = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = _read_token(token_file) if token_file else self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        headers = {"authorization": clean_secret(token, "the container's authorization token")} if token else {}
        answer = self._ask(url, "GET", "", headers, what="container credentials", timeout=5)
        return from_json(_json(answer), "the container's credentials service")

    def _instance(self) -> AwsCredentials:
        """Ask the metadata service, version 2 only: token first (EC2 User Guide, "Retrieve instance metadata")."""
        variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
        base = clean_url(self._environ.get(variable) or _INSTANCE, variable)
        timeout = self._number("AWS_METADATA_SERVICE_TIMEOUT")
        attempts = max(1, int(self._number("AWS_METADATA_SERVICE_NUM_ATTEMPTS")))
        lifetime = {"x-aws-ec2-metadata-token-ttl-seconds": "21600"}
        what = "instance metadata"
        try:
            answer = self._ask(
                base, "PUT", "/latest/api/token", lifetime, what=what, timeout=timeout, attempts=attempts
            )
        except TransientError as error:
            raise _nothing_found(f"nothing is configured, and {error}") from error
        headers = {"x-aws-ec2-metadata-token": _text(answer, what)}
        role = _text(self._ask(base, "GET", _ROLES, headers, what="the instance's role", timeout=5), what)
        path = _ROLES + quote(role.split("\n")[0].strip())
        answer = self._ask(base, "GET", path, headers, what="the instance's key", timeout=5)
        return from_json(_json(answer), "the instance metadata service")

    def _number(self, variable: str) -> float:
        """Return the value of a variable that is 1 by default, and above 0."""
        text = self._environ.get(variable) or "1"
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", text) or not float(text):
            raise ConfigurationError(f"{variable} isn't a number above 0", hint="leave it out, or set it to a number")
        return float(text)

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
        return ask(
            method,
            f"{url}{target}",
            headers,
            body,
            what=what,
            hint="check the role and its trust",
            timeout=timeout,
            budget=60,
            attempts=attempts,
            ca_file=self._ca_file,
            environ={} if url.startswith("http://") else self._environ,
        )


def _check_host(url: str) -> None:
    """Refuse to ask any host for keys without TLS, as the SDKs do: the answer would be anybody's, and so the token that
    goes with the question (AWS SDKs Reference, "Container credential provider").
    """
    from ipaddress import ip_address

    host = urlsplit(url).hostname or ""
    if url.lower().startswith("https://") or host in _CONTAINER_HOSTS:
        return
    try:
        if ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise ConfigurationError(
        f"AWS_CONTAINER_CREDENTIALS_FULL_URI names the host {host}, which isn't asked for keys without TLS",
        hint="use https://, a loopback address, or one of " + ", ".join(_CONTAINER_HOSTS),
    )


def _nothing_found(reason: str) -> AccessDeniedError:
    return AccessDeniedError(
        f"no AWS credentials found: {reason}",
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
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: isn't a file with a token in it") from None


def _text(answer: Response, what: str) -> str:
    """Return an answer that is a word: a token, or the name of a role."""
    try:
        return clean_secret(answer.body.decode("ascii").strip().partition("\n")[0], f"the answer of the {what}")
    except UnicodeDecodeError:
        raise AccessDeniedError(f"{what}: the answer is no text") from None
