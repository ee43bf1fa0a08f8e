"""Amazon S3 and what speaks its language."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError, StoreError
from barman_cloud.store.base import Buffer, Capabilities, ObjectLock, StoreURL
from barman_cloud.store.bucket_api import Attributes, BucketApi, PartsApi
from barman_cloud.store.cloud import CloudStore
from barman_cloud.store.failures import WRONG_REGION_CODES, Failure, failure_of
from barman_cloud.store.learned import recall, remember
from barman_cloud.store.put import put_whole
from barman_cloud.store.retry import Retry
from barman_cloud.store.s3.behaviour import PROBE, Answers, Behaviour, find_out
from barman_cloud.store.s3.checksums import Checksums
from barman_cloud.store.s3.keys import AwsCredentials
from barman_cloud.store.s3.settings import REGION_NAME, S3Settings

if TYPE_CHECKING:
    from barman_cloud.store.s3.api import S3Api
    from barman_cloud.store.s3.facts import S3Facts

log = logs.get_logger(__name__)


class S3Store(CloudStore):
    """A bucket of S3 or a compatible store.

    ``credentials`` returns the access key to use now; it is called before every request of our own, and by obstore when
    the key that it holds is about to expire.
    """

    def __init__(
        self,
        url: StoreURL,
        settings: S3Settings,
        credentials: Callable[[], AwsCredentials],
        *,
        retry: Retry,
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(url, retry=retry, storage_class=settings.storage_class)
        self.capabilities = Capabilities(object_lock=True, prefix_delete=True, slash_decides=True)
        self._behaviour = Behaviour(settings.aws, settings.bucket_url, environ)
        self.etags_are_md5 = not (settings.customer_key or settings.options.sse_kms_key_id)
        self._use(self._behaviour.known)
        self._region_address = f"{settings.region}@{settings.bucket_url}"
        region = recall("region", self._region_address, environ)
        self._settings = settings.in_region(region) if region and re.fullmatch(REGION_NAME, region) else settings
        self._credentials = credentials
        self._environ = environ
        self._checksums = Checksums(settings.aws, settings.endpoint, settings.checksums_when_required)
        self._api: S3Api | None = None
        self._bulk_delete = True
        self._sign_parts = False
        """The store refuses parts whose signature says nothing of their content."""
        self._region_followed = False
        self._following = Lock()

    @property
    def provider_api(self) -> BucketApi:
        return self._s3_api

    @property
    def _s3_api(self) -> S3Api:
        if self._api is None:
            from barman_cloud.store.s3.api import S3Api

            self._api = S3Api(self._settings, self._credentials, self._environ, self.deadline)
        return self._api

    @property
    def parts_api(self) -> PartsApi:
        from barman_cloud.store.s3.parts import S3Parts

        return S3Parts(
            self._s3_api, self._settings, self._checksums, lambda: self.etags_are_md5, lambda: self._unsigned_parts
        )

    @property
    def _unsigned_parts(self) -> bool:
        """Tell whether the SHA-256 in the signature of a part would be for nothing: the store doesn't look at it."""
        return self._behaviour.ignores_content and self.etags_are_md5 and not self._sign_parts

    def _read_timeout(self) -> float:
        return self._settings.read_timeout

    # Clients ------------------------------------------------------------------------------------------------------

    def _make_client(self, client_options: dict[str, Any], retry_config: dict[str, Any], purpose: str) -> Any:
        from obstore.store import S3Store as Client

        config = self._settings.obstore_config()
        if purpose != "read":
            config |= self._checksums.obstore_config()
        if purpose == "write" and self._checksums.demanded:
            client_options.setdefault("default_headers", {}).update(self._checksums.demanded_headers())
        if self._settings.endpoint.startswith("http://"):
            client_options["allow_http"] = True
            # There is no certificate to check, and loading the system's CAs takes longer than sending a request.
            client_options["allow_invalid_certificates"] = True
        if self._settings.ca_file:
            from barman_cloud.store.trust import read_bundle

            client_options["root_certificate"] = read_bundle(self._settings.ca_file)
        provider: Any = None
        key = self._credentials()
        # obstore takes a token that isn't given from the environment, where another key's may be.
        stray = key.token is None and any(name in os.environ for name in ("AWS_SESSION_TOKEN", "AWS_TOKEN"))
        if key.expires is None and not stray:
            config |= {"access_key_id": key.access_key, "secret_access_key": key.secret_key}
            if key.token:
                config["session_token"] = key.token
        else:
            provider = self._provide
        return Client(
            self._settings.bucket,
            config=cast(Any, config),
            client_options=cast(Any, client_options),
            retry_config=cast(Any, retry_config),
            credential_provider=provider,
        )

    def _provide(self) -> dict[str, Any]:
        """Give obstore a key that expires, in its own form; it asks again shortly before the end."""
        key = self._credentials()
        return {
            "access_key_id": key.access_key,
            "secret_access_key": key.secret_key,
            "token": key.token,
            "expires_at": key.expires,
        }

    # Settings that the store corrects -----------------------------------------------------------------------------

    def _adapt(self, kind: str, failure: Failure | None) -> bool:
        if failure is None:
            return False
        uploading = kind in ("put", "multipart", "part")
        changed = (
            (uploading and self._checksums.adapt(failure))
            or self._follow_region(failure)
            or (kind == "part" and self._insists_on_signatures(failure))
        )
        if changed:
            self._clients.clear()
            self._api = None
        return changed

    def _insists_on_signatures(self, failure: Failure) -> bool:
        """Sign the content of parts from now on, if that may be why one was refused.

        Several are on their way at a time: it was, perhaps, another one's refusal that changed it.
        """
        if failure.status not in (400, 403, 501) or not (self._unsigned_parts or self._sign_parts):
            return False
        self._sign_parts = True
        return True

    def _follow_region(self, failure: Failure) -> bool:
        """Go where the bucket is, once: stores tell their region to anyone who asks in another one."""
        named = failure.region not in ("", self._settings.region)
        if not (named or failure.status == 301 or failure.code in WRONG_REGION_CODES):
            return False
        with self._following:
            region = failure.region or self._s3_api.bucket_region() or ""
            if region == self._settings.region:
                return self._region_followed  # by another thread, while this one's request was on its way
            if self._region_followed or not re.fullmatch(REGION_NAME, region):
                return False
            self._region_followed = True
            log.info("%s is in region %s", self.url.text, region)
            remember("region", self._region_address, region, self._environ)
            self._settings = self._settings.in_region(region)
            return True

    # Conditional creates -------------------------------------------------------------------------------------------

    def _put_whole(self, key: str, data: memoryview, *, if_absent: bool, attributes: Attributes) -> None:
        if if_absent:
            self._use(self._behaviour.settle(self._find_out))
        careful = if_absent and not self.capabilities.conditional_create
        put_whole(self, key, data, if_absent=if_absent, attributes=attributes, careful=careful)

    def _upload_parts(
        self, key: str, chunks: Iterable[Buffer], part_size: int, concurrency: int, attributes: Attributes
    ) -> int:
        self._use(self._behaviour.settle(self._find_out))  # how the parts are signed depends on it
        return super()._upload_parts(key, chunks, part_size, concurrency, attributes)

    def _use(self, answers: Answers) -> None:
        self.capabilities = self.capabilities._replace(conditional_create=answers.honours_conditions)
        if answers.compares_content:
            self.etags_are_md5 = False  # or not: there is no need to compare them

    def _find_out(self) -> Answers:
        key = f"{self.url.path}/{PROBE}".lstrip("/")
        return find_out(
            lambda: put_whole(self, key, memoryview(b"x"), if_absent=True, attributes=Attributes()),
            lambda: self.attempt("put", key, lambda: self._s3_api.refuses_forged(key)),
            lambda: self.attempt("delete", key, lambda: self._s3_api.delete_one(key)),
        )

    # Reading with a checksum ---------------------------------------------------------------------------------------

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        if not self._settings.validate_responses:
            return super().get_buffer(key, limit=limit)
        if limit is not None:
            self.refuse_larger(key, self.head(key).size, limit)
        return self._checked(key, lambda: (memoryview(self._s3_api.get_validated(key)), None))

    # Deleting and locks -------------------------------------------------------------------------------------------

    def _delete_batch(self, keys: list[str]) -> dict[str, str]:
        if self._bulk_delete:
            try:
                return self.attempt("delete", None, lambda: self._s3_api.delete(keys))
            except StoreError as error:
                failure = failure_of(error.__cause__) if error.__cause__ else None
                if failure is None or not _refuses_bulk_delete(failure):
                    raise
                log.warning(
                    "%s takes no bulk deletion (%s): deleting object by object", self.url.text, failure.describe()
                )
                self._bulk_delete = False
        return self._delete_singly(keys)

    def object_lock(self, key: str) -> ObjectLock | None:
        return self.attempt("lock", key, lambda: self._s3_api.object_lock(key))

    def facts(self) -> S3Facts:
        from barman_cloud.store.s3.facts import S3Facts

        return S3Facts(
            self._settings,
            self.url.path,
            self._region_address.partition("@")[0],
            self._credentials,
            self._environ,
            lambda: self._s3_api,
            lambda action: self.attempt("facts", None, action),
        )

    def create_bucket(self) -> None:
        if self._settings.bucket.startswith("arn:"):
            raise ConfigurationError(
                f"{self.url.text}: an access point can't be created here", hint="create it with the tools of AWS"
            )
        super().create_bucket()


def _refuses_bulk_delete(failure: Failure) -> bool:
    """Tell whether the batch was refused as a kind of request, not for what it asks.

    Older stores insist on Content-MD5 in a form that S3 itself gave up; some know no DeleteObjects at all; one answers
    with an empty message.
    """
    text = failure.message.lower()
    return (
        failure.code in ("MissingContentMD5", "NotImplemented", "MethodNotAllowed") or "content-md5" in text or not text
    )
