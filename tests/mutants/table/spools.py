"""What one call of the WAL commands leaves for the next, and the processes in the background."""

from __future__ import annotations

from tests.mutants.mutant import of

_SPOOL = ("unit/wal/test_spool.py", "unit/store/test_providers.py")

MUTANTS = (
    *of(
        "wal/archive_ahead.py",
        ("unit/wal/test_archiver_order.py", "unit/wal/test_archive_ahead.py"),
        [
            (
                "        return (os.path.basename(request),)",
                "        return ()",
                "PostgreSQL's second question isn't answered",
            ),
            (
                "            self._folder, self._ready = folder, []",
                "            self._folder = folder",
                "files of another cluster count as ready",
            ),
        ],
    ),
    *of(
        "wal/archive_spool.py",
        ("unit/wal/test_archive_spool.py",),
        [
            (" and line == identity(status, _checksum_of(file))", "", "a file that changed counts as archived"),
            ("TRUSTED_SECONDS = 600", "TRUSTED_SECONDS = 600_000", "an old entry counts"),
            ("-TRUSTED_SECONDS < age < TRUSTED_SECONDS", "age < TRUSTED_SECONDS", "an entry from the future counts"),
            (
                "directory is None or not holds(directory, path, deadline)",
                "directory is None",
                "a file counts as archived without a look",
            ),
            (
                '    if "BARMAN_HOOK" in os.environ:\n        return False\n',
                "",
                "a hook's archive isn't told from the server's",
            ),
            (
                "        value = checksum(memoryview(piece)[:length], value)",
                "        value = checksum(memoryview(piece)[:length])",
                "only the last piece of a file counts",
            ),
        ],
    ),
    *of(
        "wal/background.py",
        ("unit/wal/test_archiver_order.py", "unit/wal/test_archive_ahead.py", "unit/wal/test_restore_ahead.py"),
        [
            (
                "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
                "fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)",
                "two processes work in one spool",
            ),
            (
                "                self._workers.close()\n                self._drop_all_but(())",
                "                self._workers.close()",
                "entries outlive the process that knows of them",
            ),
            (
                '                if name.endswith((".part", ".tmp")):\n                    directory.remove(name)\n',
                "                pass\n",
                "what a killed process left is never removed",
            ),
            (
                "            self._drop_all_but({*window, *self._still_wanted(request)})\n",
                "            pass\n",
                "the spool grows without end",
            ),
            (
                '            if not self._directory.holds("lock"):\n                return\n',
                "",
                "a process works on although its spool is gone",
            ),
            ("                self._directory.remove(marker)\n", "", "a call waits for work that has ended"),
            ("                    self._failures = 0\n", "", "failures that lie far apart end the process"),
        ],
    ),
    *of(
        "wal/restore_spool.py",
        ("unit/wal/test_restore_ahead.py",),
        [
            (
                "    if not _fits(directory, name, destination):\n        directory.remove(name)\n        return False\n",
                "",
                "a segment of another cluster is delivered from the spool",
            ),
            ("directory.stat(name).st_size == size and ", "", "a segment of a wrong size is delivered from the spool"),
            (" and own in (None, system)", "", "a spool that another cluster filled is used"),
        ],
    ),
    *of(
        "wal/spool.py",
        _SPOOL,
        [
            ('    "AWS_ENDPOINT_URL_S3",\n', "", "two stores share a spool"),
            ('    "AZURE_STORAGE_CONNECTION_STRING",\n', "", "two accounts share a spool"),
            ('    "AWS_PROFILE",\n', "", "two profiles share a spool"),
            (" and status.st_nlink == 1\n", "\n", "a file that has a second name is taken for the program's own"),
            (
                "stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()",
                "stat.S_ISREG(status.st_mode)",
                "a file of another user is taken for the program's own",
            ),
            (
                "if status.st_uid != os.geteuid() or status.st_mode & 0o022:",
                "if status.st_uid != os.geteuid():",
                "a directory that others may write into is used",
            ),
            (
                "not directory.holds(_OWNER_FILE) or directory.read(_OWNER_FILE) != line",
                "not directory.holds(_OWNER_FILE)",
                "another spool under this name is used",
            ),
            (" or (around & 0o022 and not around & stat.S_ISVTX)", "", "a link that others may have made is followed"),
            (
                "if os.fstat(level).st_uid not in (0, os.geteuid()):",
                "if False:",
                "a directory of another user is walked through",
            ),
            (
                '        temporary = f"{name}.{os.getpid()}.tmp"\n',
                "        temporary = name\n",
                "half an entry can be read",
            ),
            (
                "return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC,",
                "return os.open(name, flags | os.O_CLOEXEC,",
                "a link in the spool is followed",
            ),
            (
                "            if any(not found.startswith(_OWNER_FILE) for found in directory.names()):\n",
                "            if False:\n",
                "a directory full of somebody's files is taken over",
            ),
            (
                "    return directory if directory.holds(link) else None",
                "    return directory",
                "a link of another command line leads here",
            ),
            (
                '    text = "\\0".join((*parts, "", *variables))',
                '    text = "".join((*parts, "", *variables))',
                "two servers share a spool",
            ),
        ],
    ),
)
