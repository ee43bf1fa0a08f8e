"""From what the user wrote to one backup: ids, names, shortcuts, and ``auto`` with a recovery target.

Two rules for the shortcuts live side by side. ``show``, ``keep`` and ``delete`` look at every backup that isn't
STARTED, as Barman does; a restore only looks at complete ones, because the data of any other must not be started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from barman_cloud import logs
from barman_cloud.catalog.backup_info import COMPLETE, FAILED, STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import BACKUP_ID, parse_wal_folder
from barman_cloud.catalog.servers import describe_unknown
from barman_cloud.catalog.times import format_time
from barman_cloud.errors import NotFoundError, SelectionError, UsageError
from barman_cloud.postgres.wal import format_lsn, parse_lsn

log = logs.get_logger(__name__)

NEWEST = frozenset({"last", "latest"})
NEWEST_FULL = frozenset({"last-full", "latest-full"})
OLDEST = frozenset({"first", "oldest"})
LAST_FAILED = "last-failed"
AUTO = "auto"
RESERVED = frozenset({*NEWEST, *OLDEST, LAST_FAILED, AUTO, *NEWEST_FULL})
"""Words that can't be backup names."""


def is_backup_id(text: str) -> bool:
    """Tell whether ``text`` looks like an id; such a text is taken as it is, without a look into the catalog."""
    return re.fullmatch(BACKUP_ID, text) is not None


def resolve(text: str, load: Callable[[], CatalogView]) -> str:
    """Return the id that ``text`` means to ``show``, ``keep`` and ``delete``; ``load`` is called only if it is needed.

    ``SelectionError`` if a name or a shortcut matches nothing, or a name more than one backup.
    """
    if is_backup_id(text):
        return text
    view = load()
    _warn_of_unreadable(view)
    backups = view.backups.values()
    if text in NEWEST | OLDEST:
        return _edge(text, [info for info in backups if info.status != STARTED], "that isn't STARTED").backup_id
    if text == LAST_FAILED:
        return _edge(text, [info for info in backups if info.status == FAILED], "that FAILED").backup_id
    return _named(text, backups).backup_id


def resolve_for_restore(text: str, catalog: Catalog) -> BackupInfo:
    """Return the backup that ``text`` (anything but ``auto``) means to ``restore``.

    An id may name a backup of any status, with a WARNING unless it is complete; names and shortcuts only complete ones.
    """
    if is_backup_id(text):
        try:
            info = catalog.load_one(text)
        except NotFoundError as error:
            raise NotFoundError(str(error), hint=describe_unknown(catalog) or error.hint) from error
        if not info.is_complete:
            log.warning("backup %s is %s, not DONE: what it holds may be incomplete", text, info.status)
        return info
    view = catalog.load()
    _warn_of_unreadable(view)
    if text in NEWEST | OLDEST:
        return _edge(text, _complete(view), "that is DONE", partial(describe_unknown, catalog))
    if text == LAST_FAILED:
        raise SelectionError(
            f"'{text}' can't be restored: a failed backup may be incomplete", hint="name it by its id if you must"
        )
    info = _named(text, view.backups.values(), partial(describe_unknown, catalog))
    if info.status not in COMPLETE:
        raise SelectionError(
            f"backup {info.backup_id} ('{text}') is {info.status}, not DONE", hint="name it by its id if you must"
        )
    return info


def resolve_parent(text: str, catalog: Catalog) -> BackupInfo:
    """Return the complete backup that ``text`` means as the parent of an incremental one.

    It is an id, a name, or ``last`` (the newest, of whatever type) or ``last-full``. ``NotFoundError`` (1) if there is
    no such id, ``SelectionError`` (4) for everything else that isn't one complete backup.
    """
    if is_backup_id(text):
        info = catalog.load_one(text)
    else:
        view = catalog.load()
        _warn_of_unreadable(view)
        if text in NEWEST:
            return _edge(text, _complete(view), "that is DONE")
        if text in NEWEST_FULL:
            full = [info for info in _complete(view) if info.parent_backup_id is None]
            return _edge(text, full, "that is full and DONE")
        if text in RESERVED:
            raise SelectionError(f"'{text}' can't be a parent", hint="give last, last-full, an id or a name")
        info = _named(text, view.backups.values())
    if not info.is_complete:
        raise SelectionError(
            f"backup {info.backup_id} can't be a parent: it is {info.status}, not DONE",
            hint="barman-cloud-backup-list shows what there is",
        )
    return info


def select_auto(
    view: CatalogView,
    target_time: datetime | None = None,
    target_lsn: int | None = None,
    target_tli: int | None = None,
    *,
    missing_wal: Callable[[BackupInfo], str | None] = lambda _info: None,
    require_wal: bool = True,
    hint: Callable[[], str | None] = lambda: None,
) -> BackupInfo:
    """Return the newest complete backup that ended at or before the target, and on the timeline if one is given.

    Backups for which ``missing_wal`` has a reason are passed over with a WARNING; unless ``require_wal``, the newest of
    them is better than none. ``NotFoundError`` (1) if there is none; ``hint`` is asked for a better one if there is no
    backup at all. The log tells what was chosen and why.
    """
    _warn_of_unreadable(view)
    wanted = _describe_target(target_time, target_lsn, target_tli)
    candidates = _complete(view)
    without_wal: list[BackupInfo] = []
    for info in reversed(candidates):
        reason = _unfit(info, target_time, target_lsn, target_tli)
        if reason is None and (missing := missing_wal(info)):
            without_wal.append(info)
            log.warning("passed over backup %s: %s", info.backup_id, missing)
        elif reason is None:
            log.info("chose backup %s: the newest complete one%s", info.backup_id, wanted)
            return info
        else:
            log.info("passed over backup %s: %s", info.backup_id, reason)
    if without_wal and not require_wal:
        log.warning("chose backup %s all the same: there is no other", without_wal[0].backup_id)
        return without_wal[0]
    if without_wal:
        raise NotFoundError(
            f"no complete backup{wanted} whose own WAL is in the archive",
            hint="put the missing WAL into the archive; --force restores the newest nevertheless",
        )
    raise NotFoundError(f"no complete backup{wanted}", hint=_other_choice(candidates, target_time, target_lsn, hint))


def parse_target_lsn(text: str) -> int:
    """Return the LSN of ``--target-lsn``; ``SelectionError`` (4, as Barman) if it isn't one."""
    try:
        return parse_lsn(text)
    except UsageError as error:
        raise SelectionError(str(error), hint=error.hint) from error


def latest_timeline(catalog: Catalog) -> int:
    """Return the highest timeline in the WAL archive, history files included; ``SelectionError`` if it is empty."""
    layout = catalog.layout
    level = catalog.store.list_level(layout.wals_dir)
    folders = (parse_wal_folder(folder[len(layout.wals_dir) :].rstrip("/")) for folder in level.folders)
    timelines = [found[0] for found in folders if found]
    timelines += [wal.timeline for item in level.objects if (wal := layout.parse_wal_key(item.key))]
    if not timelines:
        raise SelectionError(
            f"the WAL archive of {layout.server} is empty, so there is no latest timeline",
            hint=describe_unknown(catalog) or "give its number",
        )
    log.info("the latest timeline in the WAL archive is %d", max(timelines))
    return max(timelines)


def _complete(view: CatalogView) -> list[BackupInfo]:
    return [info for info in view.backups.values() if info.is_complete]


def _other_choice(
    candidates: list[BackupInfo], time: datetime | None, lsn: int | None, hint: Callable[[], str | None]
) -> str:
    """Return what to do when no backup fits the target."""
    if not candidates:
        return hint() or "barman-cloud-backup-list shows what there is"
    ends = [info.end_time for info in candidates if info.end_time]
    if time is not None and ends and min(ends) > time:
        return f"the oldest backup ended at {format_time(min(ends))}; the target must be later than that"
    lsns = [parse_target_lsn(info.end_xlog) for info in candidates if info.end_xlog]
    if lsn is not None and lsns and min(lsns) > lsn:
        return f"the oldest backup ended at {format_lsn(min(lsns))}; the target must be later than that"
    return "barman-cloud-backup-list shows when each backup ended, and -v of which timeline it is"


def _edge(
    shortcut: str, candidates: list[BackupInfo], which: str, hint: Callable[[], str | None] = lambda: None
) -> BackupInfo:
    if not candidates:
        raise SelectionError(f"'{shortcut}' matches nothing: there is no backup {which}", hint=hint())
    info = candidates[0 if shortcut in OLDEST else -1]
    log.info(
        "'%s' is backup %s (%s): the %s one %s of %d",
        shortcut,
        info.backup_id,
        info.status,
        "oldest" if shortcut in OLDEST else "newest",
        which,
        len(candidates),
    )
    return info


def _named(name: str, backups: Iterable[BackupInfo], hint: Callable[[], str | None] = lambda: None) -> BackupInfo:
    backups = list(backups)
    matches = [info for info in backups if info.backup_name == name]
    if not matches:
        raise SelectionError(
            f"no backup is named '{name}'",
            hint=(None if backups else hint()) or "barman-cloud-backup-list shows ids and names",
        )
    if len(matches) > 1:
        ids = ", ".join(info.backup_id for info in matches)
        raise SelectionError(f"{len(matches)} backups are named '{name}': {ids}", hint="use one of these ids")
    log.info("'%s' is the name of backup %s", name, matches[0].backup_id)
    return matches[0]


def _unfit(info: BackupInfo, time: datetime | None, lsn: int | None, timeline: int | None) -> str | None:
    if timeline is not None and info.timeline != timeline:
        return f"it is of timeline {info.timeline}, not {timeline}"
    if time is not None and (info.end_time is None or info.end_time > time):
        return f"it ended at {info.end_time and format_time(info.end_time)}, not by {format_time(time)}"
    if lsn is not None and (info.end_xlog is None or parse_target_lsn(info.end_xlog) > lsn):
        return f"it ended at {info.end_xlog}, not by {format_lsn(lsn)}"
    return None


def _describe_target(time: datetime | None, lsn: int | None, timeline: int | None) -> str:
    parts = [f"that ended by {format_time(time)}"] if time else []
    parts += [f"that ended by {format_lsn(lsn)}"] if lsn is not None else []
    parts += [f"on timeline {timeline}"] if timeline is not None else []
    return "".join(f" {part}" for part in parts)


def _warn_of_unreadable(view: CatalogView) -> None:
    for error in view.unreadable.values():
        log.warning("%s; this backup is not considered", error)
