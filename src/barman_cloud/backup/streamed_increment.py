"""Incremental backups that the server streams: it gets the parent's manifest, and finds the changed blocks itself."""

from __future__ import annotations

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestSpool
from barman_cloud.backup.lifecycle import Run
from barman_cloud.backup.local_increment import require_summaries
from barman_cloud.backup.parent import IncrementRequest, Parent, choose, find_parent, settle_for_full, way_from
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import OperationError
from barman_cloud.incremental.visibility import misses_clearings
from barman_cloud.postgres.connection import Connection, read_metadata
from barman_cloud.postgres.timeline import Switch, parse_history
from barman_cloud.postgres.wal_summaries import require_first_summary
from barman_cloud.replication.base_backup import INCREMENTAL_SINCE
from barman_cloud.replication.session import ReplicationSession, ServerRefusal

log = logs.get_logger(__name__)

_NOT_READY = "55000"
"""``object_not_in_prerequisite_state``: among others that WAL summaries are missing."""


class StreamedIncrement:
    """What a streamed backup knows of its parent. Methods are called in this order, from the main thread."""

    def __init__(self, catalog: Catalog, request: IncrementRequest) -> None:
        self._catalog = catalog
        self._request = request
        self._parent: Parent | None = None

    def check(self, connection: Connection, session: ReplicationSession) -> None:
        """Find the parent; raises what stands in the way, or with a full backup to fall back to only warns."""
        self._parent = choose(lambda: self._find(connection, session), self._request)

    def begin(self, run: Run) -> ManifestSpool | None:
        """Return the manifest to send to the server; None if the backup is a full one."""
        self._run = run
        run.info.parent_backup_id = self._parent.info.backup_id if self._parent else None
        return self._parent.manifest if self._parent else None

    def refused(self, error: ServerRefusal) -> None:
        """The server won't make an increment: raise why, or settle for a full backup."""
        hint = error.hint
        if error.sqlstate == _NOT_READY and "summar" in str(error):
            hint = "take a full backup; wal_summary_keep_time must be longer than from an increment's parent to it"
        settle_for_full(OperationError(str(error), hint=hint), self._request)
        self._parent = self._run.info.parent_backup_id = None

    def _find(self, connection: Connection, session: ReplicationSession) -> Parent:
        if session.server_version < INCREMENTAL_SINCE:
            raise OperationError(
                f"PostgreSQL {session.server_version // 10000} doesn't stream incremental backups, as 17 does",
                hint="--method files takes them from older servers, too",
            )
        metadata = read_metadata(connection)
        require_summaries(metadata)
        parent = find_parent(self._catalog, self._request.parent, metadata.system_identifier, metadata.version)
        identity = session.identify()
        history = _history(session, identity.timeline) if identity.timeline != parent.timeline else ()
        way = way_from(parent, identity.timeline, identity.flush_lsn, history)
        require_first_summary(connection, way)
        if misses_clearings(metadata.version):
            log.warning(
                "WAL summaries of PostgreSQL before 17.11 and 18.6 don't tell what visibility maps lose, so that "
                "pg_combinebackup and Barman make maps of the increment in which deleted rows are visible; "
                "barman-cloud-restore and consolidate mend them (update PostgreSQL, or use --method files)"
            )
        return parent


def _history(session: ReplicationSession, timeline: int) -> tuple[Switch, ...]:
    """Return the ancestors of the server's timeline."""
    try:
        ((_, content),) = session.query(f"TIMELINE_HISTORY {timeline}")
    except ServerRefusal as error:
        session.finish()
        log.debug("no history of timeline %d: %s", timeline, error)
        return ()
    return parse_history((content or "").encode(), timeline)
