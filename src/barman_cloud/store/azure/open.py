"""Options and environment become the settings of one Azure container.

The first of these that is present wins: ``--azure-credential``, ``AZURE_STORAGE_CONNECTION_STRING``,
``AZURE_STORAGE_SAS_TOKEN``, ``AZURE_STORAGE_KEY``, and last the default credential of the surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.azure.keys import AzureCredentials, AzureSource, derive_sas
from barman_cloud.store.azure.settings import AzureSettings
from barman_cloud.store.azure.store import AzureStore
from barman_cloud.store.base import StoreURL
from barman_cloud.store.environment import clean_secret, clean_url
from barman_cloud.store.expiring import Refreshing
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.retry import Retry
from barman_cloud.store.storage_class import checked_class

EMULATOR_ACCOUNT = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The public key of every emulator (Azurite documentation, "Default storage account")."""


def open_azure(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> AzureStore:
    """Return the store; no request is made."""
    settings = AzureSettings(
        container=url.bucket,
        account=url.account or "",
        endpoint=clean_url(url.endpoint or "", "the address in the URL"),
        encryption_scope=options.encryption_scope,
        ca_file=environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None,
        block_size=options.max_block_size,
        single_put_limit=options.max_single_put_size,
        concurrency=options.max_concurrency or 4,
        access_tier=checked_class(options.storage_class, "Azure", ("Hot", "Cool", "Cold"), ("Archive",)),
    )
    settings, source = _authorize(settings, options, environ)
    return AzureStore(url, settings, source, retry=Retry(options.retry_until()), environ=environ)


def _authorize(
    settings: AzureSettings, options: StoreOptions, environ: Mapping[str, str]
) -> tuple[AzureSettings, AzureSource]:
    if options.azure_credential is None:
        if connection := environ.get("AZURE_STORAGE_CONNECTION_STRING"):
            return _from_connection_string(settings, connection)
        if sas := environ.get("AZURE_STORAGE_SAS_TOKEN"):
            return replace(settings, origin="AZURE_STORAGE_SAS_TOKEN of the environment"), _static_sas(sas)
        if key := environ.get("AZURE_STORAGE_KEY"):
            settings = replace(settings, origin="AZURE_STORAGE_KEY of the environment", renewed=True)
            return settings, _from_key(
                environ.get("AZURE_STORAGE_ACCOUNT") or settings.account, settings.container, key
            )
        if settings.emulator:
            raise ConfigurationError(
                f"{settings.endpoint} is an emulator, and there are no credentials for it",
                hint="set AZURE_STORAGE_CONNECTION_STRING",
            )
    from barman_cloud.store.azure.identity import find_identity

    kind = options.azure_credential or "default"
    settings = replace(settings, origin=f"Microsoft Entra ID ({kind})", renewed=True)
    return settings, Refreshing(find_identity(kind, environ, settings.ca_file))


def _from_connection_string(settings: AzureSettings, text: str) -> tuple[AzureSettings, AzureSource]:
    """Read a connection string (Azure Storage documentation, "Configure Azure Storage connection strings").

    Its endpoint wins over the one of the URL, which names account and container all the same.
    """
    fields: dict[str, str] = {}
    for part in text.split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            fields[name.strip().lower()] = value.strip()
        elif name:
            raise _bad_connection_string()
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        fields.setdefault("accountname", EMULATOR_ACCOUNT)
        fields.setdefault("accountkey", EMULATOR_KEY)
        fields.setdefault("blobendpoint", f"http://127.0.0.1:10000/{EMULATOR_ACCOUNT}")
    account = fields.get("accountname") or settings.account
    endpoint = fields.get("blobendpoint", "").rstrip("/")
    if not endpoint and "accountname" in fields:
        protocol = fields.get("defaultendpointsprotocol") or "https"
        endpoint = f"{protocol}://{account}.blob.{fields.get('endpointsuffix') or 'core.windows.net'}"
    if endpoint:
        endpoint = clean_url(endpoint, "the endpoint in AZURE_STORAGE_CONNECTION_STRING")
    origin = "AZURE_STORAGE_CONNECTION_STRING of the environment"
    settings = replace(settings, account=account, endpoint=endpoint or settings.endpoint, origin=origin)
    if sas := fields.get("sharedaccesssignature"):
        return settings, _static_sas(sas)
    if key := fields.get("accountkey"):
        return replace(settings, renewed=True), _from_key(account, settings.container, key)
    raise _bad_connection_string()


def _bad_connection_string() -> ConfigurationError:
    return ConfigurationError(
        "AZURE_STORAGE_CONNECTION_STRING can't be used",
        hint="it needs AccountName with AccountKey, or BlobEndpoint with SharedAccessSignature",
    )


def _static_sas(text: str) -> AzureSource:
    sas = clean_secret(text, "the shared access signature").lstrip("?")
    if " " in sas:
        raise ConfigurationError("the shared access signature has a blank in it", hint="copy it anew")
    credentials = AzureCredentials(sas=sas)
    return lambda: credentials


def _from_key(account: str, container: str, key: str) -> AzureSource:
    derive_sas(account, container, key)
    return Refreshing(lambda: derive_sas(account, container, key))
