"""What the catalog says: which backups there are, whose archive it is, which WAL is there."""

from __future__ import annotations

from tests.mutants.mutant import of

_NEEDED = ("unit/catalog/test_needed_wal.py", "unit/catalog/test_wal_range.py", "unit/restore/test_reach.py")

MUTANTS = (
    *of(
        "catalog/backup_info.py",
        (
            "unit/catalog/test_backup_info.py",
            "unit/catalog/test_catalog.py",
            "unit/catalog/test_deletion_marks.py",
            "unit/catalog/test_selection.py",
        ),
        [
            (
                "        if codec is None:\n            raise",
                "        if codec is None:\n            continue\n            raise",
                "a key that isn't known is overlooked",
            ),
            (
                "COMPLETE = frozenset({DONE, WAITING_FOR_WALS})",
                "COMPLETE = frozenset({DONE, WAITING_FOR_WALS, FAILED})",
                "a failed backup counts as complete",
            ),
            (
                '            if stage := DELETION_LINES.get(line.rstrip()):\n                values["deletion"] = stage\n',
                "",
                "the mark of a deletion isn't read",
            ),
            (
                "        if not equals:\n            raise",
                "        if not equals:\n            continue\n            raise",
                "a line that is cut is overlooked",
            ),
        ],
    ),
    *of(
        "catalog/backup_objects.py",
        ("unit/catalog/test_deletion.py", "unit/catalog/test_deletion_order.py"),
        [
            (
                "if name is not None and name.base in expected:",
                "if name is not None:",
                "archives that aren't the backup's go with it",
            ),
            (
                "layout.backup_label(backup_id) if info.snapshots_info else None",
                "None",
                "the label of a snapshot backup stays",
            ),
        ],
    ),
    *of(
        "catalog/catalog.py",
        (
            "unit/catalog/test_bounds.py",
            "unit/catalog/test_catalog.py",
            "unit/catalog/test_deletion_marks.py",
            "unit/catalog/test_deletion.py",
            "unit/catalog/test_hostile_metadata.py",
        ),
        [
            (
                "        except UnreadableBackupInfoError as error:\n            return error",
                "        except UnreadableBackupInfoError:\n            return None",
                "a backup that can't be read is left out of the catalog",
            ),
            ("        if self.unreadable:\n", "        if False:\n", "a policy judges a catalog that isn't whole"),
            ("limit=backup_info.MAX_SIZE", "limit=None", "an object of any size is read into memory"),
            (
                "            if (name.base, name.part) in parts:\n",
                "            if (name.base, name.part) in parts and False:\n",
                "two objects of one part are taken for one without a word",
            ),
        ],
    ),
    *of(
        "catalog/emptiness.py",
        ("unit/catalog/test_emptiness.py",),
        [
            (
                "wal.timeline >= timeline",
                "wal.timeline > timeline",
                "WAL of the very timeline doesn't keep a new cluster away",
            ),
            ("        if seen:\n", "        if seen and not timeline:\n", "a timeline keeps nobody away"),
            ("        if seen:\n            break\n", "        break\n", "one empty listing is believed"),
            ("{timeline - 1:08X}~", "{timeline:08X}~", "the second listing begins behind the timeline"),
        ],
    ),
    *of(
        "catalog/identity.py",
        ("unit/catalog/test_bounds.py", "unit/catalog/test_identity.py"),
        [
            ("        if own in found:\n", "        if found:\n", "another cluster may archive here"),
            ("< ABANDONED_SECONDS", "> ABANDONED_SECONDS", "an archive that was claimed just now is taken over"),
            (
                "ABANDONED_SECONDS = 3600",
                "ABANDONED_SECONDS = 3",
                "an archive is taken over seconds after it was claimed",
            ),
            (
                "folders = (self._layout.base_dir, self._layout.wals_dir)",
                "folders = (self._layout.base_dir,)",
                "an archive that holds WAL is taken over",
            ),
            ("0 <= age < REMEMBERED_SECONDS", "0 <= age", "a note in the spool counts for ever"),
            ("_dump([own]), if_absent=True", "_dump([own]), if_absent=False", "two clusters claim one archive"),
            (
                "_of_newest_backup(self._store, self._layout) or _of_a_segment(self._store, self._layout)",
                "_of_newest_backup(self._store, self._layout)",
                "a segment doesn't show whose the archive is",
            ),
            ("_of_newest_backup(self._store, self._layout) or", "", "a backup doesn't show whose the archive is"),
            (
                "return [own] if self._store.capabilities.conditional_create else self._read() or [own]",
                "return [own]",
                "where creates aren't conditional, nobody looks who came through",
            ),
            (
                "self._notes.read(_NOTE).encode() == _dump([own])",
                'self._notes.read(_NOTE).encode() != b""',
                "a note about another cluster counts for this one",
            ),
            (
                "            return self._read() or [own]\n        log.info",
                "            return [own]\n        log.info",
                "who loses the race for an archive takes it for its own",
            ),
        ],
    ),
    *of(
        "catalog/layout.py",
        ("unit/catalog/test_layout.py",),
        [
            ("name[:16].upper()", "name[:16]", "a folder in lower case is another one"),
            (
                'part in ("", ".", "..") for part in server.split("/")',
                'part in ("",) for part in server.split("/")',
                "a server's name leads to another server's keys",
            ),
            ("part:04d", "part:03d", "archives are named as no other program expects"),
        ],
    ),
    *of(
        "catalog/lineage.py",
        ("unit/catalog/test_lineage.py", "unit/catalog/test_trees.py"),
        [
            (
                "        if not objects <= _objects(catalog, parent_id):\n            mark = DeletionMark(catalog, parent_id)\n"
                "            mark.announce()\n            mark.begin()\n            raise",
                "        if False:\n            raise",
                "a child undoes the mark of its parent's deletion",
            ),
            (
                "        if not objects <= _objects(catalog, parent_id):\n            mark = DeletionMark(catalog, parent_id)\n"
                "            mark.announce()\n            mark.begin()\n    except NotFoundError",
                "    except NotFoundError",
                "a deleted child undoes the mark of its parent's deletion",
            ),
            (
                "if info.deletion is not None or not info.is_complete:",
                "if not info.is_complete:",
                "a backup is put on top of one that is being deleted",
                "one that is being deleted is FAILED as well (deletion_mark), so the other half of the condition says it; the "
                "first half stays for what other programs may write",
            ),
            ("sorted({*children, child_id})", "[child_id]", "a parent forgets its other children"),
            (
                "                visit(child)\n                found.append(child)",
                "                found.append(child)\n                visit(child)",
                "a parent is deleted before its children",
            ),
        ],
    ),
    *of(
        "catalog/needed_wal.py",
        _NEEDED,
        [
            (
                "(end - 1) // size",
                "end // size",
                "a backup that ends on a boundary waits for a segment that it doesn't need",
            ),
            ("        if not segment.partial:\n", "        if True:\n", "half a segment counts for a whole one"),
            (
                "for number in range(needed.first, needed.last + 1) if",
                "for number in range(needed.first, needed.last) if",
                "the last segment may be missing",
            ),
            ("segment.number > needed.last:", "segment.number >= needed.last:", "the last segment isn't seen"),
        ],
    ),
    *of(
        "catalog/selection.py",
        ("unit/catalog/test_selection.py",),
        [
            ("info.end_time > time)", "info.end_time >= time)", "a backup that ended at the target is passed over"),
            (
                "parse_target_lsn(info.end_xlog) > lsn)",
                "parse_target_lsn(info.end_xlog) >= lsn)",
                "a backup that ended at the target's LSN is passed over",
            ),
            (
                "return [info for info in view.backups.values() if info.is_complete]",
                "return list(view.backups.values())",
                "a restore takes a backup that isn't complete",
            ),
            (
                "for info in reversed(candidates):",
                "for info in candidates:",
                "the oldest backup is taken for the newest",
            ),
            (
                "if timeline is not None and info.timeline != timeline:",
                "if False:",
                "a backup of another timeline is restored",
            ),
            (
                "time is not None and (info.end_time is None or",
                "time is not None and info.end_time is not None and (",
                "a backup without an end time is taken for one before the target",
            ),
            ("    if len(matches) > 1:\n", "    if False:\n", "one of two backups of the same name is taken"),
        ],
    ),
    *of(
        "catalog/times.py",
        ("unit/catalog/test_times.py",),
        [
            ("time.replace(fold=1).astimezone()", "time.replace(tzinfo=UTC)", "a time without a zone is taken for UTC"),
            (
                "time.replace(fold=1).astimezone()",
                "time.astimezone()",
                "an hour that exists twice is another than PostgreSQL's",
            ),
            (
                "if name is not None and offset is None and name not in time_module.tzname:",
                "if False:",
                "an unknown zone is taken for the local one",
            ),
        ],
    ),
    *of(
        "catalog/wal_archive.py",
        (
            "unit/catalog/test_needed_wal.py",
            "unit/restore/test_reach.py",
            "unit/verify/test_check.py",
            "unit/catalog/test_deletion_marks.py",
        ),
        [
            ('{name[:-1]}"', '{name}"', "the first segment that is looked for isn't listed"),
            (
                "        while start + 1 in histories:\n            start += 1\n        return start",
                "        return max(start, *histories, start)",
                "a timeline is taken that PostgreSQL doesn't find",
            ),
            (
                "if (segment.timeline, segment.number) >= (timeline, number)",
                "if segment.number >= number",
                "segments before the first one count",
            ),
            ("self._store.head(wal.key).size > LARGEST_HISTORY", "False", "a history file of any size is read"),
        ],
    ),
    *of(
        "catalog/wal_range.py",
        _NEEDED,
        [
            (
                "Leg(switch.timeline, first, number - 1)",
                "Leg(switch.timeline, first, number)",
                "the segment in which a timeline ends is read from the old one",
            ),
            ("held = held if found.partial else found", "held = found", "a partial copy stands for the full one"),
            (
                "        if segment.number > expected:\n",
                "        if segment.number > expected + 1:\n",
                "a gap of one segment isn't seen",
            ),
            (
                "(leg.last is not None and segment.number > leg.last):",
                "(leg.last is not None and segment.number >= leg.last):",
                "the last segment of a timeline isn't seen",
            ),
            (
                "return run, Gap(leg.timeline, expected, None) if leg.last is not None else None",
                "return run, None",
                "a timeline that ends too early isn't seen",
            ),
            (
                "if place < per_log else None",
                "if place <= per_log else None",
                "a name that no segment has is taken for one",
            ),
            ("(run.timeline, run.last + 1)", "(segment.timeline, run.last + 1)", "two timelines are taken for one run"),
        ],
    ),
)
