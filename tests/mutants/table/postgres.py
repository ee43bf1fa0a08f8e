"""What is known of PostgreSQL."""

from __future__ import annotations

from tests.mutants.mutant import of

_WAL = ("unit/postgres/test_wal_bounds.py", "unit/postgres/test_wal.py")
_CHECK = ("unit/postgres/test_wal_bounds.py", "unit/postgres/test_wal_check.py")

MUTANTS = (
    *of(
        "postgres/archiving.py",
        (
            "unit/postgres/test_archiving.py",
            "integration/test_check_server.py::test_an_archiver_that_fails_and_the_queue_behind_it",
        ),
        [
            (
                'if metadata.in_recovery and metadata.archive_mode != "always":',
                "if False:",
                "a standby that archives nothing isn't noticed",
            ),
            (
                "    if _ARCHIVES_NOTHING.fullmatch(command):\n",
                "    if False:\n",
                "an archive_command that stores nothing isn't noticed",
            ),
            (
                " or _problem_of_archiver(connection)",
                "",
                "an archiver that fails isn't noticed",
            ),
        ],
    ),
    *of(
        "postgres/backup_mode.py",
        ("unit/postgres/test_backup_mode.py",),
        [
            (
                "self._interval * 1000 if self._interval",
                "self._interval if self._interval",
                "the session is asked in milliseconds",
            ),
            (
                "        if timeline != begin:\n            raise",
                "        if False:\n            raise",
                "a promotion during the backup isn't noticed",
            ),
            (
                "        poll.register(self._connection.fileno(), select.POLLIN)\n",
                "",
                "a lost session is noticed with the next question only",
            ),
            (
                "                self._on_lost(OperationError(",
                "                (OperationError(",
                "nobody is told that the session is lost",
            ),
            (
                "                if not self._connection.broken:\n                    continue",
                "                if True:\n                    continue",
                "a lost session counts as a cancelled query",
            ),
            (
                "        for descriptor in (self._wake_read, self._wake_write):\n            os.close(descriptor)",
                "",
                "each backup costs two descriptors",
            ),
        ],
    ),
    *of(
        "postgres/connection.py",
        ("unit/postgres/test_connection.py", "unit/postgres/test_backup_mode.py"),
        [
            ('(0, "statement_timeout", "0"),\n', "", "a role's statement_timeout ends the backup"),
            ('(0, "search_path", ""),\n', "", "a user's function answers for PostgreSQL's"),
            ('"tcp_user_timeout": 40_000', '"tcp_user_timeout": 40', "a slow network counts as a lost one"),
            (
                'if any("@" in host[1:] for host',
                'if any("@@" in host[1:] for host',
                "a message names a part of a password",
            ),
            (
                "reason = re.sub(r'\".*\"', '\"...\"', first_line(error))",
                "reason = first_line(error)",
                "a message names a part of the connection string",
            ),
        ],
    ),
    *of(
        "postgres/control_file.py",
        ("unit/postgres/test_control_file.py",),
        [
            (
                "        if is_whole(data):\n            return data",
                "        return data",
                "half an update of the control file is stored",
            ),
            (
                "    if len(data) < _MAX_DATA + 4:",
                "    if len(data) < _MAX_DATA:",
                "a control file that is cut is an error of ours",
            ),
            ("== struct.unpack_from", ">= struct.unpack_from", "a checksum that doesn't fit is accepted"),
            ("_IN_PRODUCTION = 6", "_IN_PRODUCTION = 5", "a standby counts as a primary"),
        ],
    ),
    *of(
        "postgres/page_checksum.py",
        ("unit/postgres/test_page_checksum.py",),
        [
            ("^ numbers.astype(np.uint32)) %", ") %", "a page in a wrong place isn't noticed"),
            ("% np.uint32(65535) + np.uint32(1)", "% np.uint32(65536)", "right pages are called damaged"),
            (
                "is_wrong[index] = words[index].any()",
                "is_wrong[index] = False",
                "a page that lost its header isn't noticed",
            ),
            (
                "is_wrong & (halves[:, _UPPER_WORD] == 0)",
                "halves[:, _UPPER_WORD] == -1",
                "a page that was never used is called damaged",
            ),
            ("    first.view(np.uint16)[:, _CHECKSUM_WORD] = 0\n", "", "right pages are called damaged"),
            ("zeros, zeros):", "zeros):", "right pages are called damaged"),
        ],
    ),
    *of(
        "postgres/timeline.py",
        ("unit/postgres/test_timeline.py",),
        [
            (" or switch.end < previous.end:", ":", "a history that goes backwards is believed"),
            (
                "previous.timeline < switch.timeline < timeline",
                "previous.timeline < switch.timeline",
                "a timeline is its own ancestor",
            ),
            (
                "        if match is None:\n            raise",
                "        if match is None:\n            continue\n            raise",
                "a line that is spoiled is passed over",
            ),
            ("    if not found:\n        raise", "    if False:\n        raise", "an empty history is believed"),
        ],
    ),
    *of(
        "postgres/wal.py",
        _WAL,
        [
            (
                "    if size != header.segment_size:\n",
                "    if size > header.segment_size:\n",
                "a segment that is cut is accepted",
            ),
            (
                "    if header.page_address != name.start_lsn(header.segment_size):\n",
                "    if False:\n",
                "a segment under another's name is accepted",
            ),
            ("    if header.timeline > name.timeline:\n", "    if False:\n", "WAL of a newer timeline is accepted"),
            (
                "    refuse_foreign(name, header, system_identifier)\n    return header",
                "    return header",
                "WAL of another cluster is accepted",
            ),
            (
                "MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE and size & (size - 1) == 0",
                "MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE",
                "a segment size that isn't a power of two is accepted",
            ),
            ("MIN_SEGMENT_SIZE <= size <= MAX", "MIN_SEGMENT_SIZE < size <= MAX", "segments of 1 MiB are refused"),
            ("if magic not in WAL_MAGIC or not info", "if not info", "what isn't WAL is accepted"),
            ("    if block_size not in _PAGE_SIZES:\n", "    if False:\n", "a page size that none have is accepted"),
            (
                r'_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")',
                r'_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")',
                "what follows an LSN is ignored",
            ),
        ],
    ),
    *of(
        "postgres/wal_check.py",
        _CHECK,
        [
            (
                "                and address == first_address + self._position\n",
                "",
                "a page in a wrong place isn't noticed",
            ),
            (
                "                and (left == self._left or not self._left)\n",
                "",
                "a page that says another length of what goes on isn't noticed",
            ),
            (
                "            self._end = None\n            self._lose()",
                "            self._end = None",
                "the next record is looked for where none begins",
            ),
            (
                "                findings.append(Finding(self._end, what))\n",
                "",
                "a page of zeros amid WAL isn't noticed",
            ),
            (
                "if self._left and left != self._left and not info & _OVERWRITES:",
                "if False:",
                "a record that is too short isn't noticed",
            ),
            (
                "            and self._crc32c(self._head[:_BEFORE_CRC], self._checksum) != _unpack_length(self._head, _BEFORE_CRC)[0]\n",
                "            and False\n",
                "damage to a record on two pages isn't noticed",
            ),
            (
                "            if checksum != _unpack_length(page, position + _BEFORE_CRC)[0]:\n",
                "            if False:\n",
                "damage to a record isn't noticed",
            ),
            ("            or not old\n", "", "a page from the future behind the end isn't noticed"),
            (
                "            or address % self.header.segment_size != begin\n",
                "",
                "a page from elsewhere behind the end isn't noticed",
            ),
            (
                "        if doubt := self._doubt or self._end:\n            findings.append(doubt)",
                "        if self._doubt or self._end:\n            pass",
                "damage to the last record of a page isn't noticed",
            ),
            (
                "        return self._records.confirmed_by_end()",
                "        return []",
                "damage at the end of a segment isn't noticed",
            ),
            (
                "if not (before._lost or before._doubt or before._end):",
                "if False:",
                "a record on two segments isn't checked",
            ),
            ("    return position + 7 & ~7", "    return position + 3 & ~3", "records are looked for where none begin"),
            (
                "            self._cut += data[:missing]\n            data = data[missing:]",
                "            self._cut += data[:missing]",
                "pieces that cut a page are read wrongly",
            ),
        ],
    ),
    *of(
        "postgres/wal_files.py",
        ("unit/postgres/test_wal_bounds.py", "unit/postgres/test_wal_files.py"),
        [
            ('    if not content.endswith(b"\\n"):\n', "    if False:\n", "a history file that is cut is accepted"),
            (
                "    if not _LABEL.match(content):\n",
                "    if not _LABEL.search(content):\n",
                "a page of a proxy that holds a label is accepted",
            ),
            ("    parse_history(content, name.timeline)\n", "", "a history file of another timeline is accepted"),
        ],
    ),
    *of(
        "postgres/wal_summaries.py",
        ("unit/postgres/test_wal_bounds.py", "unit/postgres/test_wal_summaries.py"),
        [
            (
                "            if summary.start > position:\n",
                "            if False:\n",
                "changed blocks are missing from an increment",
            ),
            ("        if position < end:\n", "        if False:\n", "the last changes are missing from an increment"),
            ("if summary.timeline != timeline or summary.end", "if summary.end", "summaries of another timeline count"),
            (
                "position = max(position, summary.end)",
                "position = summary.end",
                "summaries that overlap are taken for a gap",
            ),
        ],
    ),
)
