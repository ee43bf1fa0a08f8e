"""A restore as a whole: what is decided before it, in which order it ends, what recovery needs."""

from __future__ import annotations

from tests.mutants.mutant import of

_RESTORE = ("unit/restore/test_archive_restore.py",)
_ORDER = ("unit/test_durable_order.py",)
_CHAIN = ("unit/restore/test_chain.py",)

MUTANTS = (
    *of(
        "restore/archive_restore.py",
        (
            "unit/restore/test_restore_resumed.py",
            *_RESTORE,
            "unit/restore/test_delta.py",
            "unit/restore/test_restore_manifest.py",
        ),
        [
            ("        _check_status(store, plan)\n", "", "a backup that isn't complete and has no label is restored"),
            ("            prepare(plan, trees, comparison)\n", "", "a directory that is being changed can be started"),
            (
                "            prepare(plan, trees, comparison)\n            notes.forget()",
                "            prepare(plan, trees, comparison)",
                "archives that a delta restore extracted before count although the directory was changed since",
            ),
            (
                "    if not plan.delta:\n        reopen(plan.target)",
                "    pass",
                "an interrupted restore that got to its end can be started while it goes on",
            ),
            (
                "            require_no_server(plan.target)\n        else:",
                "            pass\n        else:",
                "a restore goes on into a running server",
            ),
        ],
    ),
    *of(
        "restore/chain.py",
        _CHAIN,
        [
            (
                "        if parent.systemid != info.systemid:\n",
                "        if False:\n",
                "blocks of one cluster go on top of another",
            ),
            (
                "        _require_same_begin(parent, info)\n",
                "",
                "blocks go on top of a backup that they don't belong to",
            ),
            ("        if not parent.is_complete:\n", "        if False:\n", "blocks go on top of a backup that failed"),
            (
                "newest.parent_backup_id is None and _counts_from(newest) is not None",
                "False",
                "an incremental backup without a parent counts as full",
            ),
            ("    return tuple(reversed(found))", "    return tuple(found)", "a chain is restored newest first"),
            (
                "        if parent_id in (newest.backup_id,",
                "        if False and parent_id in (newest.backup_id,",
                "backups that build on themselves never end",
            ),
        ],
    ),
    *of(
        "restore/configuration.py",
        ("unit/restore/test_configuration.py",),
        [
            (
                '_PLACES = frozenset({"data_directory", ',
                "_PLACES = frozenset({",
                "a server started on the copy is one on the old directory",
            ),
            (
                "        for found in reversed(astray):\n",
                "        for found in astray:\n",
                "the wrong lines become comments",
            ),
            (
                'if f"{whole}/".startswith(f"{root}/") else None',
                "if whole.startswith(root) else None",
                "a directory beside the restored one counts as inside",
            ),
            (
                "read_file(directory / name)\n        lines",
                "read_file(directory / name)[0], 0o644\n        lines",
                "others may read the configuration",
            ),
        ],
    ),
    *of(
        "restore/extraction.py",
        ("unit/restore/test_restore_resumed.py", *_RESTORE, "unit/restore/test_restore_manifest.py"),
        [
            (
                "                        self.notes.add(archive.key, outcome)\n",
                "                        pass\n",
                "a restore begins again from its beginning",
            ),
            (
                "                done(order, archive.base, finished[archive.key])\n",
                "                pass\n",
                "what an archive left to be done is forgotten when a restore goes on",
            ),
            (
                "expected=(source.records or {}).get(archive.key)",
                "expected=None",
                "a damaged archive isn't noticed",
            ),
        ],
    ),
    *of(
        "restore/finish.py",
        (*_ORDER, "unit/restore/test_restore_resumed.py", *_RESTORE, "unit/restore/test_restore_manifest.py"),
        [
            (
                "    durability.sync_trees(plan.directories.values())\n",
                "",
                "a cluster can be started that isn't on disk",
            ),
            (
                "        durability.sync_path(directory.parent)\n    _release",
                "        pass\n    _release",
                "the restored directory is lost with the power",
            ),
            (
                "    durability.sync_path(control.parent)\n    notes.remove()",
                "    notes.remove()",
                "the journal goes while pg_control may still lose its name",
            ),
            (
                "    notes.remove()\n    durability.sync_path(target)",
                "    notes.remove()",
                "a journal comes back with the power",
            ),
            (
                "    durability.sync_path(control.parent)\n    notes.remove()\n",
                "    notes.remove()\n    durability.sync_path(control.parent)\n",
                "the journal goes before pg_control has its name for sure",
            ),
            (
                "    if not _is_file(plan.target / LABEL):\n",
                "    if False:\n",
                "a cluster without a label can be started",
            ),
            (
                "    _CONTROL_FILE: Path(_CONTROL_FILE_ASIDE).name,\n",
                "",
                "a directory that is half restored can be started",
            ),
            ('    "tablespace_map": "tablespace_map.old",\n', "", "an old map sends the tablespaces' links elsewhere"),
            (
                "        notes.forget()\n        raise",
                "        raise",
                "what doesn't match the manifest is kept by the next try",
            ),
            (
                '    if not _is_file(target / LABEL) or (target / "postmaster.pid").exists():\n',
                "    if False:\n",
                "pg_control is taken from a server that runs",
            ),
            (
                "    control.rename(aside)\n    durability.sync_path(control.parent)",
                "    control.rename(aside)",
                "pg_control is back with the power in a directory that is being changed",
            ),
            (
                "    verified = _verified(notes, verify or (lambda: _verify(plan, trees, files)))\n",
                "    verified = None\n",
                "files aren't compared with the manifest",
            ),
            (
                "        recovery_settings.write(plan.target, settings, plan.info.backup_id)\n    durability.sync_trees(plan.directories.values())\n",
                "        pass\n    durability.sync_trees(plan.directories.values())\n    if settings:\n"
                "        recovery_settings.write(plan.target, settings, plan.info.backup_id)\n",
                "settings are written after all is on disk",
                "each of these files is made durable by itself as well (replace_file)",
            ),
            (
                "acceptable = not found.mode & _FORBIDDEN_TO_PGDATA and",
                "acceptable =",
                "PostgreSQL refuses the mode of the directory",
            ),
            (
                "            with suppress(FileNotFoundError):\n                os.unlink(entry.base, dir_fd=folder)\n",
                "",
                "a restore that goes on fails at a tablespace's link",
            ),
        ],
    ),
    *of(
        "restore/journal.py",
        (*_ORDER, "unit/restore/test_restore_resumed.py", "unit/restore/test_journal.py", *_RESTORE),
        [
            (
                "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
                "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
                "two restores write into one directory",
            ),
            ("        os.fsync(self.fd)\n", "", "a directory is filled before it is on disk that it is being filled"),
            ("        sync_path(self.path.parent)\n", "", "the journal is lost with the power"),
            (
                "        if boot != _boot_id():\n",
                "        if False:\n",
                "what was extracted before a crash of the machine counts",
            ),
            (
                "        elif found != asdict(identity):\n",
                "        elif False:\n",
                "another backup's restore is gone on with",
            ),
            ('        os.ftruncate(self.fd, text.rfind(b"\\n") + 1)\n', "", "a line that was cut spoils the journal"),
            (
                "journal = _open(directory, os.O_CREAT | os.O_EXCL)",
                "journal = _open(directory, os.O_CREAT)",
                "two restores begin in one directory",
                "the lock on the file, taken at once, refuses the second",
            ),
            (
                '        self.verified = None\n        self._append({"boot": None})',
                '        self._append({"boot": None})',
                "files count as compared that are extracted again",
            ),
        ],
    ),
    *of(
        "restore/layer.py",
        _CHAIN,
        [
            (
                "        if files != self.files:\n",
                "        if False:\n",
                "a file that an older backup lacks isn't missed",
            ),
            (
                "                if self._awaited[key]:\n",
                "                if True:\n",
                "a damaged file of an older backup isn't noticed",
            ),
            ("if not line.startswith(_PARENT))", "if line)", "a combined backup can't be started"),
        ],
    ),
    *of(
        "restore/overlay.py",
        _CHAIN,
        [
            (
                "    if before > header.truncation * BLOCK:\n        os.ftruncate(fd, header.truncation * BLOCK)\n",
                "",
                "blocks that were cut off are back",
            ),
            (
                "        os.ftruncate(fd, header.length * BLOCK)\n    for",
                "        pass\n    for",
                "a relation has a wrong length",
            ),
        ],
    ),
    *of(
        "restore/overlay.py",
        ("unit/restore/test_short_writes.py",),
        [("        offset += written\n", "", "the rest of a short write goes to a wrong place")],
    ),
)
