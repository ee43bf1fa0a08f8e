"""A local directory as an object store: every object is a file of the same name.

A file appears under its name complete and on stable storage: it is written under a temporary name beside it, fsynced,
then linked or renamed, and its directory is fsynced. Files and directories are private to their owner, as PostgreSQL's
are. The directory of the URL has to exist, because one that doesn't may be a file system that isn't mounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from barman_cloud.buffers import write_all
from barman_cloud.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
)
from barman_cloud.store.base import (
    Buffer,
    Capabilities,
    DeleteFailedError,
    Listing,
    ObjectInfo,
    ObjectKind,
    ObjectStore,
    PendingUpload,
    RequestCounts,
    StoreURL,
    Tags,
)

TEMPORARY = ".barman-cloud-"
"""How the names of unfinished files begin; no object may be called so, and no listing shows them."""


class LocalStore(ObjectStore):
    """Files below one directory. Keys with empty or dotted segments have no file name and are refused."""

    capabilities = Capabilities(max_parts=1 << 40, min_part_size=1, max_object_size=1 << 62, tags=False)

    def __init__(self, url: StoreURL) -> None:
        self.url = url
        self.requests = RequestCounts()
        self._root = Path(url.bucket)

    # Writing ------------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        self._write(key, (data,), if_absent)

    def put_stream(
        self,
        key: str,
        chunks: Iterable[Buffer],
        *,
        kind: ObjectKind = "archive",
        part_size: int | None = None,
        concurrency: int = 4,
        tags: Tags | None = None,
    ) -> int:
        return self._write(key, chunks, if_absent=False)

    def _write(self, key: str, chunks: Iterable[Buffer], if_absent: bool) -> int:
        self.requests.add("put")
        path = self._path(key)
        with self._errors(key, writing=True):
            temporary, descriptor = self._create_temporary(path)
        try:
            try:
                size = 0
                for chunk in chunks:
                    with self._errors(key, writing=True):
                        size += write_all(descriptor, chunk)
                with self._errors(key, writing=True):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with self._errors(key, writing=True):
                if if_absent:
                    os.link(temporary, path)
                else:
                    temporary.replace(path)
                _fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def _create_temporary(self, path: Path) -> tuple[Path, int]:
        """Open a new file beside ``path``, making directories as needed; another process may be removing empty ones."""
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}")
        for last_try in (False, False, True):
            self._make_directories(path.parent)
            try:
                return temporary, os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                if last_try:
                    raise
        raise AssertionError

    def _make_directories(self, directory: Path) -> None:
        if directory.is_dir():
            return
        if directory == self._root:
            raise self._no_root()
        self._make_directories(directory.parent)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        _fsync_directory(directory.parent)

    # Reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        self.requests.add("get")
        with self._errors(key), self._path(key).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.refuse_larger(key, size, limit)
            return file.read() if limit is None else file.read(limit)

    def read(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        etag: str | None = None,
        concurrency: int = 4,
        range_size: int = 8 << 20,
    ) -> Iterator[Buffer]:
        path = self._path(key)
        with self._errors(key):
            file = path.open("rb", buffering=0)
        with file:
            opened = _info(key, os.fstat(file.fileno()))
            if etag is not None and opened.etag != etag:
                raise self._changed(key)
            stop = opened.size if end is None else min(end, opened.size)
            for position in range(start, stop, range_size):
                self.requests.add("get")
                with self._errors(key):
                    if self.head(key).etag != opened.etag:
                        raise self._changed(key)
                    data = os.pread(file.fileno(), min(range_size, stop - position), position)
                yield data

    def head(self, key: str) -> ObjectInfo:
        self.requests.add("head")
        path = self._path(key)
        with self._errors(key):
            status = path.stat()
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            return _info(key, status)

    # Listing ------------------------------------------------------------------------------------------------------

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        self.requests.add("list")
        self._check_root()
        yield from self._walk("", prefix, start_after or "")

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield the objects below ``folder``. Names of directories sort with their slash, which gives the order of
        keys.
        """
        for name, entry in self._entries(folder):
            key = folder + name
            if name.endswith("/"):
                below = key.startswith(prefix) or prefix.startswith(key)
                passed = start_after > key and not start_after.startswith(key)
                if below and not passed:
                    yield from self._walk(key, prefix, start_after)
            elif key.startswith(prefix) and key > start_after:
                with suppress(FileNotFoundError):
                    yield _info(key, entry.stat())

    def list_level(self, prefix: str) -> Listing:
        self.requests.add("list")
        self._check_root()
        folders: list[str] = []
        objects: list[ObjectInfo] = []
        for name, entry in self._entries(prefix):
            if not name.endswith("/"):
                with suppress(FileNotFoundError):
                    objects.append(_info(prefix + name, entry.stat()))
            elif next(self._walk(prefix + name, prefix, ""), None) is not None:
                folders.append(prefix + name)
        return Listing(tuple(folders), tuple(objects))

    def _entries(self, folder: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
        """Return the entries of a folder in order, directories with a slash at their end; none if it isn't there."""
        if any(segment in ("", ".", "..") for segment in folder.split("/")[:-1]):
            return []
        try:
            with self._errors(folder), os.scandir(self._root / folder) as entries:
                found = [
                    (f"{e.name}/" if e.is_dir() else e.name, e) for e in entries if not e.name.startswith(TEMPORARY)
                ]
        except ObjectNotFoundError:
            return []
        return sorted(found, key=lambda pair: pair[0])

    # Deleting, the directory itself -------------------------------------------------------------------------------

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        failures: dict[str, str] = {}
        for key in keys:
            self.requests.add("delete")
            try:
                path = self._path(key)
                with self._errors(key):
                    path.unlink()
            except ObjectNotFoundError:
                continue
            except (StoreError, AccessDeniedError) as error:
                failures[key] = str(error)
                continue
            self._remove_empty(path.parent)
        if failures:
            raise DeleteFailedError(failures)

    def _remove_empty(self, directory: Path) -> None:
        """Remove the directories that the deletion left empty, up to the root."""
        with suppress(OSError):
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        """Yield the temporary files of writers that were killed, and of those that are at work."""
        self.requests.add("list_uploads")
        self._check_root()
        folder = prefix.rpartition("/")[0]
        for directory, folders, files in os.walk(self._root / folder):
            folders.sort()
            for name in sorted(files):
                place = Path(directory).relative_to(self._root)
                key = "" if place == Path() else f"{place}/"
                # The key that a temporary file was to get isn't in its name.
                if name.startswith(TEMPORARY) and key.startswith(prefix):
                    with suppress(FileNotFoundError):
                        status = (Path(directory) / name).lstat()
                        began = datetime.fromtimestamp(status.st_mtime, UTC)
                        yield PendingUpload(f"{key}{name}", name, began, status.st_size)

    def abort_upload(self, upload: PendingUpload) -> bool:
        folder, _, name = upload.key.rpartition("/")
        if not name.startswith(TEMPORARY):
            raise StoreError(f"{self.object_url(upload.key)} is no unfinished file")
        directory = self._path(folder) if folder else self._root
        with self._errors(upload.key), suppress(FileNotFoundError):
            (directory / name).unlink()
        self._remove_empty(directory)
        return True

    def check(self) -> None:
        self.requests.add("check")
        self._check_root()
        if not os.access(self._root, os.R_OK | os.X_OK):
            raise AccessDeniedError(f"{self.url.text}: the directory may not be read", hint="check its owner and mode")

    def create_bucket(self) -> None:
        self.requests.add("create")
        with self._errors(""):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _check_root(self) -> None:
        with self._errors(""):
            if not self._root.is_dir():
                raise self._no_root()

    def _no_root(self) -> BucketNotFoundError:
        return BucketNotFoundError(
            f"{self.url.text}: the directory doesn't exist", hint="create it, or mount the file system it is on"
        )

    # Names and errors ---------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if any(segment in ("", ".", "..") or segment.startswith(TEMPORARY) for segment in segments) or "\0" in key:
            raise StoreError(f"{self.url.text}: {key!r} can't be the name of a file")
        return self._root.joinpath(*segments)

    def _changed(self, key: str) -> ObjectChangedError:
        return ObjectChangedError(f"{self.object_url(key)} has changed since it was last read")

    @contextmanager
    def _errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Turn the errors of the operating system into ours."""
        name = self.object_url(key) if key else self.url.text
        try:
            yield
        except (NotADirectoryError, IsADirectoryError) as error:
            if writing:
                raise StoreError(f"{name}: a file and a directory can't have the same name") from error
            raise ObjectNotFoundError(f"{name} doesn't exist") from error
        except FileExistsError as error:
            raise ObjectExistsError(f"{name} exists already") from error
        except FileNotFoundError as error:
            if not self._root.is_dir():
                raise self._no_root() from error
            raise ObjectNotFoundError(f"{name} doesn't exist") from error
        except PermissionError as error:
            raise AccessDeniedError(
                f"{name}: permission denied", hint="check owner and mode of the directory"
            ) from error
        except OSError as error:
            hint = (
                "free some space, or choose another directory" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
            )
            raise StoreError(f"{name}: {error.strerror or error}", hint=hint) from error


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
    return ObjectInfo(key, status.st_size, etag, datetime.fromtimestamp(status.st_mtime, UTC))


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
