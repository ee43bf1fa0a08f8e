"""Bearer tokens of Microsoft Entra ID for Azure Storage: ``--azure-credential`` and the default of the surroundings.

The flows that servers use are single requests, made here; importing azure-identity takes longer than all of them. It is
still asked (optional extra ``azure``) for what the environment configures beyond them, such as certificates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.azure.keys import AzureCredentials, AzureSource
from barman_cloud.store.environment import clean_secret, clean_url
from barman_cloud.store.failures import TransientError
from barman_cloud.store.token_request import ask

RESOURCE = "https://storage.azure.com/"
_INSTANCE = "http://169.254.169.254"
_LOGIN = "https://login.microsoftonline.com"


def find_identity(kind: str, environ: Mapping[str, str], ca_file: str | None) -> AzureSource:
    """Return a function that fetches a token: ``azure-cli``, ``managed-identity`` or ``default``."""
    if kind not in ("azure-cli", "managed-identity", "default"):
        raise ConfigurationError(f"unknown Azure credential {kind}", hint="use azure-cli, managed-identity or default")
    identity = _Identity(environ, ca_file)
    return {"azure-cli": _from_cli, "managed-identity": identity.managed, "default": identity.default}[kind]


class _Identity:
    def __init__(self, environ: Mapping[str, str], ca_file: str | None) -> None:
        self._environ = environ
        self._ca_file = ca_file

    def default(self) -> AzureCredentials:
        """Try what the environment configures, then the managed identity of the host, then the Azure CLI."""
        environ = self._environ
        if environ.get("AZURE_TENANT_ID") and environ.get("AZURE_CLIENT_ID"):
            if environ.get("AZURE_CLIENT_SECRET"):
                return self._login({"client_secret": environ["AZURE_CLIENT_SECRET"]})
            if environ.get("AZURE_CLIENT_CERTIFICATE_PATH"):
                return _from_azure_identity()
            if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
                return self._workload()
        failures = []
        chain: tuple[Callable[[], AzureCredentials], ...] = (self.managed, _from_cli)
        for source in chain:
            try:
                return source()
            except (AccessDeniedError, TransientError) as error:
                failures.append(str(error))
        raise AccessDeniedError(
            f"no Azure credentials found ({'; '.join(failures)})",
            hint="set AZURE_STORAGE_CONNECTION_STRING, _SAS_TOKEN or _KEY, or give the host an identity",
        )

    def _workload(self) -> AzureCredentials:
        """Exchange the token of a Kubernetes service account (Entra, "workload identity federation")."""
        path = self._environ["AZURE_FEDERATED_TOKEN_FILE"]
        try:
            assertion = Path(path).read_text("utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{path}: can't read the token ({error.strerror})") from error
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return self._login({"client_assertion_type": kind, "client_assertion": assertion})

    def _login(self, proof: Mapping[str, str]) -> AzureCredentials:
        """Ask Entra for a token by the client credentials flow of OAuth 2.0."""
        form = {
            "client_id": self._environ["AZURE_CLIENT_ID"],
            "grant_type": "client_credentials",
            "scope": f"{RESOURCE}.default",
            **proof,
        }
        host = clean_url(self._environ.get("AZURE_AUTHORITY_HOST") or _LOGIN, "AZURE_AUTHORITY_HOST")
        url = f"{host}/{self._environ['AZURE_TENANT_ID']}/oauth2/v2.0/token"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._ask("POST", url, headers, urlencode(form).encode(), what="Microsoft Entra ID", timeout=30)

    def managed(self) -> AzureCredentials:
        """Ask the host for a token of its managed identity: App Service if it says so, the instance otherwise."""
        query = {"resource": RESOURCE}
        if client := self._environ.get("AZURE_CLIENT_ID"):
            query["client_id"] = client
        endpoint = self._environ.get("IDENTITY_ENDPOINT")
        if endpoint and (secret := self._environ.get("IDENTITY_HEADER")):
            url = f"{clean_url(endpoint, 'IDENTITY_ENDPOINT')}?{urlencode({**query, 'api-version': '2019-08-01'})}"
            return self._ask("GET", url, {"x-identity-header": secret}, what="managed identity", timeout=10)
        variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
        host = clean_url(self._environ.get(variable) or _INSTANCE, variable)
        url = f"{host}/metadata/identity/oauth2/token?{urlencode({**query, 'api-version': '2018-02-01'})}"
        return self._ask("GET", url, {"metadata": "true"}, what="managed identity", timeout=2)

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"", *, what: str, timeout: float
    ) -> AzureCredentials:
        answer = ask(
            method,
            url,
            headers,
            body,
            what=what,
            hint="check client and tenant id",
            timeout=timeout,
            budget=30,
            attempts=2,
            ca_file=self._ca_file,
            environ={} if url.startswith("http://") else self._environ,
            transient=(404, 410, 429),
        )
        return _from_json(answer.body, what)


def _from_json(body: bytes, what: str) -> AzureCredentials:
    """Read a token answer; its lifetime is ``expires_in`` seconds or ``expires_on``, either as text or number."""
    try:
        answer = json.loads(body)
        if "expires_on" in answer:
            expires = datetime.fromtimestamp(int(answer["expires_on"]), UTC)
        else:
            expires = datetime.now(UTC) + timedelta(seconds=int(answer.get("expires_in", 3600)))
        token = clean_secret(answer.get("access_token") or answer["accessToken"], f"the token of {what}")
        return AzureCredentials(token=token, expires=expires)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise AccessDeniedError(f"{what} gave no usable token") from error


def _from_cli() -> AzureCredentials:
    """Ask the Azure command line for a token of whoever is logged in there."""
    import subprocess

    command = ["az", "account", "get-access-token", "--resource", RESOURCE, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except FileNotFoundError as error:
        raise AccessDeniedError("Azure CLI: the command az isn't installed") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise AccessDeniedError("Azure CLI: az gave no token", hint="run 'az login'") from error
    return _from_json(done.stdout, "Azure CLI")


def _from_azure_identity() -> AzureCredentials:
    try:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise ConfigurationError(
            "a client certificate needs azure-identity", hint="install barman-cloud[azure]"
        ) from error
    try:
        token = DefaultAzureCredential().get_token(f"{RESOURCE}.default")
    except ClientAuthenticationError as error:
        raise AccessDeniedError(f"Azure: {str(error).splitlines()[0]}") from error
    return AzureCredentials(token=token.token, expires=datetime.fromtimestamp(token.expires_on, UTC))
