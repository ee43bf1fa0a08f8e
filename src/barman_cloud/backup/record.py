"""The ``backup.info`` object of a backup while it is made: from STARTED to DONE or FAILED."""

from __future__ import annotations

import threading

from barman_cloud import logs
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import (
    AccessDeniedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    OperationError,
)
from barman_cloud.store.base import ObjectStore, Tags

log = logs.get_logger(__name__)

_FAILED_UPLOAD_TIMEOUT = 30.0


class Record:
    """The ``backup.info`` object of one backup. The first upload never replaces another backup's."""

    def __init__(self, store: ObjectStore, layout: Layout, info: BackupInfo, tags: Tags | None) -> None:
        """``info`` is what :meth:`save` writes, as it is then."""
        self._store = store
        self._layout = layout
        self._info = info
        self._tags = tags
        self._tried: list[bytes] = []
        self._ours = False

    def save(self) -> None:
        key = self._layout.backup_info(self._info.backup_id)
        data = backup_info.dump(self._info).encode("utf-8", "backslashreplace")
        self._tried.append(data)
        try:
            self._store.put(key, data, if_absent=not self._ours, tags=self._tags)
        except ObjectExistsError:
            if data is not self._tried[-1]:
                return  # this upload was abandoned, and must not replace the later state that overtook it
            # An upload of ours that was tried again, or interrupted, may have arrived all the same.
            if self._store.get(key, limit=backup_info.MAX_SIZE) not in self._tried:
                raise OperationError(
                    f"another backup took the id {self._info.backup_id} at the same moment",
                    hint="take the backup again",
                ) from None
            self._store.put(key, data, tags=self._tags)
        self._ours = True

    def require_untouched(self) -> None:
        """Raise ``OperationError`` if the object isn't what was written; credentials that may not read are trusted."""
        key = self._layout.backup_info(self._info.backup_id)
        try:
            found = self._store.get(key, limit=backup_info.MAX_SIZE)
        except (ObjectNotFoundError, ObjectTooLargeError):
            found = None
        except AccessDeniedError as error:
            log.info("backup.info is not looked at before it is replaced: %s", error)
            return
        if found not in self._tried:
            raise OperationError(f"{self._store.object_url(key)} was deleted or replaced while the backup was made")


def save_in_time(record: Record) -> None:
    """Store the FAILED ``backup.info``, but don't let a store that is out of reach hold up the end of the process."""
    problems: list[BaseException] = []

    def save() -> None:
        try:
            record.save()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            problems.append(error)

    thread = threading.Thread(target=save, name="failed-record", daemon=True)
    thread.start()
    thread.join(_FAILED_UPLOAD_TIMEOUT)
    if thread.is_alive():
        log.warning("backup.info can't be marked FAILED: no answer from the store for %d s", _FAILED_UPLOAD_TIMEOUT)
    elif problems:
        log.warning("backup.info can't be marked FAILED: %s", reason_of(problems[0]))


def reason_of(error: BaseException) -> str:
    """Return an error as one line for ``backup.info`` and the log."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
