"""What has to wait for the last archive, in the order that keeps an unfinished directory from being started.

``global/pg_control`` is extracted under another name and gets its own only when everything else is in place and on
disk. So PostgreSQL can't be started by mistake on a directory that is half restored, lacks its ``backup_label``, or
doesn't match its manifest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.restore import configuration, durability, journal, recovery_settings
from barman_cloud.restore.journal import Journal
from barman_cloud.restore.layer import LABEL
from barman_cloud.restore.links import warn_of_links_outside
from barman_cloud.restore.plan import RestorePlan
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.restore.tree import Attributes, Tree, apply, is_root
from barman_cloud.restore.verify import MANIFEST, WrittenFiles, describes, open_manifest

log = logs.get_logger(__name__)

_CONTROL_FILE = "global/pg_control"
_CONTROL_FILE_ASIDE = "global/pg_control.restoring"

SET_ASIDE = {
    _CONTROL_FILE: Path(_CONTROL_FILE_ASIDE).name,
    # A map that has been in PGDATA since an earlier restore would send the tablespaces' links to their old places.
    "tablespace_map": "tablespace_map.old",
    journal.NAME: f"{journal.NAME}.old",
}
"""Members of PGDATA's archives that are written under another name (in the same directory)."""

_FORBIDDEN_TO_PGDATA = stat.S_IWGRP | stat.S_IRWXO


def finish(
    plan: RestorePlan,
    trees: Mapping[str, Tree],
    notes: Journal,
    files: WrittenFiles,
    settings: RecoverySettings | None,
    verify: Callable[[], int] | None = None,
) -> int | None:
    """Make the extracted files a cluster that can be started, on disk; return the number of verified files, or None.

    ``verify`` (None: the manifest in PGDATA tells what is right) compares the files of a chain, and returns how many.
    ``global/pg_control`` and what else is set aside has another name meanwhile.
    """
    pgdata = trees[DATA]
    default = _attributes_of_pgdata(pgdata)
    apply(pgdata.fd, default)
    for tree in trees.values():
        tree.make_links()
        warn_of_links_outside(tree)
    if not _is_file(plan.target / LABEL):
        raise OperationError(
            f"backup {plan.info.backup_id} holds no {LABEL}; {plan.target} can't be used",
            hint="PostgreSQL would start on it and silently be corrupt; restore another backup",
        )
    # Before directories get modes that may forbid to read them.
    verified = _verified(notes, verify or (lambda: _verify(plan, trees, files)))
    for base, tree in trees.items():
        tree.set_attributes(default)
        if base != DATA:
            _own_tablespace(tree, default)
    _link_tablespaces(plan, pgdata, default)
    pgdata.ensure_directory("pg_wal", default)
    if is_root():
        # Barman archives the label as a file of root's, and PostgreSQL must be able to rename it.
        os.chown(plan.target / LABEL, default.uid, default.gid, follow_symlinks=False)
    if settings:
        configuration.neutralise(plan.target)
        recovery_settings.write(plan.target, settings, plan.info.backup_id)
    durability.sync_trees(plan.directories.values())
    for directory in plan.directories.values():
        durability.sync_path(directory.parent)
    _release(plan.target, notes)
    return verified


def _attributes_of_pgdata(tree: Tree) -> Attributes:
    """Return owner and mode of PGDATA as archived, the mode made one that PostgreSQL accepts (0700 or 0750)."""
    found = tree.root_attributes() or _current(tree)
    acceptable = not found.mode & _FORBIDDEN_TO_PGDATA and found.mode & stat.S_IRWXU == stat.S_IRWXU
    return found if acceptable else replace(found, mode=0o700)


def _own_tablespace(tree: Tree, default: Attributes) -> None:
    """Give the directory its archived attributes, or, where Barman archived none, to the owner of PGDATA."""
    archived = tree.root_attributes()
    if archived:
        apply(tree.fd, archived)
    elif is_root() and os.fstat(tree.fd).st_uid == 0:
        os.fchown(tree.fd, default.uid, default.gid)


def _current(tree: Tree) -> Attributes:
    status = os.fstat(tree.fd)
    return Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)


def _link_tablespaces(plan: RestorePlan, tree: Tree, default: Attributes) -> None:
    tree.ensure_directory("pg_tblspc", default)
    with tree.opened(("pg_tblspc",)) as folder:
        for entry in plan.tablespaces:
            if entry.target == plan.target / "pg_tblspc" / entry.base:
                continue
            with suppress(FileNotFoundError):
                os.unlink(entry.base, dir_fd=folder)
            os.symlink(entry.target, entry.base, dir_fd=folder)
            if is_root():
                os.chown(entry.base, default.uid, default.gid, dir_fd=folder, follow_symlinks=False)


def _verified(notes: Journal, verify: Callable[[], int | None]) -> int | None:
    """Compare all files with the backup's manifest, once, and return their number; None if there is no manifest."""
    if notes.verified is not None:
        return notes.verified
    try:
        verified = verify()
    except IntegrityError:
        notes.forget()
        raise
    if verified is not None:
        notes.add_verified(verified)
    return verified


def _verify(plan: RestorePlan, trees: Mapping[str, Tree], files: WrittenFiles) -> int | None:
    manifest = open_manifest(trees[DATA])
    if manifest is None:
        return None
    with manifest:
        if plan.records is None:
            if not describes(manifest, plan.info):
                log.info("%s in the backup is that of another backup: files aren't compared with it", MANIFEST)
                return None
            log.warning(
                "backup %s has lost its archives.json: its archives aren't compared with it, its files "
                "are compared with %s",
                plan.info.backup_id,
                MANIFEST,
            )
        return files.compare(ManifestReader(iter(partial(manifest.read, 1 << 20), b"")), trees)


def reopen(target: Path) -> None:
    """Take back the name of ``pg_control``, if an interrupted restore got so far that it gave it.

    Raises ``OperationError`` if a server has been started there since.
    """
    control, aside = target / _CONTROL_FILE, target / _CONTROL_FILE_ASIDE
    if not control.exists() or aside.exists():
        return
    if not _is_file(target / LABEL) or (target / "postmaster.pid").exists():
        raise OperationError(
            f"{target} was restored completely, and PostgreSQL has been started on it since",
            hint=f"there is nothing left to do; remove {target / journal.NAME}",
        )
    control.rename(aside)
    durability.sync_path(control.parent)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _release(target: Path, notes: Journal) -> None:
    """Give ``pg_control`` its name and delete the journal, each step on disk before the next."""
    control = target / _CONTROL_FILE
    aside = target / _CONTROL_FILE_ASIDE
    if aside.exists():
        aside.rename(control)
    elif not control.exists():
        raise IntegrityError(f"the backup has no {_CONTROL_FILE}; {target} can't be used")
    durability.sync_path(control.parent)
    notes.remove()
    durability.sync_path(target)
