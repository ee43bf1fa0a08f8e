"""What ``backup.info`` says while its backup is deleted, so that a deletion may be killed at any moment.

A backup that lost an archive must never be taken for a good one: retention would count it, and delete the last one
that can be restored. So the status goes first. Before anything of a backup is deleted, ``backup.info`` is replaced:

1. *announced*: FAILED, without an end time. Nothing is deleted yet, and the file holds in a comment what it was before.
2. *begun*: FAILED, and anything but this file may be gone.

``backup.info`` is deleted last of all, after the archives and after the WAL that only this backup needed. Whoever finds
a mark, after a kill, goes on from there. Readers that know nothing of this, Barman among them, skip the comments and
see a FAILED backup.

Between the two steps the keep annotation is read again. ``backup-keep`` does the same the other way round: it writes
the annotation, then reads ``backup.info``. Of the two, one at least sees the other; a deletion that sees an annotation
takes its mark back, and ``backup-keep`` waits for that.

Of two deletions at the same time, each may be at another step. So none begins over a mark that the other one has taken
back without another look at the annotation, and none takes a mark back that the other one has begun by.

A backup that is being made writes its own ``backup.info`` when it is done, over any mark. For these there is an object
beside it, put before the mark and deleted last, which the backup looks for once it has written DONE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from barman_cloud import logs
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import ANNOUNCED, BEGUN, FAILED, STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import NotFoundError

log = logs.get_logger(__name__)

_ORIGINAL = "#original "
_ERROR = {
    ANNOUNCED: "a deletion of this backup was announced, and nothing of it is deleted yet",
    BEGUN: "this backup is being deleted, and isn't complete any more",
}


class DeletionMark:
    """The mark on one backup."""

    def __init__(self, catalog: Catalog, backup_id: str) -> None:
        self._store = catalog.store
        self._catalog = catalog
        self._backup_id = backup_id
        self._key = catalog.layout.backup_info(backup_id)
        self._original: str | None = None
        """The text of ``backup.info`` before the mark, while it is known to describe what is in the store."""
        self._begun = False
        """The mark of the beginning is this run's."""

    def announce(self) -> str | None:
        """Announce the deletion and return the stage that it is in now, or None if there is no ``backup.info``.

        A deletion that another run has announced, or begun, is gone on with.
        """
        try:
            text = self._catalog.read_info(self._backup_id)
        except NotFoundError:
            return None
        info = self._catalog.parse_info(self._backup_id, text)
        if info.deletion == BEGUN:
            return BEGUN
        self._original = text if info.deletion is None else original_of(text)
        if info.deletion is None:
            if info.status == STARTED:
                self._store.put(self._catalog.layout.being_deleted(self._backup_id), b"")
            marked, original = _dump(info, ANNOUNCED), f"{_ORIGINAL}{json.dumps(text)}\n"
            self._put(marked + original if len(marked) + len(original) < backup_info.MAX_SIZE else marked)
        return ANNOUNCED

    def begin(self, refuse_if_kept: Callable[[], None] = lambda: None) -> None:
        """Say that objects of the backup are missing, or will be soon.

        ``refuse_if_kept`` is called if somebody took the mark back; what it raises ends the deletion.
        """
        try:
            info = self._catalog.load_one(self._backup_id)
        except NotFoundError:
            return  # another run was quicker
        if info.deletion is None:
            refuse_if_kept()
        if info.deletion == BEGUN:
            self._original = None  # what another run has begun isn't ours to take back
        else:
            self._put(_dump(info, BEGUN))
            self._begun = True

    def take_back(self) -> None:
        """Restore ``backup.info`` as it was, which only a deletion that took nothing may do.

        Not over the mark of another run that has begun, or has ended, meanwhile.
        """
        if self._original is None:
            return
        try:
            stage = self._catalog.load_one(self._backup_id).deletion
        except NotFoundError:
            stage = BEGUN
        if stage == BEGUN and not self._begun:
            log.warning("the mark of deletion on backup %s stays: another run deletes the backup", self._backup_id)
            return
        if stage is not None:  # else another run, or the backup itself, has replaced it already
            self._put(self._original)
        self._store.delete([self._catalog.layout.being_deleted(self._backup_id)])
        log.info("the mark of deletion on backup %s is taken back", self._backup_id)

    def _put(self, text: str) -> None:
        self._store.put(self._key, text.encode("utf-8", "backslashreplace"))


def original_of(text: str) -> str | None:
    """Return the text that a ``backup.info`` had before a deletion of its backup was announced in it."""
    for line in text.split("\n"):
        if line.startswith(_ORIGINAL):
            try:
                original = json.loads(line.removeprefix(_ORIGINAL))
            except (ValueError, RecursionError):
                return None
            return original if isinstance(original, str) else None
    return None


def _dump(info: BackupInfo, stage: str) -> str:
    return backup_info.dump(replace(info, status=FAILED, end_time=None, error=_ERROR[stage], deletion=stage))
