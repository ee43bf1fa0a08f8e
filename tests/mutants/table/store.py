"""A local directory as a store."""

from __future__ import annotations

from tests.mutants.mutant import of

MUTANTS = (
    *of(
        "store/local.py",
        (
            "unit/test_durable_order.py",
            "unit/store/test_local.py",
            "unit/store/test_local_contract.py",
            "unit/catalog/test_time_zones.py",
        ),
        [
            (
                "datetime.fromtimestamp(status.st_mtime, UTC))",
                "datetime.fromtimestamp(status.st_mtime).replace(tzinfo=UTC))",
                "the time of an object is off by the machine's zone",
            ),
            (
                "                with self._errors(key, writing=True):\n                    os.fsync(descriptor)\n",
                "",
                "an object gets its name before it is on disk",
            ),
            ("                _fsync_directory(path.parent)\n", "", "the name of an object is lost with the power"),
            (
                "            directory.mkdir(mode=0o700)\n        _fsync_directory(directory.parent)",
                "            directory.mkdir(mode=0o700)",
                "a new folder is lost with the power",
            ),
            (
                "                    os.link(temporary, path)\n",
                "                    temporary.replace(path)\n",
                "a create isn't conditional",
            ),
            ("            temporary.unlink(missing_ok=True)\n", "            pass\n", "unfinished files stay"),
            (
                "        if directory == self._root:\n            raise self._no_root()\n",
                "",
                "a file system that isn't mounted is written to",
            ),
            ("            self.refuse_larger(key, size, limit)\n", "", "an object of any size is read into memory"),
            (
                "                    if self.head(key).etag != opened.etag:\n                        raise self._changed(key)\n",
                "",
                "an object that is replaced while it is read isn't noticed",
            ),
            (
                "            if etag is not None and opened.etag != etag:\n",
                "            if False:\n",
                "another version than the one asked for is read",
            ),
            (
                '{e.name}/" if e.is_dir() else e.name, e) for e in entries if not e.name.startswith(TEMPORARY)',
                '{e.name}/" if e.is_dir() else e.name, e) for e in entries',
                "unfinished files count as objects",
            ),
            ("os.O_CLOEXEC, 0o600)", "os.O_CLOEXEC, 0o644)", "others may read what is stored"),
            (
                "directory.mkdir(mode=0o700)\n        _fsync",
                "directory.mkdir(mode=0o755)\n        _fsync",
                "others may look into the store",
            ),
            (
                "key.startswith(prefix) and key > start_after",
                "key.startswith(prefix) and key >= start_after",
                "a listing repeats the key that it goes on after",
            ),
            (
                "while directory != self._root:",
                "while directory != self._root.parent:",
                "the last deletion removes the store",
            ),
            (
                'if any(segment in ("", ".", "..") or segment',
                'if any(segment in ("", ".") or segment',
                "a key leads out of the store",
            ),
            (
                "            finally:\n                os.close(descriptor)\n            with self._errors",
                "            finally:\n                pass\n            with self._errors",
                "each object that is written costs a descriptor",
            ),
            (
                "        os.fsync(descriptor)\n    finally:\n        os.close(descriptor)",
                "        os.fsync(descriptor)\n    finally:\n        pass",
                "each folder that is made durable costs a descriptor",
            ),
            (
                "min(range_size, stop - position), position)",
                "min(range_size, stop - position), start)",
                "a range is read twice",
            ),
            (
                "                failures[key] = str(error)\n                continue\n",
                "                continue\n",
                "an object that can't be deleted counts as deleted",
            ),
            (
                '            if path.is_dir():\n                raise IsADirectoryError(errno.EISDIR, "is a directory")\n',
                "",
                "a folder counts as an object",
            ),
        ],
    ),
)
