"""The id and the name of a backup that is about to begin."""

from __future__ import annotations

import time
from datetime import datetime

from barman_cloud import logs
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import AccessDeniedError, OperationError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


def unused_backup_id(store: ObjectStore, layout: Layout) -> str:
    """Return an id for a backup that begins now: local time to the second, as Barman's, and not taken yet.

    Credentials that may not list are trusted with the first try.
    """
    while True:
        now = datetime.now()  # local wall time by contract
        backup_id = now.strftime("%Y%m%dT%H%M%S")
        try:
            level = store.list_level(layout.backup_dir(backup_id))
        except AccessDeniedError:
            log.info("the credentials don't allow to list the bucket: backup id %s is not checked", backup_id)
            return backup_id
        if not level.objects and not level.folders:
            return backup_id
        log.info("backup id %s is taken, waiting for the next second", backup_id)
        time.sleep(1 - now.microsecond / 1_000_000)


def warn_of_same_name(store: ObjectStore, layout: Layout, name: str) -> None:
    """Log a WARNING if a backup of that name exists: lookups by name will then find two."""
    try:
        backups = Catalog(store, layout).load().backups
    except (AccessDeniedError, OperationError) as error:
        log.info("can't tell whether the name %s is taken: %s", name, error)
        return
    same = [backup_id for backup_id, info in backups.items() if info.backup_name == name]
    if same:
        log.warning("the name %s is also that of backup %s: neither can be found by it", name, ", ".join(same))
