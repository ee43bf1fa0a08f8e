"""Receiving WAL: where it begins, what is acknowledged, what leaves the spool."""

from __future__ import annotations

from tests.mutants.mutant import of

_RECEIVER = ("unit/wal/test_receiver.py",)

MUTANTS = (
    *of(
        "wal/receive_plan.py",
        ("unit/postgres/test_wal_bounds.py", "unit/wal/test_receive_plan.py"),
        [
            (
                "if number < switch.end // self.segment_size:",
                "if number <= switch.end // self.segment_size:",
                "the segment in which a timeline ends is taken from the old one",
            ),
            (
                "        if place[0] > lineage.timeline:\n            raise",
                "        if False:\n            raise",
                "a server goes on in an archive that has a newer timeline",
            ),
            ("if following > number + 1]", "if following > number + 2]", "a gap of one segment isn't filled"),
            ("found = [*gaps, numbers[-1] + 1]", "found = [*gaps, numbers[-1]]", "the last segment is received again"),
            (" and lineage.timeline_of(number) == wal.timeline:", ":", "segments of another branch count as held"),
            (
                "if restart is not None and restart < numbers[0] else found",
                "if False else found",
                "older WAL that the slot keeps isn't received",
            ),
        ],
    ),
    *of(
        "wal/receive_spool.py",
        ("unit/test_durable_order.py", *_RECEIVER),
        [
            (
                "            _write(file, content, 0)\n            os.fsync(file)",
                "            _write(file, content, 0)",
                "a history file gets its name before it is on disk",
            ),
            (
                "dst_dir_fd=directory.descriptor)\n    os.fsync(directory.descriptor)",
                "dst_dir_fd=directory.descriptor)",
                "a segment's name is lost with the power",
            ),
            ("            os.fsync(self._file)\n", "", "a new segment isn't on disk"),
            (
                "            os.fsync(self._file)\n            os.fsync(directory.descriptor)",
                "            os.fsync(self._file)",
                "a new segment's name isn't on disk",
            ),
            ("        os.fdatasync(self._file)", "        os.fstat(self._file)", "acknowledged WAL isn't on disk"),
            (
                '        """Give the complete segment its name."""\n        self.sync()\n',
                '        """Give the complete segment its name."""\n',
                "a segment gets its name before it is on disk",
            ),
            (
                '        """Leave the segment as it is."""\n        self.sync()\n',
                '        """Leave the segment as it is."""\n',
                "what was acknowledged of a segment isn't on disk when it is left",
            ),
            (
                "fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
                "os.fstat(self._lock)",
                "two receivers use one spool",
            ),
            (
                "if name.endswith(PARTIAL) and self._is_begun(name):",
                "if False:",
                "acknowledged WAL of an unfinished segment is written over",
            ),
        ],
    ),
    *of(
        "wal/receive_upload.py",
        _RECEIVER,
        [
            (
                "            stored = self._archiver.archive(path)\n            os.unlink(path)",
                "            os.unlink(path)\n            stored = self._archiver.archive(path)",
                "a segment leaves the spool before it is stored",
            ),
            (
                "                if not stored:\n                    self._waiting.appendleft(path)\n",
                "",
                "a segment that could not be stored is forgotten",
            ),
            (
                "segment in self._stored_partials and segment in self._stored_segments",
                "segment in self._stored_partials",
                "a partial segment goes before the full one is stored",
            ),
            (
                "(path for path in self._waiting if os.path.basename(path) not in busy)",
                "iter(self._waiting)",
                "a shorter copy of a partial segment replaces a longer one",
            ),
        ],
    ),
    *of(
        "wal/archiver.py",
        _RECEIVER,
        [
            (
                "            if rest.count(0) != len(rest):\n                return start + same\n",
                "",
                "a partial copy of another past is deleted",
            )
        ],
    ),
    *of(
        "wal/receive_finish.py",
        ("unit/wal/test_receiver.py",),
        [
            ("                file.finish()\n", "", "a full segment keeps its unfinished name"),
            (
                "                    self.failure = error\n",
                "                    pass\n",
                "a disk that fails holds the receiver up for ever",
            ),
        ],
    ),
    *of(
        "wal/receive_memory.py",
        ("unit/wal/test_receive_direct.py",),
        [
            (
                "                if self._hash.digest() != self._digests[begin // CHUNK]:\n"
                "                    return begin - begin % CHUNK\n",
                "",
                "another past is taken for that of a large segment",
            ),
            (
                "self.unverified + len(part)\n",
                "0\n",
                "WAL of a large segment is acknowledged before it was compared",
            ),
        ],
    ),
    *of(
        "wal/receive_spooled.py",
        _RECEIVER,
        [
            (
                "            self._file.sync()\n        self._unsynced_since = None\n        self._flushed",
                "            pass\n        self._unsynced_since = None\n        self._flushed",
                "WAL is acknowledged that isn't on disk",
            ),
            ("        return used <= limit and on_disk\n", "        return on_disk\n", "the spool grows without end"),
            (
                "        return used <= limit and on_disk\n",
                "        return used <= limit\n",
                "a full disk ends the receiver",
            ),
            (
                "        self._finisher.drain()\n        if self._file is not None and",
                "        if self._file is not None and",
                "WAL is acknowledged while a segment before it isn't on disk",
            ),
            (
                "            piece = data[: size - position]\n",
                "            piece = data\n",
                "WAL is written behind a segment's end",
            ),
        ],
    ),
    *of(
        "wal/receive_finish.py",
        _RECEIVER,
        [("                file.finish()\n", "                pass\n", "a full segment keeps its unfinished name")],
    ),
    *of(
        "wal/receiver.py",
        _RECEIVER,
        [
            (
                "        if message.start != self._sink.written:\n            raise",
                "        if False:\n            raise",
                "WAL that doesn't follow is written down",
            ),
            (
                "stream.report(self._sink.received, self._reported)",
                "stream.report(self._sink.received, self._sink.written)",
                "WAL is acknowledged as flushed when it is written",
            ),
        ],
    ),
)
