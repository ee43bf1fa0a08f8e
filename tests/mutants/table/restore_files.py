"""How a restore writes files and compares them."""

from __future__ import annotations

from tests.mutants.mutant import of

_EXTRACT = (
    "unit/test_durable_order.py",
    "unit/restore/test_links_and_checks.py",
    "unit/restore/test_extract.py",
    "unit/restore/test_archive_restore.py",
)
_ORDER = ("unit/test_durable_order.py",)

MUTANTS = (
    *of(
        "restore/delta.py",
        (*_ORDER, "unit/restore/test_restore_resumed.py", "unit/restore/test_delta.py"),
        [
            ("    if found != identifier:\n", "    if False:\n", "the directory of another cluster is written over"),
            ("    require_no_server(target)\n    try", "    try", "the directory of a running server is written over"),
            (
                "            durability.sync_path(control.parent)\n",
                "",
                "pg_control is back with the power in a directory that is half another",
            ),
            (
                "            control.unlink(missing_ok=True)\n",
                "            pass\n",
                "a directory that is half another can be started",
            ),
            (
                "                if prefix + item.name in listed and item.is_file(follow_symlinks=False):",
                "                if prefix + item.name in listed:",
                "a link in the place of a file stays",
                "what has the name of a file of the backup and isn't that file is replaced when it is written anew",
            ),
            (
                "place < len(self._hashes) and self._hashes[place] == hash(path)",
                "place < len(self._hashes)",
                "files are kept that differ",
            ),
            (
                "            elif os.path.realpath(path) in roots:\n                needed = True\n",
                "",
                "a tablespace inside PGDATA is removed",
            ),
        ],
    ),
    *of(
        "restore/durability.py",
        (*_ORDER, "unit/restore/test_durability.py"),
        [
            (
                "        os.fchmod(fd, mode)\n        os.fsync(fd)",
                "        os.fchmod(fd, mode)",
                "a setting gets its name before it is on disk",
            ),
            (
                "    temporary.replace(path)\n    sync_path(path.parent)",
                "    temporary.replace(path)",
                "the name of a setting is lost with the power",
            ),
            ("        file.flush()\n", "", "a setting is made durable before it is written"),
            ("        if call(fd) != 0:\n", "        if call(fd) > 0:\n", "a disk that fails isn't noticed"),
            ("            yield folder\n", "", "names aren't durable where a file system can't be flushed as a whole"),
            (
                "                    yield path\n",
                "                    pass\n",
                "files aren't durable where a file system can't be flushed as a whole",
            ),
            (">= (5, 8)", ">= (5, 0)", "errors of old kernels aren't noticed"),
            (
                "{root.stat().st_dev: root for root in roots}",
                "{0: root for root in roots}",
                "the tablespaces' file systems aren't flushed",
            ),
            (
                "        os.fsync(fd)\n    finally:\n        os.close(fd)\n\n\ndef replace_file",
                "        os.fsync(fd)\n    finally:\n        pass\n\n\ndef replace_file",
                "each directory that is made durable costs a descriptor",
            ),
            ("        os.fchmod(fd, mode)\n", "", "a setting can be read by nobody, or by all"),
        ],
    ),
    *of(
        "restore/extract.py",
        _EXTRACT,
        [
            (
                "_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
                "_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW",
                "a file is written into what is there",
            ),
            (
                "            if not self._tree.claim(path, self._order):\n                return\n",
                "",
                "an earlier archive's file wins over a later one's",
            ),
            (
                "return Attributes(member.mode & 0o777,",
                "return Attributes(member.mode & 0o7777,",
                "a stranger's set-id bits are restored",
            ),
            (
                "        if path in self.outcome.links:\n            raise",
                "        if False:\n            raise",
                "an archive has content below its own link",
                "links are made only when all content is in place, and content is written into real directories: clear() "
                "then refuses the link for the directory of its name",
            ),
            (
                '        if path in self._tree.set_aside and member.kind != "file":\n',
                "        if False:\n",
                "pg_control is a link",
            ),
            (
                "                crc = crc32c(data, crc)\n",
                "                crc = crc32c(data)\n",
                "only the last piece of a file counts",
            ),
            (
                "            os.close(self._open.popitem(last=False)[1])",
                "            self._open.popitem(last=False)",
                "each directory costs a descriptor",
            ),
        ],
    ),
    *of(
        "restore/extract.py",
        ("unit/restore/test_attributes.py",),
        [("0 <= member.mtime < _LATEST else 0", "True else 0", "an absurd time ends a restore")],
    ),
    *of(
        "restore/output.py",
        ("unit/restore/test_output.py",),
        [
            ("        if whole < self._filled:\n", "        if False:\n", "the end of a large file is lost"),
            (
                "                self._filled = 0\n",
                "                self._filled -= len(self._buffer) - 1\n",
                "a large file is shifted by a byte",
            ),
            (
                "error.errno != errno.EINVAL or not _switch",
                "not _switch",
                "a disk that fails is asked again without a word",
            ),
        ],
    ),
    *of(
        "restore/tree.py",
        _EXTRACT,
        [
            (' or ".." in parts or', " or", "a name leads out of the directory"),
            ('if name.startswith("/") or', "if", "an absolute name is restored somewhere"),
            (
                "_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
                "_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
                "content is written through a link",
            ),
            (
                "if self._writers.get(name, -1) > order:",
                "if self._writers.get(name, -1) >= order:",
                "a file that an archive has twice is the first one",
            ),
            (
                "sorted(links, key=lambda path: links[path].hard)",
                "sorted(links, key=lambda path: not links[path].hard)",
                "a hard link to a link can't be made",
            ),
            ("key=len, reverse=True)", "key=len)", "a directory that may not be searched hides what is below"),
            (
                "src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)",
                "src_dir_fd=folder, dst_dir_fd=parent)",
                "a hard link leads out of the directory",
            ),
            (
                "                os.close(fd)\n                fd = inner",
                "                fd = inner",
                "each level costs a descriptor",
            ),
            ("    if len(parts) > _DEEPEST:\n", "    if False:\n", "a tree too deep to be walked is made"),
        ],
    ),
    *of(
        "restore/verify.py",
        (
            "unit/restore/test_links_and_checks.py",
            "unit/restore/test_restore_manifest.py",
            "unit/restore/test_delta.py",
        ),
        [
            (
                '        descriptor = _open_regular(tree, parts)\n    except FileNotFoundError:\n        return "is missing"',
                "        descriptor = _open_regular(tree, parts)\n    except FileNotFoundError:\n        return None",
                "a missing file counts as verified",
            ),
            (
                "        if size != entry.size:\n",
                "        if size < entry.size:\n",
                "a file that is too long counts as verified",
            ),
            (
                "return None if found == entry.checksum.lower() else",
                "return None if found else",
                "a damaged file counts as verified",
            ),
            (
                "if entry.crc is not None and hash((entry.path, entry.size, entry.crc)) in written:",
                "if entry.crc is not None:",
                "files count as verified that nobody wrote",
            ),
            ("        if wrong:\n", "        if len(wrong) > 1:\n", "a single wrong file is accepted"),
            ('        return "is not a regular file"\n', "        return None\n", "a link counts as a file"),
            (
                "_READ_ONLY = os.O_RDONLY | os.O_NOFOLLOW |",
                "_READ_ONLY = os.O_RDONLY |",
                "a file is compared through a link",
            ),
            (
                "return any(found.start_lsn == begin for found in ranges)",
                "return True",
                "files are compared with another backup's manifest",
            ),
            ("    os.close(descriptor)\n    return None", "    return None", "what isn't a file costs a descriptor"),
        ],
    ),
    *of(
        "restore/worker.py",
        ("unit/restore/test_links_and_checks.py", "unit/restore/test_restore_manifest.py"),
        [
            (
                "    if (tally.size, tally.crc32c) != (expected.size, expected.checksum):\n",
                "    if tally.size != expected.size:\n",
                "a damaged archive isn't noticed",
            ),
        ],
    ),
)
