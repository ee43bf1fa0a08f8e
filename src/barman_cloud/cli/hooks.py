"""Hook scripts of the configuration around what a command does; only for servers that were named without a URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.config import hooks as kinds
from barman_cloud.config.hooks import Hooks, HookStopError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.catalog.removal import DeletionHooks
    from barman_cloud.catalog.wal_sweep import Taken
    from barman_cloud.cli.plain import Arguments
    from barman_cloud.config.server import Server
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.archiver import Archiver

log = logs.get_logger(__name__)


def hooks_of(args: Arguments, work: str) -> Hooks | None:
    """Return the scripts for a kind of work, None without any."""
    return None if args.server is None else hooks_for(args.server, args.configuration_file, work)


def hooks_for(server: Server, file: str | None, work: str) -> Hooks | None:
    """Return a server's scripts for a kind of work, None without any."""
    from barman_cloud.config.reader import find_file

    hooks = Hooks(server, str((find_file(file) or Path()).absolute()), work)
    return None if hooks.is_empty else hooks


class BackupHooks:
    """The scripts around a backup: :meth:`before` once it has an id, the rest at its end."""

    def __init__(self, hooks: Hooks, store: ObjectStore, layout: Layout) -> None:
        self._hooks = hooks
        self._store = store
        self._layout = layout
        self._info: BackupInfo | None = None

    def before(self, info: BackupInfo) -> None:
        self._info = info
        self._hooks.before(backup_facts(self._store, self._layout, info))

    @contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Run the scripts after the block, if its backup got as far as an id and nobody has stopped it."""
        try:
            yield
        except HookStopError:
            raise
        except BaseException as error:
            if self._info is not None:
                self._hooks.after(backup_facts(self._store, self._layout, self._info), error)
            raise
        if self._info is not None:
            self._hooks.after(backup_facts(self._store, self._layout, self._info))


def backup_facts(store: ObjectStore, layout: Layout, info: BackupInfo) -> dict[str, str]:
    """Return what scripts are told of a backup; its directory is the URL of its folder."""
    folders = store.list_level(layout.base_dir).folders
    ids = sorted({layout.backup_id_of(folder) or "" for folder in folders} - {"", info.backup_id})
    return {
        "BACKUP_DIR": store.object_url(layout.backup_dir(info.backup_id)).rstrip("/"),
        "BACKUP_ID": info.backup_id,
        "BACKUP_INFO_PATH": store.object_url(layout.backup_info(info.backup_id)),
        "NEXT_ID": next((other for other in ids if other > info.backup_id), ""),
        "PREVIOUS_ID": next((other for other in reversed(ids) if other < info.backup_id), ""),
        "STATUS": info.status,
    }


def around_restore(
    args: Arguments, store: ObjectStore, layout: Layout, info: BackupInfo
) -> AbstractContextManager[None]:
    """Return the scripts around a restore as a context."""
    hooks = hooks_of(args, kinds.RECOVERY)
    if hooks is None:
        return nullcontext()
    rules = dict(rule.partition(":")[::2] for rule in args.tablespaces)
    targets = {
        name.removeprefix("target_"): value
        for name, value in vars(args).items()
        if name.startswith("target_") and value not in (None, False)
    }
    facts = {
        **backup_facts(store, layout, info),
        "DESTINATION_DIRECTORY": str(Path(args.recovery_dir).absolute()),
        "RECOVER_OPTIONS": json.dumps(targets, default=str) if targets else "",
        "REMOTE_COMMAND": "",
        "TABLESPACES": json.dumps(rules) if rules else "",
    }
    return hooks.around(facts)


def deletion_hooks(args: Arguments, store: ObjectStore, layout: Layout) -> DeletionHooks | None:
    """Return the scripts around the deletion of backups and of WAL, None without any."""
    from barman_cloud.catalog.removal import DeletionHooks

    of_backups, of_wal = hooks_of(args, kinds.DELETE), hooks_of(args, kinds.WAL_DELETE)
    if of_backups is None and of_wal is None:
        return None
    facts: dict[str, dict[str, str]] = {}  # of a backup, as it was before

    def before_backup(info: BackupInfo) -> None:
        if of_backups:
            facts[info.backup_id] = backup_facts(store, layout, info)
            of_backups.before(facts[info.backup_id])

    def after_backup(backup_id: str, error: BaseException | None) -> None:
        if of_backups and backup_id in facts:
            of_backups.after(facts[backup_id], error)

    def before_wal(files: Sequence[Taken]) -> list[Taken]:
        return [file for file in files if _may_go(of_wal, store, layout, file)] if of_wal else list(files)

    def after_wal(files: Sequence[Taken], error: BaseException | None) -> None:
        for file in files if of_wal else ():
            assert of_wal is not None
            of_wal.after(wal_facts(store, layout, file), error)

    return DeletionHooks(before_backup, after_backup, before_wal, after_wal)


def _may_go(hooks: Hooks, store: ObjectStore, layout: Layout, file: Taken) -> bool:
    try:
        hooks.before(wal_facts(store, layout, file))
    except HookStopError as error:
        log.warning("%s stays: %s", file.key, error)
        return False
    return True


def wal_facts(store: ObjectStore, layout: Layout, file: Taken) -> dict[str, str]:
    """Return what scripts are told of a stored WAL file: its size as stored, and when that was (Unix time)."""
    key = file.key
    wal = layout.parse_wal_key(key)
    return {
        "COMPRESSION": (wal.compression or "") if wal else "",
        "FILE": store.object_url(key),
        "SEGMENT": wal.name if wal else key.rpartition("/")[2],
        "SIZE": str(file.size),
        "TIMESTAMP": str(file.modified.timestamp()) if file.modified else "",
    }


def with_scripts(archiver: Archiver, hooks: Hooks, stored_at: Callable[[str], str], compression: str | None) -> None:
    """Have the scripts run around every file that ``archiver`` archives; ``stored_at`` is the URL of a name."""
    plain = archiver.archive

    def archive(path: str) -> int | None:
        status = Path(path).stat()
        facts = {
            "COMPRESSION": "",
            "FILE": str(Path(path).absolute()),
            "SEGMENT": Path(path).name,
            "SIZE": str(status.st_size),
            "TIMESTAMP": str(status.st_mtime),
        }
        after = {**facts, "FILE": stored_at(Path(path).name), "COMPRESSION": compression or ""}
        with hooks.around(facts, after):
            return plain(path)

    archiver.archive = archive  # type: ignore[method-assign]


def hook_archiver(args: Arguments, archiver: Archiver, store: ObjectStore, layout: Layout) -> bool:
    """Have the scripts of the command line's server run around every file that ``archiver`` archives.

    Returns whether there are any.
    """
    hooks = hooks_of(args, kinds.ARCHIVE)
    if hooks is None:
        return False
    from barman_cloud.archive.compression import SUFFIX

    suffix = SUFFIX[args.compression] if args.compression else ""
    with_scripts(archiver, hooks, lambda name: store.object_url(layout.wal(name, suffix)), args.compression)
    return True
