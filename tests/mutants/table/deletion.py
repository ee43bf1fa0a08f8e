"""Deletion, keeps, retention, and which WAL goes."""

from __future__ import annotations

from tests.mutants.mutant import of

_ORDER = ("unit/catalog/test_deletion_order.py",)
_DELETION = (
    *_ORDER,
    "unit/catalog/test_deletion_marks.py",
    "unit/catalog/test_deletion_refused.py",
    "unit/catalog/test_deletion.py",
    "unit/catalog/test_trees.py",
    "faults/test_deletion_kills.py",
)
_CLEANUP = (
    *_ORDER,
    "unit/catalog/test_deletion_marks.py",
    "unit/catalog/test_wal_cleanup.py",
    "unit/catalog/test_deletion.py",
)

MUTANTS = (
    *of(
        "catalog/deletion.py",
        _DELETION,
        [
            (
                "        if found.deletion != BEGUN:\n            refuse_if_kept(catalog, member)",
                "        found.deletion",
                "a deletion by id doesn't ask for the annotation before it marks the backup",
            ),
            (
                "if (by_policy or len(backup_ids) > 1) and not options.dry_run and info.deletion != BEGUN:",
                "if False:",
                "a policy marks a backup that was kept since it judged",
            ),
            (
                "if failure and (not deleted or isinstance(failure, ConnectivityError)):",
                "if failure and not deleted:",
                "WAL is cleaned after the connection was lost",
            ),
            (
                "        except ConnectivityError:\n            raise\n        except BarmanCloudError as error:\n"
                "            failure = failure or error",
                "        except BarmanCloudError as error:\n            failure = failure or error",
                "backup.info goes although the connection was lost in the WAL",
            ),
            (
                "        try:\n            _clean_wal(",
                "        remove_infos(catalog, deleted, options)\n        try:\n            _clean_wal(",
                "backup.info goes before the WAL that only its backup needed",
            ),
            (
                "    retention.check_redundancy(view.backups, backup_id, minimum_redundancy)\n",
                "",
                "the minimum redundancy doesn't hold for a deletion by id",
            ),
            ("if above and not with_children:", "if False:", "a parent is deleted under its children"),
            ("doomed = [*above, backup_id]", "doomed = [backup_id, *above]", "a parent goes before its children"),
            (
                "if any(map(sweep.goes_as_a_whole, error.failures)):",
                "if False:",
                "a folder of WAL that stays is no failure",
            ),
            (
                "if info.deletion != ANNOUNCED or annotation is None:",
                "if info.deletion is None or annotation is None:",
                "a deletion that has begun gives way to an annotation",
                "the mark of one that has begun holds no text to go back to, so that it can't give way",
            ),
            (
                "    if not options.dry_run:\n        mark = DeletionMark",
                "    if True:\n        mark = DeletionMark",
                "a dry run writes",
            ),
            ("        del backups[backup_id]\n", "", "WAL is planned as if deleted backups still needed it"),
            (
                "        _tell_parents(catalog, view, [objects.backup_id for objects in deleted])\n",
                "",
                "a parent names children that are gone",
            ),
        ],
    ),
    *of(
        "catalog/deletion_mark.py",
        _DELETION,
        [
            (
                "        if info.deletion == BEGUN:\n            return BEGUN\n",
                "",
                "a deletion that has begun is announced again, and can be taken back",
            ),
            (
                "            if info.status == STARTED:\n",
                "            if False:\n",
                "a backup being made isn't told that it is deleted",
            ),
            (
                "            self._put(_dump(info, BEGUN))\n",
                "",
                "the mark never says that objects are missing",
            ),
            (
                "        if info.deletion is None:\n            refuse_if_kept()\n",
                "",
                "a deletion goes on although another one took its mark back for a keep",
            ),
            (
                "        if stage == BEGUN and not self._begun:\n",
                "        if False:\n",
                "the mark of another run is undone",
            ),
            (
                "self._put(marked + original if len(marked) + len(original) < backup_info.MAX_SIZE else marked)",
                "self._put(marked)",
                "what backup.info said before is lost",
            ),
            (
                "status=FAILED, end_time=None, error",
                "status=info.status, end_time=None, error",
                "a backup that is being deleted counts as good",
            ),
            (
                "        self._store.delete([self._catalog.layout.being_deleted(self._backup_id)])\n",
                "",
                "a backup being made thinks that it is deleted",
            ),
        ],
    ),
    *of(
        "catalog/keep.py",
        ("unit/catalog/test_deletion.py", *_DELETION, "unit/catalog/test_hostile_metadata.py"),
        [
            (
                "    _wait_while_announced(catalog, backup_id)\n    _require_done(catalog, backup_id)",
                "    _wait_while_announced(catalog, backup_id)",
                "a keep doesn't look whether a deletion began meanwhile",
            ),
            (
                ".deletion == ANNOUNCED:\n            waited",
                ".deletion == STARTED:\n            waited",
                "a keep fails beside a deletion that gives way to it",
            ),
            ("    if info.deletion:\n", "    if False:\n", "a backup that is being deleted can be kept"),
            (
                "        return FULL\n",
                "        return None\n",
                "an annotation that is too large doesn't keep its backup",
            ),
            (
                "    ids |= _kept_through_a_double_slash(catalog)\n",
                "",
                "a policy overlooks Barman's annotation below a double slash",
            ),
            (
                "return _read_twin(catalog, backup_id) if annotation is None else annotation",
                "return annotation",
                "a deletion overlooks Barman's annotation below a double slash",
            ),
            ("if info.status != DONE:", "if False:", "a backup that isn't DONE can be kept"),
        ],
    ),
    *of(
        "catalog/removal.py",
        _DELETION,
        [
            (
                "            if options.delete_snapshots:\n                options.delete_snapshots(info)\n"
                "            delete_objects(catalog, [objects.label], options)\n",
                "            delete_objects(catalog, [objects.label], options)\n"
                "            if options.delete_snapshots:\n                options.delete_snapshots(info)\n",
                "the label goes before the snapshots that a restore needs it for",
            ),
            (
                "    except ConnectivityError:\n        raise\n    except BarmanCloudError:\n        if _is_untouched",
                "    except BarmanCloudError:\n        if _is_untouched",
                "the mark is taken back although what the store did isn't known",
            ),
            (".issuperset(objects.data)", ".issuperset(())", "the mark is taken back although archives are gone"),
            (
                "return bool(objects.archives) and {",
                "return {",
                "the mark is taken back although no archive shows what is gone",
            ),
            (
                "        try:\n            refuse_if_kept(catalog, objects.backup_id)\n        except OperationError:\n"
                "            mark.take_back()\n            raise\n        mark.begin(lambda: refuse_if_kept(catalog, objects.backup_id))",
                "        mark.begin()",
                "the annotation isn't read again between mark and deletion",
            ),
            (
                "            mark.take_back()\n            raise\n        mark.begin(lambda: refuse_if_kept(catalog, objects.backup_id))",
                "            raise\n        mark.begin(lambda: refuse_if_kept(catalog, objects.backup_id))",
                "a backup that is kept stays marked",
            ),
            (
                "            raise\n        mark.begin(lambda: refuse_if_kept(catalog, objects.backup_id))",
                "            raise",
                "archives go under a mark that was only announced",
            ),
            (
                "        delete_objects(catalog, [objects.info], options)\n        return\n",
                "        return\n",
                "without the right to mark, archives go before backup.info",
            ),
            (
                "    delete_objects(catalog, [objects.info for objects in backups], options)\n"
                "    delete_objects(catalog, [objects.beside for objects in backups if objects.beside], options)\n",
                "    delete_objects(catalog, [objects.beside for objects in backups if objects.beside], options)\n"
                "    delete_objects(catalog, [objects.info for objects in backups], options)\n",
                "what tells a backup that it is deleted goes before backup.info",
            ),
            (
                "    if options.check_object_lock:\n",
                "    if False:\n",
                "locks aren't asked for before the first deletion",
            ),
            ("    _mark(catalog, mark, objects, options)\n", "", "nothing is marked"),
            (
                "    if options.check_snapshots:\n        options.check_snapshots(info)\n",
                "",
                "a locked snapshot is found when half of the backup is gone",
            ),
            (
                "    locks = [lock for lock in catalog.map(catalog.store.object_lock, keys) if lock]",
                "    locks = [lock for lock in catalog.map(catalog.store.object_lock, keys[:1]) if lock]",
                "only the first object's lock is asked for",
            ),
        ],
    ),
    *of(
        "catalog/retention.py",
        (
            "unit/catalog/test_retention.py",
            "unit/catalog/test_deletion_marks.py",
            "unit/catalog/test_deletion_refused.py",
            "unit/catalog/test_trees.py",
        ),
        [
            ("if number <= copies", "if number < copies", "one backup too few is kept"),
            ("copies = max(policy.copies, minimum)", "copies = policy.copies", "the minimum redundancy doesn't hold"),
            ("info.end_time >= start", "info.end_time > start", "a backup at the window's very start isn't in it"),
            ('"MONTH": 31', '"MONTH": 30', "a month is too short"),
            ('"WEEK": 7', '"WEEK": 6', "a week is too short"),
            ("elif number <= minimum:", "elif number < minimum:", "one backup too few for the minimum is kept"),
            (
                "elif info.status == STARTED and roots[backup_id] != backup_id:",
                "elif False:",
                "a chain goes while a backup that builds on it is being taken",
            ),
            (
                "if verdict.status is Status.OBSOLETE and root in held:",
                "if False:",
                "the chain of a kept backup goes",
            ),
            (
                "result.setdefault(info.systemid or only, [])",
                "result.setdefault(only, [])",
                "the backups of one cluster count for another",
            ),
            (
                "    if info.status != DONE:\n        return Verdict(Status.NONE",
                "    if info.status == STARTED:\n        return Verdict(Status.NONE",
                "a policy deletes what isn't DONE",
            ),
            (
                "remaining < minimum_redundancy",
                "remaining <= minimum_redundancy",
                "a deletion that leaves enough is refused",
            ),
            (
                "remaining = len(cluster) - 1",
                "remaining = len(done) - 1",
                "backups of another cluster count as remaining",
            ),
            ("elif covering is None:", "elif number < 2:", "the backup that covers the window's start goes"),
            (
                "newest_first = sorted(obsolete, reverse=True)",
                "newest_first = sorted(obsolete)",
                "a parent is deleted before its children",
            ),
            (
                "        if info.end_time is None:\n            verdicts",
                "        if info.end_time is None and number < 0:\n            verdicts",
                "a backup without an end time is judged",
            ),
        ],
    ),
    *of(
        "catalog/wal_cleanup.py",
        _CLEANUP,
        [
            (
                "segment < self.limit\n",
                "segment <= self.limit\n",
                "the first segment that is needed goes",
                "where the limit is a backup that stays, its need includes that segment (the next check); the limit of a deleted "
                "backup that was the last is a segment that nobody needs",
            ),
            (
                "            and int(segment[:8], 16) not in self.protected_timelines\n",
                "",
                "segments of timelines that have backups of their own go",
            ),
            (
                "            and not self.needs.includes(segment)\n",
                "",
                "segments go that a backup which stays needs",
            ),
            ("timeline >= floor_timeline", "timeline == floor_timeline", "later timelines aren't protected"),
            (
                "position >= floor for",
                "position > floor for",
                "the first segment of a backup that stays isn't protected",
            ),
            ("first <= segment <= last for", "first <= segment < last for", "the last segment of a kept backup goes"),
            (
                "if first >= self.limit or timeline in self.protected_timelines:",
                "if first >= self.limit:",
                "whole folders of other timelines go",
            ),
            ("if last >= self.limit or needed:", "if needed:", "the folder in which the limit lies goes as a whole"),
            (
                " or any(low <= last and first <= high for low, high in self.needs.ranges)\n",
                "\n",
                "a folder in which a kept backup has its WAL goes as a whole",
            ),
            (
                "if not by_policy or keeps.get(older.backup_id) != STANDALONE:",
                "if keeps.get(older.backup_id) != STANDALONE:",
                "a deletion by id looks past kept backups",
            ),
            (
                '            return NoCleanup(deleted, f"backup {older.backup_id} is older and may need any WAL since")',
                "            continue",
                "WAL goes that an older backup needs for recovery",
            ),
            (
                "if info.status in (FAILED, EMPTY) and info.deletion != ANNOUNCED:",
                "if info.status in (FAILED, EMPTY):",
                "the WAL of a backup goes whose deletion may be taken back",
            ),
            (
                "        if begin is None:\n            return backup_id",
                "        if begin is None:\n            continue",
                "WAL goes although it isn't known what a backup that stays needs",
            ),
            (
                "if keeps.get(backup_id) == STANDALONE and end is not None:",
                "if end is not None:",
                "the WAL after a backup that stays goes",
            ),
            (
                "stays and doesn't say where its WAL begins\")\n    timelines = {",
                "stays and doesn't say where its WAL begins\")\n    timelines: set[int] = set()\n    _ = {",
                "WAL of other timelines goes",
            ),
        ],
    ),
    *of(
        "catalog/wal_sweep.py",
        _CLEANUP,
        [
            ("if folder > end:", "if folder >= end:", "the last folder is never cleaned"),
            (
                "return segment if segment and segment.startswith(folder) else None",
                "return segment",
                "a file that lies in a wrong folder goes",
            ),
            (
                "(share is Share.ALL_SEGMENTS or self._plans[index].takes(segment))",
                "(share is not Share.NOTHING)",
                "all segments of a folder go of which some are needed",
            ),
            (
                "            if segment and (share",
                "            if share is Share.ALL_SEGMENTS or segment and (share",
                "files that aren't WAL go with their folder",
            ),
        ],
    ),
)
