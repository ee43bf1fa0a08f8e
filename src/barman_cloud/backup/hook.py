"""Barman's ``post_backup_script``: storing a backup that a Barman server has made on its own disk.

Barman tells by environment variables where the backup lies (Barman's manual, "Hook scripts"). PostgreSQL isn't asked;
the files, ``backup_label`` among them, and ``backup.info`` are stored as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.tar import Member
from barman_cloud.backup.archive_backup import BackupOptions, make_uploads
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.helper_threads import Events, call_interruptibly
from barman_cloud.backup.members import Content, describe, open_file, read_file
from barman_cloud.backup.scan import CONTROL_FILE, ScannedBase, scan_data_directory, scan_tablespace
from barman_cloud.backup.signals import interruptible
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.identity import ArchiveIdentity, parse_system_identifier
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError, ConfigurationError, HookStatusError, OperationError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_HOOKS = ("backup_script", "backup_retry_script")


@dataclass(frozen=True, slots=True)
class HookBackup:
    """A finished backup on a Barman server, as its hook environment describes it."""

    backup_id: str
    directory: Path
    info: BackupInfo
    info_text: bytes
    """``backup.info``, byte for byte."""


def is_hook(environ: Mapping[str, str]) -> bool:
    """Tell whether Barman runs this process as a hook script."""
    return "BARMAN_HOOK" in environ and "BARMAN_PHASE" in environ


def run_hook_backup(
    store: ObjectStore, layout: Layout, environ: Mapping[str, str], options: BackupOptions
) -> BackupInfo:
    """Store the backup that the hook environment describes and return its ``backup.info``.

    ``ConfigurationError`` if the environment or that backup can't be used so, ``HookStatusError`` if it isn't DONE,
    ``OperationError`` if storing it fails; ``backup.info`` is stored last, so a failed run leaves no backup behind.
    """
    backup = read_hook_environment(environ, options)
    if cluster := parse_system_identifier(backup.info.systemid):
        identity = ArchiveIdentity(store, layout, accepted=options.request.accept_cluster, tags=options.request.tags)
        identity.require(cluster, f"backup {backup.backup_id}")
    archives = ArchiveSet(make_uploads(options, store, layout, backup.backup_id), options.jobs)
    with interruptible():
        try:
            archives.make(_scan(backup), Events())
            archives.add_last(_control_file(backup), 1 << 20)
            archives.store_sidecar()
            key = layout.backup_info(backup.backup_id)
            call_interruptibly(lambda: store.put(key, backup.info_text, tags=options.request.tags))
        except BaseException as error:
            archives.abort()
            if not isinstance(error, (BarmanCloudError, OSError, KeyboardInterrupt)):
                raise
            raise OperationError(
                f"backup {backup.backup_id} could not be stored: {error}", hint=getattr(error, "hint", None)
            ) from error
    return backup.info


def read_hook_environment(environ: Mapping[str, str], options: BackupOptions) -> HookBackup:
    """Check the hook environment and read what it points to; errors as for :func:`run_hook_backup`."""
    hook, phase = environ["BARMAN_HOOK"], environ["BARMAN_PHASE"]
    if hook not in _HOOKS or phase != "post":
        raise ConfigurationError(
            f"this command can't be a {phase} {hook} of Barman",
            hint="use it as post_backup_script or post_backup_retry_script",
        )
    if options.request.backup_name:
        raise ConfigurationError("--name can't be given in a hook script: Barman has named the backup")
    directory = _required(environ, "BARMAN_BACKUP_DIR")
    backup_id = _required(environ, "BARMAN_BACKUP_ID")
    status = environ.get("BARMAN_STATUS", "")
    if status != backup_info.DONE:
        raise HookStatusError(f"Barman says that backup {backup_id} is {status or 'of no status'}, not DONE")
    path = Path(_required(environ, "BARMAN_BACKUP_INFO_PATH"))
    try:
        text = path.read_bytes()
        info = backup_info.parse(text.decode(), backup_id)
    except (OSError, UnicodeDecodeError, BarmanCloudError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error
    if info.compression is not None:
        raise ConfigurationError(
            f"backup {backup_id} was compressed by Barman ({info.compression}) and can't be stored as it is",
            hint="set backup_compression to none in Barman's configuration",
        )
    if info.parent_backup_id:
        log.warning(
            "backup %s is incremental: it can't be restored without its parent %s and pg_combinebackup",
            backup_id,
            info.parent_backup_id,
        )
    return HookBackup(backup_id, Path(directory), info, text)


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigurationError(f"{name} is not set", hint="Barman sets it for its hook scripts")
    return value


def _scan(backup: HookBackup) -> list[ScannedBase]:
    oids = [tablespace.oid for tablespace in backup.info.tablespaces or ()]
    tablespaces = [(oid, str(backup.directory / str(oid))) for oid in oids]
    trees = [scan_tablespace(oid, location, backup.info.version or 0) for oid, location in tablespaces]
    trees.append(scan_data_directory(str(backup.directory / "data"), tablespaces, own_backup=True))
    for tree in trees:
        tree.log_notes()
    return trees


def _control_file(backup: HookBackup) -> Iterator[tuple[Member, Content]]:
    path = backup.directory / "data" / CONTROL_FILE
    opened = open_file(str(path))
    if opened is None:
        raise OperationError(f"{path} is missing")
    descriptor, status = opened
    with open(descriptor, "rb"):
        member = describe(CONTROL_FILE, "file", status)
        yield member, read_file(descriptor, member.size)
