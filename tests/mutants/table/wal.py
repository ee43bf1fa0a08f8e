"""Archiving, fetching, receiving and delivering WAL."""

from __future__ import annotations

from tests.mutants.mutant import of

_ARCHIVER = ("unit/wal/test_archiver_order.py", "unit/wal/test_archiver.py", "unit/wal/test_partial_segments.py")

MUTANTS = (
    *of(
        "wal/archiver.py",
        (*_ARCHIVER, "unit/wal/test_archive_ahead.py", "unit/catalog/test_identity.py"),
        [
            (
                "            if not os.path.exists(mark):  # what was read",
                "            if False:  # what was read",
                "a segment that was recycled while it was read is stored under the old name",
            ),
            (
                "        if not os.path.exists(mark):\n            return None\n",
                "",
                "a file that doesn't wait any more is read ahead",
                "the second look, after the reading, refuses it all the same; this one only saves the reading",
            ),
            ("if_absent=not replace", "if_absent=False", "a segment is overwritten with another content"),
            (
                "            self._compare(file, key)\n            log.info",
                "            log.info",
                "a segment counts as archived although another one has its name",
            ),
            ("return end == file.size", "return True", "a stored copy that is shorter counts as the same"),
            ("        if not equal:\n", "        if False:\n", "another content counts as the same"),
            (
                "            if part != file.read(position, len(part)):\n                return False\n",
                "",
                "contents aren't compared",
            ),
            (
                "        if self._identity and (cluster",
                "        if False and (cluster",
                "another cluster may archive here",
            ),
            (
                "        if not replace:\n            self._refuse_existing(key)",
                "        if False:\n            pass",
                "a large file is uploaded over what is there",
            ),
            (
                "if not self._options.overwrite and not _is_inner_segment(file.name):",
                "if False:",
                "a copy with another compression isn't noticed",
            ),
            (
                "name.kind is WalKind.SEGMENT and name.segment != 0",
                "name.kind is WalKind.SEGMENT",
                "the first segment of a folder isn't compared with other compressions",
            ),
            (
                'return differ and blank["stored"]',
                "return differ",
                "a longer partial segment gives way to a shorter one",
            ),
            (
                "if differ and not any(blank.values()):",
                "if False:",
                "two partial segments that disagree aren't noticed",
            ),
            (
                "if position + len(part) <= file.size else",
                "if position + len(part) < file.size else",
                "the end of a partial segment isn't compared",
            ),
            (
                "        size = self._upload(file, key, pieces, replace=bool(shorter))\n",
                "        self._objects.delete(shorter)\n        size = self._upload(file, key, pieces, replace=bool(shorter))\n",
                "the shorter partial segment goes before the longer one is stored",
            ),
            (
                "return archive_spool.identity(file.status, checksum)",
                "return archive_spool.identity(os.stat(path), checksum)",
                "what is remembered as stored is the file as it is afterwards",
            ),
            (
                "            yield from file.pieces(size, see=see)\n",
                "            yield from file.pieces(size)\n",
                "the checksum of what was stored isn't kept",
            ),
            (
                "            checksum = 0\n            yield",
                "            yield",
                "the checksum goes on from an earlier try",
                "the content is packed once for each call: nothing takes the pieces twice today",
            ),
            (
                'key=lambda name: (not name.endswith(".history"), name)',
                "key=lambda name: name",
                "history files are archived ahead after segments",
                "names of history files sort before all others of their timeline",
            ),
        ],
    ),
    *of(
        "wal/delivery.py",
        ("unit/test_durable_order.py", "unit/wal/test_delivery.py"),
        [
            (
                "os.fsync(file)",
                "os.fstat(file)",
                "a segment is delivered before it is on disk",
            ),
            (
                "            _remove(temporary, directory)\n            raise",
                "            raise",
                "a failed delivery leaves its file",
            ),
            (
                "status.st_uid == os.geteuid() and status.st_nlink == 1",
                "status.st_uid == os.geteuid()",
                "a file that has a second name is removed",
            ),
            ("        if noted:  #", "        if False:  #", "a signal waits for all of a long segment"),
            (
                "            rest = rest[os.write(file, rest) :]",
                "            rest = rest[os.write(file, rest) or len(rest) :][:0]",
                "the rest of a short write is lost",
            ),
            (
                "        deliver(_pieces(source, directory), destination)\n        _remove(source, directory)",
                "        deliver(_pieces(source, directory), destination)",
                "a segment that was copied stays in the spool",
            ),
            (
                "        if error.errno != errno.EXDEV:\n            raise\n",
                "",
                "any failure of a rename leads to a copy",
            ),
            ("os.lockf(file, os.F_TLOCK, 0)", "os.fstat(file)", "the file of a call at work is removed"),
        ],
    ),
    *of(
        "wal/key_hint.py",
        ("unit/wal/test_key_hint.py", "unit/wal/test_restorer.py"),
        [
            (" and name <= self.last", "", "segments behind the last one seen are guessed at"),
            ("            if found.name != name:\n                return None\n", "", "a gap counts as seen"),
            (
                "        elif found.suffix != suffix:\n            break\n",
                "",
                "a compression that changes isn't noticed",
            ),
        ],
    ),
    *of(
        "wal/restorer.py",
        ("unit/wal/test_restorer.py", "unit/wal/test_partial_segments.py"),
        [
            (
                "                if number == len(candidates):\n                    raise\n",
                "",
                "a damaged segment is a success without a file",
            ),
            (
                "        except ObjectNotFoundError:\n            return False\n        return True",
                "        except ObjectNotFoundError as error:\n            raise NotFoundError(str(error)) from error\n        return True",
                "a wrong guess ends a recovery",
            ),
            (
                "            refuse_foreign(name, header,",
                "            (name, header,",
                "a segment of another cluster is delivered",
            ),
            (
                "            check_size(size, name, header)\n            if check:\n                refuse_damage(name, check.finish())",
                "            if check:\n                refuse_damage(name, check.finish())",
                "a cut segment is delivered",
            ),
            (
                "                if check:\n                    refuse_damage(name, check.feed(piece))\n",
                "",
                "a damaged page is delivered",
            ),
            (
                "                if size > header.segment_size:\n                    check_size(size, name, header)\n",
                "",
                "content without end fills the disk",
            ),
            ("{folder}{name.text[:-1]}", "{folder}{name.text}", "a segment that is there isn't found"),
            (
                "if full or name.kind is not WalKind.SEGMENT or not self._partial:",
                "if full or name.kind is not WalKind.SEGMENT:",
                "a partial segment is delivered that wasn't wanted",
            ),
            (
                "        if full or name.kind",
                "        if name.kind",
                "a partial segment is delivered although the full one is there",
            ),
            (
                "records=thorough and not stored.has_checksum",
                "records=False",
                "the records of a segment aren't checked",
            ),
            (
                "            if self._check_pages:\n                check_history(content, name)\n",
                "",
                "a history file that is cut is delivered",
            ),
        ],
    ),
    *of(
        "wal/restore_ahead.py",
        ("unit/wal/test_restore_ahead.py",),
        [
            ("thorough=True", "thorough=False", "records of segments that are fetched ahead aren't checked"),
            (
                "            return\n        self._drop_all_but(())\n",
                "            return\n",
                "segments of another cluster stay in the spool",
            ),
            (
                "            restore_spool.note_damage(self._directory, name)\n",
                "",
                "a damaged segment's call doesn't look closely",
            ),
            (
                "            if found.is_full_segment:\n",
                "            if True:\n",
                "half a segment is fetched ahead",
                "the names that are asked for are those of full segments: a partial one is noted and never asked for",
            ),
        ],
    ),
    *of(
        "wal/stored.py",
        ("unit/wal/test_restorer.py", "unit/wal/test_archiver.py"),
        [
            (
                '        if size > limit:\n            raise IntegrityError(f"more than {limit} bytes when',
                '        if False:\n            raise IntegrityError(f"more than {limit} bytes when',
                "content without end fills the memory",
            ),
            ("    return compression is not None", "    return True", "what isn't compressed counts as checked"),
            ("bool(start[4] & 0x04)", "True", "zstd without a checksum counts as checked"),
        ],
    ),
    *of(
        "wal/wal_file.py",
        _ARCHIVER,
        [
            (
                "            if not more:\n                raise",
                "            if not more:\n                break\n                raise",
                "a file that became shorter is stored",
            ),
            ("        check_size(self.size, self.name, header)\n", "", "a segment that isn't whole is stored"),
            ("        check = self._page_check()\n", "        check = None\n", "damaged pages are stored"),
            (
                "            if self._check_content:\n                self._check_small_file()\n",
                "",
                "a history file that is cut is stored",
            ),
            (
                "            if self.size > SMALL_FILE_LIMIT:\n                raise",
                "            if False:\n                raise",
                "a small file of any size is read",
            ),
            (
                "start, self.name, system_identifier=",
                "start, self.name, system_identifier=None and ",
                "a segment of another cluster is stored",
            ),
        ],
    ),
)
