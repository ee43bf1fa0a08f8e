"""What is done with the members of one backup of a chain, and whether they are what its manifest says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.chains import Action, ChainPlan
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.relations import parse

if TYPE_CHECKING:
    from barman_cloud.archive.buffers import Buffer
    from barman_cloud.archive.tar import Member
    from barman_cloud.restore.merge import Merge

LABEL: Final = "backup_label"
_PARENT: Final = b"INCREMENTAL FROM "
_ANOTHER: Final = "restore another backup"


class Layer:
    """What is to be done with the members of one backup of a chain. Used by several threads at the same time.

    Each file that is planned must come once, and as the backup's manifest has it.
    """

    def __init__(self, plan: ChainPlan, number: int, backup_id: str, entries: Iterable[ManifestFile]) -> None:
        self._plan = plan
        self.number = number
        self._backup_id = backup_id
        self.is_newest = number == len(plan.written) - 1
        self._lock = threading.Lock()
        self._awaited: Counter[int] = Counter()
        """A hash of path, size and CRC-32C (None if the manifest has another checksum) of each planned file."""
        for entry in entries:
            if self._is_checked(entry.path):
                self._awaited[hash((entry.path, entry.size, entry.crc))] += 1

    @property
    def files(self) -> int:
        """How many files of this backup go into the restored directory; of the newest, those of changed blocks."""
        overlaid = len(self._plan.overlaid[self.number])
        return overlaid if self.is_newest else overlaid + len(self._plan.written[self.number])

    def action(self, base: str, path: str) -> Action:
        """Return what to do with the member ``path`` of an archive of ``base``."""
        path = in_manifest(base, path)
        if not self.is_newest:
            return self._plan.action(self.number, path)
        restored = restored_path(path)
        if restored is None or not is_of_changed_blocks(path):
            return Action.WRITE  # what isn't in the manifest, too, as of a full backup
        if restored not in self._plan.overlaid[self.number]:
            raise IntegrityError(f"backup {self._backup_id} holds {path}, which isn't in its manifest", hint=_ANOTHER)
        return Action.OVERLAY

    def check(self, base: str, path: str, size: int, crc: int) -> None:
        """Raise ``IntegrityError`` unless a file that was read is as the manifest says, and came for the first time."""
        path = in_manifest(base, path)
        if not self._is_checked(path):
            return
        with self._lock:
            for key in (hash((path, size, crc)), hash((path, size, None))):
                if self._awaited[key]:
                    # Barman's server archives the label a second time.
                    self._awaited[key] -= path != LABEL
                    return
        raise IntegrityError(
            f"{path} of backup {self._backup_id} isn't what its manifest says: it has {size} bytes with the "
            f"checksum {crc:08x}",
            hint=f"the backup is damaged; {_ANOTHER}",
        )

    def _is_checked(self, path: str) -> bool:
        # The files that the newest backup has whole are compared in the end, as those of a full backup.
        if self.is_newest and path != LABEL and restored_path(path) is None:
            return False
        return path == LABEL or self._plan.action(self.number, path) is not Action.SKIP

    def require_all(self, files: int) -> None:
        """Raise ``IntegrityError`` unless the archives held as many planned files as the manifest lists."""
        if files != self.files:
            raise IntegrityError(
                f"the archives of backup {self._backup_id} hold {files} of the {self.files} files that are "
                "needed of it",
                hint=f"the backup is damaged; {_ANOTHER}",
            )


@dataclass(frozen=True, slots=True)
class LayerOfArchive:
    """A layer, as the archives of one base see it."""

    layer: Layer
    base: str
    merge: Merge | None = None
    """Where changed blocks wait for the files that they belong into; None: they are written over what is there."""

    def action(self, path: str) -> Action:
        return self.layer.action(self.base, path)

    def recorder(self, record: Callable[[str, int, int], None] | None) -> Callable[[str, int, int], None]:
        """Return the function that checks a file that was read, and tells ``record`` of it."""

        def check(path: str, size: int, crc: int) -> None:
            self.layer.check(self.base, path, size, crc)
            if record is not None:
                record(path, size, crc)

        return check

    def learn(self, path: str, member: Member, content: Iterable[Buffer]) -> tuple[int, int]:
        """Let ``merge`` have a file of changed blocks; returns its size and CRC-32C."""
        assert self.merge is not None
        return self.merge.learn(self.layer.number, 0, in_manifest(self.base, path), member, content)

    def whole(self, path: str, member: Member, content: Iterator[Buffer]) -> tuple[Member, Iterable[Buffer]] | None:
        """Return what ``merge`` makes of a file that an older backup has whole; None if it stays as it is."""
        return self.merge.whole(in_manifest(self.base, path), member, content) if self.merge else None

    def note_whole(self, path: str, size: int, crc: int) -> None:
        """Note what was written of such a file."""
        assert self.merge is not None
        self.merge.made[in_manifest(self.base, path)] = size, crc

    @property
    def is_newest(self) -> bool:
        return self.layer.is_newest


def in_manifest(base: str, path: str) -> str:
    """Return how the manifest calls the member ``path`` of an archive of ``base``."""
    return path if base == DATA else f"pg_tblspc/{base}/{path}"


def without_parent(label: bytes) -> bytes:
    """Return the label of a combined backup, which no longer says since when it holds changes."""
    return b"".join(line for line in label.splitlines(keepends=True) if not line.startswith(_PARENT))


def is_of_changed_blocks(path: str) -> bool:
    """Tell whether ``path``, in PGDATA or in a tablespace, is that of a relation's changed blocks."""
    restored = restored_path(path)
    return restored is not None and (parse(restored) or parse(f"pg_tblspc/1/{restored}")) is not None
