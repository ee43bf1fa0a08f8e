"""Keep annotations: a backup that is kept is never deleted, neither by a policy nor by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from barman_cloud import logs
from barman_cloud.catalog.backup_info import ANNOUNCED, DONE, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import (
    AccessDeniedError,
    NotFoundError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    OperationError,
    SelectionError,
    StoreError,
)

log = logs.get_logger(__name__)

FULL = "full"
"""Kept with all WAL since."""
STANDALONE = "standalone"
"""Kept with only the WAL that makes it consistent."""

MAX_SIZE = 64 << 10
"""Bytes of an annotation that is read."""

Keeps = Mapping[str, str]
"""Backup id to content of its annotation. Any content keeps the backup; all but exactly ``standalone`` mean full."""

DECIDED_WITHIN = 5.0
"""Seconds that ``backup-keep`` waits for a deletion at work, which is a few requests from beginning or giving up."""
_PAUSE = 0.25

_ANNOTATION = "/annotations/keep"

# Some stores refuse keys with a double slash, and permissions for just one server's keys don't cover them; then Barman
# can't have written one either.
_CANT_BE_THERE = (AccessDeniedError, StoreError)


def read(catalog: Catalog, backup_id: str) -> str | None:
    """Return the content of a backup's annotation, or None if it isn't kept. The backup itself isn't looked at."""
    annotation = _read(catalog, catalog.layout.keep(backup_id))
    return _read_twin(catalog, backup_id) if annotation is None else annotation


def read_all(catalog: Catalog) -> dict[str, str]:
    """Return the annotations of all backups that are kept."""
    root = catalog.layout.base_dir
    ids = {_id_of(item.key, root) for item in catalog.store.list(root) if item.key.endswith(_ANNOTATION)}
    ids |= _kept_through_a_double_slash(catalog)
    found = sorted(ids)
    texts = catalog.map(lambda backup_id: read(catalog, backup_id), found)
    return {backup_id: text for backup_id, text in zip(found, texts, strict=True) if text is not None}


def keep(catalog: Catalog, backup_id: str, target: str) -> None:
    """Keep a DONE backup as ``full`` or ``standalone``, whatever its annotation was.

    ``OperationError`` (1) if it isn't DONE, ``SelectionError`` (4) if it isn't there.
    """
    if parent := _require_done(catalog, backup_id).parent_backup_id:
        raise OperationError(
            f"backup {backup_id} can't be kept: it is incremental, and of no use without {parent}",
            hint="keep the full backup of its chain, which keeps all that build on it",
        )
    catalog.store.put(catalog.layout.keep(backup_id), target.encode("ascii"))
    # A deletion marks the backup, then looks for an annotation: one of the two sees the other.
    _wait_while_announced(catalog, backup_id)
    _require_done(catalog, backup_id)


def release(catalog: Catalog, backup_id: str) -> None:
    """Remove the annotation; one that isn't there is no error."""
    catalog.store.delete([catalog.layout.keep(backup_id)])
    if (twin := _double_slash(catalog, backup_id)) and _read_twin(catalog, backup_id) is not None:
        catalog.store.delete([twin])


def label(annotation: str) -> str:
    """Return the first line of an annotation, for people."""
    return annotation.splitlines()[0] if annotation else ""


def _wait_while_announced(catalog: Catalog, backup_id: str) -> None:
    """Wait until a deletion that was announced has decided; it takes its mark back if it has seen the annotation.

    Then there is a pause: a second deletion may have looked before the annotation was there, and is about to begin.
    """
    end = time.monotonic() + DECIDED_WITHIN
    waited = False
    with suppress(NotFoundError):
        while time.monotonic() < end and catalog.load_one(backup_id).deletion == ANNOUNCED:
            waited = True
            time.sleep(_PAUSE)
    if waited:
        time.sleep(_PAUSE)


def _require_done(catalog: Catalog, backup_id: str) -> BackupInfo:
    try:
        info = catalog.load_one(backup_id)
    except NotFoundError as error:
        raise SelectionError(str(error), hint=error.hint) from error
    if info.deletion:
        raise OperationError(
            f"backup {backup_id} can't be kept: it is being deleted",
            hint="repeat the command when that deletion has ended, or has failed; backup-list shows what is left",
        )
    if info.status != DONE:
        raise OperationError(f"backup {backup_id} can't be kept: it is {info.status}, not DONE")
    return info


def _double_slash(catalog: Catalog, backup_id: str) -> str | None:
    if not catalog.store.capabilities.slash_decides:
        return None
    return catalog.layout.keep_with_double_slash(backup_id)


def _kept_through_a_double_slash(catalog: Catalog) -> set[str]:
    twin = _double_slash(catalog, "")
    if twin is None:
        return set()
    root = twin.removesuffix(_ANNOTATION)
    try:
        return {_id_of(item.key, root) for item in catalog.store.list(root) if item.key.endswith(_ANNOTATION)}
    except _CANT_BE_THERE as error:
        log.debug("annotations with a double slash in their keys are not looked for: %s", error)
        return set()


def _read(catalog: Catalog, key: str) -> str | None:
    try:
        return catalog.store.get(key, limit=MAX_SIZE).decode("utf-8", "replace")
    except ObjectNotFoundError:
        return None
    except ObjectTooLargeError as error:
        log.warning("%s; it keeps the backup all the same", error)
        return FULL


def _read_twin(catalog: Catalog, backup_id: str) -> str | None:
    twin = _double_slash(catalog, backup_id)
    try:
        return _read(catalog, twin) if twin else None
    except _CANT_BE_THERE as error:
        log.debug("%s is not looked at: %s", twin, error)
        return None


def _id_of(key: str, root: str) -> str:
    return key[len(root) :].removesuffix(_ANNOTATION)
