"""Where the bearer token for Google Cloud Storage comes from (Google's "application default credentials").

1. the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names
2. the file that ``gcloud auth application-default login`` writes
3. the metadata server of the instance or of GKE

Service account keys and user logins are handled here; federation and impersonation by google-auth (optional extra
``google``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.environment import clean_secret, clean_url
from barman_cloud.store.failures import TransientError
from barman_cloud.store.google.keys import SCOPE, GoogleCredentials, GoogleSource, self_signed_token
from barman_cloud.store.http import Response
from barman_cloud.store.token_request import ask

_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105


def find_identity(environ: Mapping[str, str]) -> tuple[GoogleSource, str | None]:
    """Return a function that gives a token, and the project of a service account key if there is one.

    Files are read now, requests are made by the function. Raises ``ConfigurationError`` for a file that can't be used.
    """
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS") or None
    path = Path(named) if named else _gcloud_file(environ)
    if named is None and not os.path.isfile(path):  # HOME may be that of another user, as in containers
        return lambda: _from_metadata_server(environ), None
    content = _read(path)
    kind = content.get("type")
    if kind == "service_account":
        try:
            self_signed_token(content)
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: isn't a usable service account key", hint="create a new key") from error
        return lambda: self_signed_token(content), content.get("project_id")
    if kind == "authorized_user":
        return lambda: _from_login(content, environ, path), content.get("quota_project_id")
    return lambda: _from_google_auth(path), None


def origin_of(environ: Mapping[str, str]) -> str:
    """Return where :func:`find_identity` finds credentials, for people."""
    if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return f"the file {named} (GOOGLE_APPLICATION_CREDENTIALS)"
    path = _gcloud_file(environ)
    return f"the file {path}" if os.path.isfile(path) else "the metadata server of this machine"


def _gcloud_file(environ: Mapping[str, str]) -> Path:
    base = environ.get("CLOUDSDK_CONFIG") or f"{environ.get('HOME', '')}/.config/gcloud"
    return Path(base) / "application_default_credentials.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't read the credentials ({error.strerror})", hint="check GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path}: isn't a JSON file of credentials", hint="check GOOGLE_APPLICATION_CREDENTIALS"
        )
    return content


def _from_login(content: Mapping[str, Any], environ: Mapping[str, str], path: Path) -> GoogleCredentials:
    """Refresh the token of a user's login (OAuth 2.0, section 6)."""
    try:
        form = {
            "grant_type": "refresh_token",
            "client_id": content["client_id"],
            "client_secret": content["client_secret"],
            "refresh_token": content["refresh_token"],
        }
    except KeyError as error:
        raise ConfigurationError(f"{path}: has no {error.args[0]}", hint="log in again with gcloud") from error
    url = clean_url(str(content.get("token_uri") or _TOKEN_URL), f"token_uri in {path}")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return _token(_ask("POST", url, headers, urlencode(form).encode(), environ, what="Google's login", timeout=30))


def _from_metadata_server(environ: Mapping[str, str]) -> GoogleCredentials:
    host = environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    url = (
        f"{clean_url(f'http://{host}', 'GCE_METADATA_HOST')}/computeMetadata/v1/instance/service-accounts/default/token"
    )
    try:
        answer = _ask("GET", url, {"metadata-flavor": "Google"}, b"", {}, what="the metadata server", timeout=3)
    except TransientError as error:
        raise AccessDeniedError(
            f"no Google Cloud credentials found: there is no file of them, and {error}",
            hint="set GOOGLE_APPLICATION_CREDENTIALS, or give the host a service account",
        ) from error
    return _token(answer)


def _ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    environ: Mapping[str, str],
    *,
    what: str,
    timeout: float,
) -> Response:
    return ask(
        method,
        url,
        headers,
        body,
        what=what,
        hint="check the account, or log in again",
        timeout=timeout,
        budget=30,
        attempts=3,
        ca_file=environ.get("REQUESTS_CA_BUNDLE") or None,
        environ=environ,
    )


def _token(answer: Response) -> GoogleCredentials:
    try:
        content = json.loads(answer.body)
        lifetime = timedelta(seconds=int(content.get("expires_in", 3600)))
        token = clean_secret(content["access_token"], "the token of Google")
        return GoogleCredentials(token, datetime.now(UTC) + lifetime)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise AccessDeniedError("Google gave no usable token") from error


def _from_google_auth(path: Path) -> GoogleCredentials:
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: this kind of credentials needs google-auth", hint="install barman-cloud[google]"
        ) from error
    try:
        credentials, _ = google.auth.load_credentials_from_file(str(path), scopes=[SCOPE])  # type: ignore[no-untyped-call]
        credentials.refresh(google.auth.transport.requests.Request())
    except google.auth.exceptions.GoogleAuthError as error:
        raise AccessDeniedError(f"{path}: {str(error).splitlines()[0]}") from error
    expires = credentials.expiry.replace(tzinfo=UTC) if credentials.expiry else None
    return GoogleCredentials(credentials.token, expires)
