"""Where the members of a backup's archives come from: the files of this machine, or a replication stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from barman_cloud.archive.tar import Member
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.lifecycle import Run, ServerBackup
from barman_cloud.backup.members import Content
from barman_cloud.backup.page_check import PageChecks
from barman_cloud.postgres.backup_mode import BackupStart, BackupStop
from barman_cloud.postgres.connection import Connection, ServerMetadata

MANIFEST: Final = "backup_manifest"
LABEL: Final = "backup_label"
LABEL_MODE: Final = 0o644
MANIFEST_MODE: Final = 0o600


class MemberSource(Protocol):
    """A source of members. Methods are called in this order, from the main thread; see ``lifecycle.CopyMethod``."""

    server_name: str
    mode: str | None
    failure: str

    def check(self, connection: Connection) -> None:
        """Check what can be checked before anything is written."""

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        """Raise ``OperationError`` naming what the role lacks."""

    def prepare(self, metadata: ServerMetadata) -> None:
        """Check that what the server says can be copied."""

    def begin(self, connection: Connection, run: Run) -> ServerBackup:
        """Return the server's side of the backup, not started yet."""

    def page_checks(self, run: Run) -> PageChecks | None:
        """Return what verifies page checksums while the files are read, or None where nobody does, or the server."""

    def copy(self, archives: ArchiveSet, run: Run) -> None:
        """Make all archives but the last one of ``data``."""

    def last_members(
        self, archives: ArchiveSet, start: BackupStart, stop: BackupStop
    ) -> tuple[int, Iterator[tuple[Member, Content]]]:
        """Return the members of the last archive, and about how many bytes they are."""

    def finish(self, archives: ArchiveSet, run: Run) -> None:
        """Store the objects beside the archives, and note in ``run.info`` what only this source knows."""
