"""Chains of incremental backups taken by PostgreSQL's own ``pg_basebackup``, stored as Barman's server stores them."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from barman_cloud.archive.compression import SUFFIX, compress_bytes
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import DONE, BackupInfo, Tablespace
from barman_cloud.postgres.wal import parse_lsn
from tests.support.postgres import PostgresServer, run_as_server
from tests.support.repository import Repository

SUMMARIZED = {"summarize_wal": "on", "wal_level": "replica"}
"""What a server needs to be asked for incremental backups."""
_FIRST = datetime(2026, 11, 28, 12, tzinfo=UTC)


@dataclass
class Chain:
    """Backups of ``server`` in ``repository``; what pg_basebackup wrote stays below ``directory``, by backup id."""

    repository: Repository
    server: PostgresServer
    directory: Path
    ids: list[str] = field(default_factory=list)
    compression: str | None = None
    manifest_inside: bool = False
    """Whether the manifest is only in the last archive of PGDATA, as Barman stores it, and not an object as well."""

    def plain(self, backup_id: str) -> Path:
        """What pg_basebackup wrote, as ``pg_combinebackup`` takes it."""
        return self.directory / backup_id

    def take(self, parent: str | None = None) -> str:
        """Take a backup, of what changed since ``parent`` if it is given, and return its id."""
        backup_id = f"{_FIRST + timedelta(minutes=len(self.ids)):%Y%m%dT%H%M%S}"
        target = self.plain(backup_id)
        tablespaces = self._tablespaces()
        options = [f"--tablespace-mapping={place}={self._tablespace(backup_id, oid)}" for _, oid, place in tablespaces]
        if parent:
            options.append(f"--incremental={self.plain(parent) / 'backup_manifest'}")
        program = self.server.installation.tool("pg_basebackup")
        environ = {**self.server.installation.environ, **self.server.client_environ}
        run_as_server([program, "-D", target, "-c", "fast", "-X", "none", "--no-sync", *options], environ=environ)
        self._store(backup_id, parent, tablespaces)
        self.ids.append(backup_id)
        return backup_id

    def combine(self, chain: list[str], target: Path) -> None:
        """Combine the chain with PostgreSQL's own program; tablespaces go to ``<target>-<oid>``."""
        options = [
            f"--tablespace-mapping={self._tablespace(chain[-1], int(link.name))}={target}-{link.name}"
            for link in (self.plain(chain[-1]) / "pg_tblspc").iterdir()
        ]
        tool = self.server.installation.tool("pg_combinebackup")
        plain = [self.plain(backup_id) for backup_id in chain]
        run_as_server([tool, "-N", "-o", target, *options, *plain], environ=self.server.installation.environ)

    def verify(self, target: Path) -> None:
        """Run ``pg_verifybackup`` on a restored directory."""
        tool = self.server.installation.tool("pg_verifybackup")
        run_as_server([tool, "-n", target], environ=self.server.installation.environ)

    def _tablespace(self, backup_id: str, oid: int) -> Path:
        return self.directory / f"{backup_id}-{oid}"

    def _tablespaces(self) -> list[Tablespace]:
        rows = self.server.query(
            "SELECT spcname, oid, pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname NOT LIKE 'pg\\_%'"
        )
        return [Tablespace(name, int(oid), place) for name, oid, place in rows]

    def _store(self, backup_id: str, parent: str | None, tablespaces: list[Tablespace]) -> None:
        folder = self.repository.path("", backup_id)
        folder.mkdir(parents=True)
        manifest = self.plain(backup_id) / "backup_manifest"
        suffix = SUFFIX[self.compression] if self.compression else ""
        archives = {"data": self.plain(backup_id)}
        archives |= {str(oid): self._tablespace(backup_id, oid) for _, oid, _ in tablespaces}
        for base, source in archives.items():
            (folder / f"{base}.tar{suffix}").write_bytes(compress_bytes(_packed(source), self.compression))
        if not self.manifest_inside:
            (folder / "backup_manifest").write_bytes(manifest.read_bytes())
        reader = ManifestReader(iter([manifest.read_bytes()]))
        for _ in reader:
            pass
        label = (self.plain(backup_id) / "backup_label").read_text()
        start = label.partition("START WAL LOCATION: ")[2].partition(" (file ")
        segment = start[2].partition(")")[0]
        end = reader.wal_ranges[-1].end_lsn
        info = BackupInfo(
            backup_id, status=DONE, mode="postgres", version=int(self.server.value("SHOW server_version_num")),
            systemid=str(reader.system_identifier), timeline=1, begin_wal=segment, end_wal=segment,
            begin_xlog=start[0], end_xlog=f"{end >> 32:X}/{end & 0xFFFFFFFF:X}", server_name="main",
            begin_time=datetime.now(UTC), end_time=datetime.now(UTC), backup_label=label, tablespaces=tablespaces,
            parent_backup_id=parent, xlog_segment_size=16 << 20, pgdata=str(self.server.data),
            cluster_size=_size(self.server.data),
            size=sum((folder / name).stat().st_size for name in (f"{base}.tar{suffix}" for base in archives)),
        )  # fmt: skip
        assert parse_lsn(start[0]) <= end
        (folder / "backup.info").write_text(backup_info.dump(info))
        if parent:
            of_parent = self.repository.info(parent)
            of_parent.children_backup_ids = [*(of_parent.children_backup_ids or []), backup_id]
            self.repository.path("backup.info", parent).write_text(backup_info.dump(of_parent))


def _size(directory: Path) -> int:
    """Bytes of the files of a running server, which come and go meanwhile."""
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(place, name)).st_size
    return size


def _packed(source: Path) -> bytes:
    """A tar archive of a directory as the server sends it; the links of tablespaces aren't in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(source.rglob("*"), key=lambda path: (path.name == "pg_control", str(path))):
            if not path.is_symlink():
                archive.add(path, str(path.relative_to(source)), recursive=False)
    return buffer.getvalue()
