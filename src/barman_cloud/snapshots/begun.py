"""The record of snapshots that a backup is about to ask for, so that nobody forgets them if it is killed.

``backup.info`` names snapshots once they are complete. Until then this object beside it does: it is put before the
first request and deleted once ``backup.info`` is DONE, or none of the snapshots is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog.backup_info import SNAPSHOT_KEYS, SnapshotsInfo
from barman_cloud.errors import IntegrityError, SnapshotError
from barman_cloud.snapshots.base import AttachedDisk, SnapshotOptions, SnapshotProvider, belongs_to, snapshot_name
from barman_cloud.snapshots.open import open_recorded

log = logs.get_logger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Begun:
    """Disks whose snapshots may exist."""

    info: SnapshotsInfo
    """The provider and what it wants to hear; without snapshots."""
    disks: tuple[AttachedDisk, ...]
    backup_id: str

    @classmethod
    def of(cls, provider: SnapshotProvider, disks: Sequence[AttachedDisk], backup_id: str) -> Begun:
        return cls(SnapshotsInfo(provider.kind, provider.provider_info(()), ()), tuple(disks), backup_id)

    def to_json(self) -> bytes:
        disks = [
            {"id": disk.id, "name": disk.name, "snapshot": snapshot_name(disk.name, self.backup_id)}
            for disk in self.disks
        ]
        document = {
            "version": _VERSION,
            "provider": self.info.provider,
            "provider_info": dict(self.info.provider_info),
            "disks": disks,
        }
        return json.dumps(document, indent=2).encode()

    @classmethod
    def parse(cls, text: bytes, backup_id: str) -> Begun:
        """Return what the object says. ``IntegrityError`` if it isn't understood, or names another backup's."""
        try:
            document = json.loads(text)
            if document["version"] != _VERSION or document["provider"] not in SNAPSHOT_KEYS:
                raise ValueError("of another version or provider")
            facts = document["provider_info"].items()
            found = {str(key): None if value is None else str(value) for key, value in facts}
            disks = []
            for disk in document["disks"]:
                made = AttachedDisk(str(disk["name"]), str(disk["id"]), (), {})
                if not belongs_to(disk["snapshot"], backup_id) or disk["snapshot"] != snapshot_name(
                    made.name, backup_id
                ):
                    raise ValueError(f"{disk['snapshot']!r} is no snapshot of this backup")
                disks.append(made)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"the record of the snapshots of backup {backup_id} isn't understood: {error}",
                hint="look for snapshots of that id by hand; the backup isn't deleted before they can be",
            ) from None
        return cls(SnapshotsInfo(document["provider"], found, ()), tuple(disks), backup_id)


def discard_begun(text: bytes, backup_id: str, options: SnapshotOptions) -> None:
    """Delete what the record names, as far as it exists. ``SnapshotError`` if one of them stays."""
    begun = Begun.parse(text, backup_id)
    with open_recorded(begun.info, options) as provider:
        for disk in begun.disks:
            name = snapshot_name(disk.name, backup_id)
            try:
                provider.discard(disk, name, None)
            except SnapshotError as error:
                raise SnapshotError(
                    f"snapshot {name} of disk {disk.id} can't be deleted: {error}", hint=error.hint
                ) from error
            log.info("no snapshot %s of disk %s is left", name, disk.id)
