"""The contract of a provider of disk snapshots, and the values that pass between it and the rest.

What holds for all methods of :class:`SnapshotProvider`:

* They may be called from several threads at once.
* A provider that asks to slow down (429 and its relatives) or meets a transient error is asked again, with pauses.
* What can't be done raises ``SnapshotError``; refused credentials ``AccessDeniedError``; a provider that can't be
  reached ``ConnectivityError``; each with one line that names the object.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError, OperationError, SnapshotError

if TYPE_CHECKING:
    from barman_cloud.snapshots.mounts import Host, Mount

log = logs.get_logger(__name__)

Record = Mapping[str, str | int | None]
"""Keys and values as ``backup.info`` stores them (``catalog.backup_info.SNAPSHOT_KEYS``)."""

COMPLETE = 100
DAY = 86400.0
_SETTLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """What the command line says about machines, disks and snapshots; each field is named like its option."""

    aws_profile: str | None = None
    aws_region: str | None = None
    aws_await_snapshots_timeout: int = 3600
    """Seconds."""
    aws_snapshot_lock_mode: str | None = None
    """``governance`` or ``compliance``."""
    aws_snapshot_lock_cool_off_period: int | None = None
    """Hours."""
    aws_snapshot_lock_expiration_date: str | None = None
    """``YYYY-MM-DDThh:mm:ss.fZ``, in UTC."""
    aws_snapshot_lock_duration: int | None = None
    """Days."""
    azure_credential: str | None = None
    azure_subscription_id: str | None = None
    azure_resource_group: str | None = None
    gcp_project: str | None = None
    gcp_zone: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all fields."""
        return [option.name for option in fields(cls)]


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A disk that is attached to a machine."""

    name: str
    """As the user gave it, or the first of its names."""
    id: str
    """What the provider's API calls it: ``vol-…``, a resource id, ``projects/…/disks/…``."""
    aliases: tuple[str, ...]
    """Every name that a user may give for it, the id among them where that is one."""
    record: Record
    """What ``backup.info`` stores about the attachment."""
    is_root: bool = False
    cloned_from: str | None = None
    """Identifier of the snapshot that it was made of, where the answer about the machine told it."""
    outpost: str | None = None
    """AWS: the Outpost that the machine is on."""


@dataclass(frozen=True, slots=True)
class StartedSnapshot:
    """A snapshot that the provider has begun to make."""

    disk: AttachedDisk
    name: str
    identifier: str
    """What deletion and restore look for: a snapshot id on AWS, the name elsewhere."""
    record: Record
    """What ``backup.info`` stores about the snapshot, the attachment's record included."""
    started: float
    """``time.monotonic()`` when the provider's answer came."""
    handle: Any = None
    """The provider's own: the answer, the operation or the poller."""


@dataclass(frozen=True, slots=True)
class ExistingSnapshot:
    """What the provider tells of a snapshot."""

    name: str | None
    locked: str | None = None
    """Why it can't be deleted now, or None."""


class SnapshotProvider(ABC):
    """A cloud that makes snapshots of disks. See the module's docstring for what every method promises."""

    kind: ClassVar[str]
    """``aws``, ``azure`` or ``gcp``."""
    poll_seconds: float = 5.0
    """The longest pause between two questions about progress."""
    wait_timeout: float = DAY
    """Seconds after which a snapshot that isn't complete counts as failed."""

    @abstractmethod
    def attached_disks(self, instance: str) -> list[AttachedDisk]:
        """Return the disks of a machine, in the provider's order. ``SnapshotError`` if the machine isn't known."""

    @abstractmethod
    def cloned_from(self, disk: AttachedDisk) -> str | None:
        """Return the identifier of the snapshot that the disk was made of, or None."""

    @abstractmethod
    def local_device(self, disk: AttachedDisk, host: Host) -> str | None:
        """Return the block device (``/dev/nvme1n1``) that the disk is on this machine, or None."""

    @abstractmethod
    def check(self, disks: Sequence[AttachedDisk], backup_id: str) -> None:
        """Raise if a snapshot couldn't be made as asked: names, tags, locks. Makes no request, changes nothing."""

    @abstractmethod
    def begin(self, disk: AttachedDisk, name: str) -> StartedSnapshot:
        """Ask for a snapshot of the disk and return as soon as the provider has agreed.

        ``ConflictError`` if a snapshot of that name exists, which is then left alone.
        """

    @abstractmethod
    def progress(self, snapshots: Sequence[StartedSnapshot]) -> list[int]:
        """Return the percentage done of each, ``COMPLETE`` once it can be restored; ``SnapshotError`` if one failed."""

    @abstractmethod
    def provider_info(self, snapshots: Sequence[StartedSnapshot]) -> Mapping[str, str | None]:
        """Return what ``backup.info`` stores once for all of them; without any, what is known of them before."""

    @abstractmethod
    def discard(self, disk: AttachedDisk, name: str, snapshot: StartedSnapshot | None) -> None:
        """Delete what ``begin(disk, name)`` made, also if its answer got lost (``snapshot`` is None). None is fine."""

    @abstractmethod
    def inspect(self, identifier: str) -> ExistingSnapshot | None:
        """Return what the provider knows of a snapshot, None if there is none."""

    @abstractmethod
    def delete(self, identifier: str) -> None:
        """Delete a snapshot; none is fine. ``LockedError`` if it is locked."""

    def lock(self, snapshot: StartedSnapshot) -> StartedSnapshot:
        """Lock a complete snapshot against deletion if the options ask for it; return it with an updated record."""
        return snapshot

    @abstractmethod
    def close(self) -> None:
        """Release connections."""

    def __enter__(self) -> SnapshotProvider:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def snapshot_name(disk_name: str, backup_id: str) -> str:
    """Return the name of a disk's snapshot; deletion recognises the backup by its end."""
    return f"{disk_name}-{backup_id.lower()}"


def belongs_to(name: str | None, backup_id: str) -> bool:
    """Tell whether a snapshot of this name was made for the backup."""
    return name is not None and name.lower().endswith(f"-{backup_id.lower()}")


def select_disks(attached: Sequence[AttachedDisk], instance: str, names: Sequence[str]) -> list[AttachedDisk]:
    """Return the attached disks that the user named, each called as the user called it, in the provider's order.

    ``SnapshotError`` if one isn't attached, is ambiguous, is named twice, or is the disk that the machine boots from.
    """
    chosen: dict[str, str] = {}
    for name in names:
        by_id = [disk for disk in attached if disk.id == name]
        found = by_id or [disk for disk in attached if name in disk.aliases]
        if not found:
            raise SnapshotError(
                f"disk {name} is not attached to instance {instance}",
                hint=f"it has: {', '.join(disk.name for disk in attached if not disk.is_root) or 'no data disks'}",
            )
        if len(found) > 1:
            ids = ", ".join(disk.id for disk in found)
            raise SnapshotError(
                f"several disks of instance {instance} are named {name}: {ids}", hint="give the disk's id"
            )
        disk = found[0]
        if disk.is_root:
            raise SnapshotError(
                f"disk {name} is the boot disk of instance {instance}",
                hint="put the cluster on disks of its own, which can be attached and mounted elsewhere",
            )
        if disk.id in chosen:
            raise SnapshotError(f"disk {name} is given twice (also as {chosen[disk.id]})")
        chosen[disk.id] = name
    return [replace(disk, name=chosen[disk.id]) for disk in attached if disk.id in chosen]


def find_mounts(
    provider: SnapshotProvider, disks: Sequence[AttachedDisk], instance: str, host: Host
) -> dict[str, Mount]:
    """Return where each disk (by id) is mounted; ``SnapshotError`` if one isn't on this machine, or not mounted."""
    mounts = {}
    for disk in disks:
        device = provider.local_device(disk, host)
        if device is None:
            raise SnapshotError(
                f"no block device of this machine is disk {disk.name}",
                hint=f"run this on instance {instance}, to which the disk is attached",
            )
        mount = host.find_mount(device)
        if mount is None:
            raise SnapshotError(f"disk {disk.name} ({device}) is not mounted")
        log.debug("disk %s is %s, mounted on %s (%s)", disk.name, mount.device, mount.mount_point, mount.options)
        mounts[disk.id] = mount
    return mounts


def await_settled(provider: SnapshotProvider, name: str, unsettled: Callable[[], bool]) -> None:
    """Wait, for some minutes at most, until the provider has made a snapshot: some can't be deleted before."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    pause = 0.1
    while unsettled() and time.monotonic() < deadline:
        if pause >= 1:
            log.info("snapshot %s is still being made; it is removed after that", name)
        time.sleep(min(pause, provider.poll_seconds))
        pause *= 2


def missing_extra(title: str, module: str | None, extra: str) -> OperationError:
    """Return the error for a provider whose libraries aren't installed (exit 1, as in the original commands)."""
    return OperationError(
        f"{title} disk snapshots need the Python module {module or extra}, which isn't installed",
        hint=f"pip install 'barman-cloud[{extra}]'",
    )


def require_options(**options: str | None) -> None:
    """Raise ``ConfigurationError`` naming every option (``gcp_zone`` for ``--gcp-zone``) whose value is missing."""
    missing = [f"--{name.replace('_', '-')}" for name, value in options.items() if not value]
    if missing:
        raise ConfigurationError(f"missing for disk snapshots: {', '.join(missing)}")
