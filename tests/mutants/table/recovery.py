"""What a restore decides beforehand, and what recovery is told."""

from __future__ import annotations

from tests.mutants.mutant import of

MUTANTS = (
    *of(
        "restore/places.py",
        ("unit/restore/test_places.py", "unit/restore/test_archive_restore.py"),
        [
            (
                '    if not _is_below(text, _USUAL) and (system := _is_below(text, _SYSTEM)):\n        return f"below {system}, which is the system\'s"\n',
                "",
                "a backup writes into the system's directories",
            ),
            (
                '    if any(part.startswith(".") for part in Path(text).parts):\n        return "a hidden directory, or below one"\n',
                "",
                "a backup writes into hidden directories",
            ),
            (
                '    if Path(text).is_relative_to(target.resolve()):\n        return f"inside the recovery directory {target}"\n',
                "",
                "a tablespace lies inside PGDATA",
            ),
            ("        if other != what or any(", "        if any(", "two tablespaces go to one place"),
        ],
    ),
    *of(
        "restore/reach.py",
        ("unit/restore/test_reach.py",),
        [
            (
                "if settings.time and info.end_time and settings.time < info.end_time:",
                "if False:",
                "a target before the backup's end is accepted",
            ),
            (
                "settings.lsn < parse_lsn(info.end_xlog):",
                "settings.lsn <= parse_lsn(info.end_xlog):",
                "a target at the backup's very end is refused",
            ),
            (
                "stored + _RESOLUTION > time",
                "stored > time",
                "a target in the second in which a segment was stored is refused",
            ),
            (
                "number >= settings.lsn // size",
                "number > settings.lsn // size",
                "a target in the last segment is refused",
            ),
            (
                "    if gap is None:\n        return None\n    first, last",
                "    if True:\n        return None\n    first, last",
                "a backup whose own WAL is missing is restored",
            ),
            ("        if reached or gap is not None:\n", "        if reached:\n", "a gap on the way isn't seen"),
            (
                "left < parse_lsn(info.end_xlog):",
                "left > parse_lsn(info.end_xlog):",
                "a timeline that left before the backup ended is accepted",
            ),
            (
                "        if not force:\n            raise",
                "        if force:\n            raise",
                "problems stop nobody",
            ),
        ],
    ),
    *of(
        "restore/recovery_settings.py",
        ("unit/test_durable_order.py", "unit/restore/test_recovery_settings.py"),
        [
            (
                'self.time.isoformat(" ") if',
                'self.time.replace(tzinfo=None).isoformat(" ") if',
                "the target is off by the server's zone",
            ),
            (
                '        values.update((name, "") for name in _TARGETS if name not in chosen)\n',
                "",
                "a target that was set before stops the start",
            ),
            (
                "    (directory / _SIGNALS[not settings.standby]).unlink(missing_ok=True)\n",
                "",
                "a recovered cluster stays a standby",
            ),
            (
                '.replace("%", "%%")',
                "",
                "PostgreSQL takes a part of the URL for a file's name",
            ),
            (
                'abort = ["--abort-recovery-on-error"] if abort_on_error else []',
                "abort: list[str] = []",
                "a store that fails ends recovery early",
            ),
            (
                '            values["recovery_target_inclusive"] = "off"\n',
                "            pass\n",
                "the transaction that was not wanted is there",
            ),
            ("        if len(self.targets()) > 1:\n", "        if False:\n", "two targets are set"),
            ('    if "\\n" in value or "\\r" in value:\n', "    if False:\n", "a value becomes a setting of its own"),
            ('    before = _BLOCK.sub(b"", found)', "    before = found", "settings of an earlier restore hold"),
        ],
    ),
    *of(
        "restore/room.py",
        ("unit/restore/test_room.py", "unit/restore/test_delta.py"),
        [
            (
                "self.needed - self.present - self.free",
                "self.needed - self.present - self.free * 2",
                "a disk that is too small is filled",
            ),
            ("-(-entry.size // _BLOCK) * _BLOCK", "entry.size // _BLOCK * _BLOCK", "small files take no room"),
            (
                "status.f_bfree if os.geteuid() == 0 else status.f_bavail",
                "status.f_blocks",
                "room that is taken counts as free",
            ),
            ("if sure.short and not room.compressing and not force:", "if False:", "a restore begins without room"),
        ],
    ),
    *of(
        "restore/snapshot.py",
        ("unit/restore/test_snapshot_mounts.py",),
        [
            (
                "elif mount.options != snapshot.mount_options:",
                "elif False:",
                "a disk that is mounted with other options is accepted",
            ),
            (
                "mount.mount_point == snapshot.mount_point), None)",
                "True), None)",
                "a disk that is mounted elsewhere is accepted",
            ),
            (
                "    if missing:\n        raise SnapshotError(",
                "    if False:\n        raise SnapshotError(",
                "a snapshot without a disk isn't missed",
            ),
        ],
    ),
)
