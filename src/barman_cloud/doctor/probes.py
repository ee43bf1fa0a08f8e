"""What the credentials may do, tried with small objects below a scratch key of the server; they are deleted again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from barman_cloud.catalog.layout import Layout
from barman_cloud.doctor.rights import missing
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    BucketNotFoundError,
    ConnectivityError,
    OperationError,
)
from barman_cloud.store.base import DeleteFailedError, ObjectStore
from barman_cloud.verify.findings import Finding, critical, ok, warning

SCRATCH = "doctor/"
"""Below the server's maintenance folder, where Barman never looks."""
_PART = 5 << 20
_CONTENT = b"barman-cloud doctor was here; this object can be deleted\n"


class Unreachable(Exception):
    """There is no point in going on; ``finding`` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Probes:
    """Tries one request after another. As a context it removes its objects, whatever happens."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self._store = store
        self._layout = layout
        self._folder = f"{layout.maintenance_dir}{SCRATCH}"
        self.key = f"{self._folder}{os.urandom(6).hex()}"
        self._left: set[str] = set()
        self._may_delete = True
        self.is_stored = False
        """There is an object at ``key``."""

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_error: object) -> None:
        self.clean()

    def run(self) -> Iterator[Finding]:
        """Yield a finding for each right; ``Unreachable`` if the bucket isn't there, or can't be reached any more."""
        yield self._try("bucket", "list", self._store.check, "the bucket is there")
        yield self._try("list", "list", self._list, "objects can be listed")
        # First, because it decides what may be left behind: of nothing that is there.
        deletion = self._try("delete", "delete", lambda: self._delete([f"{self.key}-none"]), "objects can be deleted")
        self._may_delete = not deletion.problem
        if not self._may_delete:
            self.key = f"{self._folder}probe"  # one for all runs, as it stays
        writing = self._try("write", "write", lambda: self._put(self.key), "objects can be written")
        yield writing
        if writing.problem:
            yield self._softened(deletion)
            return
        self.is_stored = True
        yield self._try("read", "read", lambda: self._store.get(self.key, limit=1 << 20), "objects can be read")
        if self._may_delete:
            yield from self._conditional()
        yield self._try("multipart", "multipart", self._upload, "uploads in parts work, and can be aborted")
        yield self._softened(deletion)

    def clean(self) -> Finding | None:
        """Delete what was written; return a finding if that didn't work."""
        keys, self._left = sorted(self._left), set()
        if not keys or not self._may_delete:
            return None
        try:
            self._store.delete(keys)
        except BarmanCloudError as error:
            return warning(
                "clean-up",
                f"an object of this run stays: {error}",
                "delete what is below it: " + self._store.object_url(self._folder),
                *keys,
            )
        return None

    # Steps --------------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        next(self._store.list(self._layout.root), None)

    def _put(self, key: str) -> None:
        self._left.add(key)
        self._store.put(key, _CONTENT)

    def _delete(self, keys: list[str]) -> None:
        self._store.delete(keys)

    def _conditional(self) -> Iterator[Finding]:
        key = f"{self.key}-once"
        self._left.add(key)
        try:
            once = self._store.creates_once(key)
        except BarmanCloudError as error:
            yield self._judged("conditional-create", "write", error)
            return
        if once:
            yield ok("conditional-create", "an object is created once, whoever tries at the same time")
        else:
            yield warning(
                "conditional-create",
                "the store ignores If-None-Match: two servers that archive the same WAL file at the same time could "
                "overwrite each other's",
                "let one server only archive to a server name; what else follows is in docs/reference/stores.md",
            )

    def _upload(self) -> None:
        """Abort an upload; make an object of two parts as well, if it can be deleted."""
        self._store.try_upload(f"{self.key}-parts")
        if self._may_delete:
            self._left.add(f"{self.key}-parts")
            self._store.put_stream(f"{self.key}-parts", iter([bytes(_PART), b"x"]), part_size=_PART)

    # Judgements ---------------------------------------------------------------------------------------------------

    def _try(self, subject: str, right: str, action: Callable[[], object], success: str) -> Finding:
        try:
            action()
        except BarmanCloudError as error:
            return self._judged(subject, right, error)
        return ok(subject, success)

    def _judged(self, subject: str, right: str, error: BarmanCloudError) -> Finding:
        if isinstance(error, BucketNotFoundError | ConnectivityError):
            raise Unreachable(critical(subject, str(error), error.hint or "check the URL and the network"))
        if isinstance(error, AccessDeniedError) and not _is_about_credentials(error):
            hint = missing(right, self._store.url, self._layout.server)
        elif isinstance(error, DeleteFailedError):
            hint = missing("delete", self._store.url, self._layout.server)
        elif isinstance(error, OperationError):
            hint = error.hint or "see what the store says"
        else:
            hint = error.hint or "see docs/reference/stores.md for what the store has to do"
        return critical(subject, str(error), hint)

    def _softened(self, deletion: Finding) -> Finding:
        """A key that may not delete is good for a server that archives, so this is no failure."""
        if not deletion.problem:
            return deletion
        left = f"; {self._store.object_url(self.key)} stays" if self.is_stored else ""
        return warning(
            "delete",
            f"{deletion.message}: backup-delete and wal-receive need that, backup and wal-archive don't{left}",
            deletion.hint or "",
            *([self.key] if self.is_stored else []),
        )


def _is_about_credentials(error: AccessDeniedError) -> bool:
    """Whether the store refuses who asks, not what is asked: wrong, expired, of another region, or by a wrong clock."""
    text = str(error)
    return any(part in text for part in ("credentials", "another region", "the clock of", "the proxy"))
