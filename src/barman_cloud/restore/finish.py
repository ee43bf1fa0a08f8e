"""What has to wait for the last archive, in the order that keeps an unfinished directory from being started.

``global/pg_control`` is extracted under another name and gets its own only when everything else is in place and on
disk. So PostgreSQL can't be started by mistake on a directory that is half restored, lacks its ``backup_label``, or
doesn't match its manifest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.restore import durability, journal, recovery_settings
from barman_cloud.restore.journal import Journal
from barman_cloud.restore.links import warn_of_links_outside
from barman_cloud.restore.plan import RestorePlan
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.restore.tree import Attributes, Tree, apply, is_root
from barman_cloud.restore.verify import WrittenFiles

log = logs.get_logger(__name__)

LABEL = "backup_label"
MANIFEST = "backup_manifest"
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
    files: WrittenFiles | None,
    settings: RecoverySettings | None,
) -> int | None:
    """Make the extracted files a cluster that can be started, on disk; return the number of verified files, or None."""
    pgdata = trees[DATA]
    default = _attributes_of_pgdata(pgdata)
    apply(pgdata.fd, default)
    for base, tree in trees.items():
        tree.make_links()
        warn_of_links_outside(tree)
        tree.set_attributes(default)
        if base != DATA:
            _own_tablespace(tree, default)
    _link_tablespaces(plan, pgdata, default)
    pgdata.ensure_directory("pg_wal", default)
    if not (plan.target / LABEL).is_file():
        raise OperationError(
            f"backup {plan.info.backup_id} holds no {LABEL}; {plan.target} can't be used",
            hint="PostgreSQL would start on it and silently be corrupt; restore another backup",
        )
    verified = _compare_with_manifest(plan.target, notes, files)
    if is_root():
        # Barman archives the label as a file of root's, and PostgreSQL must be able to rename it.
        os.chown(plan.target / LABEL, default.uid, default.gid, follow_symlinks=False)
    if settings:
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


def _compare_with_manifest(target: Path, notes: Journal, files: WrittenFiles | None) -> int | None:
    if files is None or not (target / MANIFEST).is_file():
        return None

    def locate(path: str) -> Path:
        aside = target / _CONTROL_FILE_ASIDE
        return aside if path == _CONTROL_FILE and aside.exists() else target / path

    try:
        with open(target / MANIFEST, "rb") as file:
            return files.compare(ManifestReader(iter(partial(file.read, 1 << 20), b"")), target, locate)
    except IntegrityError:
        notes.forget()
        raise


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
