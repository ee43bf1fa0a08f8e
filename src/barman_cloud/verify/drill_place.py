"""Where a drill restores to: a new directory, which is gone when the drill is over, or else by the next drill.

A drill that is killed by SIGKILL can't remove what may be terabytes. Its directory holds a file that the drill had
locked; the kernel releases the lock with the process, and the next drill in the same place removes what nobody locks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.errors import DrillError

log = logs.get_logger(__name__)

PREFIX = "barman-cloud-drill-"
LOCK = "drill.lock"


class Place:
    """The directory of one drill."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept = False

    @property
    def data(self) -> Path:
        """Where the data directory is restored to."""
        return self.root / "data"

    def rules(self, info: BackupInfo) -> dict[str, str]:
        """Return where each tablespace goes, by name. In-place ones go where they were, in the data directory."""
        return {
            tablespace.name: str(self.root / f"tablespace-{tablespace.oid}")
            for tablespace in info.tablespaces or ()
            if tablespace.location != f"pg_tblspc/{tablespace.oid}"
        }

    def cut_links(self) -> list[Path]:
        """Remove, and return, the symbolic links that lead out of the directory: what is there isn't of the backup.

        It may belong to a server that runs here, and one on the copy would write to it.
        """
        root = os.path.realpath(self.root)
        cut: list[Path] = []
        for folder, directories, files in os.walk(root):
            for name in (*directories, *files):
                path = Path(folder, name)
                if not path.is_symlink() or f"{os.path.realpath(path)}/".startswith(f"{root}/"):
                    continue
                target = path.readlink()
                log.warning("%s was a link to %s, which is not of this backup: removed from the copy", path, target)
                path.unlink()
                cut.append(path)
        wal = self.data / "pg_wal"
        if wal.resolve() in [path.resolve() for path in cut]:
            wal.mkdir(mode=0o700)
        return cut

    def keep(self) -> None:
        """Leave the directory when the drill is over; no later drill removes it."""
        (self.root / LOCK).unlink(missing_ok=True)
        self.kept = True


@contextmanager
def scratch(parent: Path | None) -> Iterator[Place]:
    """Make a directory in ``parent`` (None: where temporary files go) and remove it at the end.

    What killed drills of the same user have left there is removed first. ``DrillError`` if it can't be made.
    """
    parent = Path(os.path.abspath(parent or tempfile.gettempdir()))  # noqa: PTH100 - resolve() would follow links
    try:
        remove_abandoned(parent)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        hint = "give an existing directory that this user may write to with --directory"
        raise DrillError(f"no directory can be made in {parent}: {error.strerror}", hint=hint) from error
    place = Place(root)
    lock = None
    try:
        lock = _locked(root / LOCK)
        yield place
    finally:
        if not place.kept:
            try:
                log.info("removing %s", root)
                _remove(root)
            except KeyboardInterrupt:  # what asks for an end while this goes on doesn't get half of it
                if root.exists():
                    _remove(root)
                raise
        if lock is not None:
            os.close(lock)


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove and return what killed drills of this user have left. ``OSError`` if ``parent`` can't be listed."""
    removed: list[Path] = []
    for root in sorted(parent.iterdir()):
        if not root.name.startswith(PREFIX):
            continue
        lock = _abandoned(root)
        if lock is None:
            continue
        log.warning("removing %s, which a drill has left that was killed", root)
        _remove(root)
        os.close(lock)
        removed.append(root)
    return removed


def _abandoned(root: Path) -> int | None:
    """Return the descriptor of the lock of a drill's directory, which is now ours; None if it isn't abandoned."""
    try:
        status = root.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return None
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # kept, or removed at this moment
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _locked(path: Path) -> int | None:
    """Make the lock file and lock it; None on file systems that have no locks."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        log.info("%s can't be locked: %s", path, error)
        os.close(descriptor)
        new.unlink()
        return None
    new.rename(path)  # only now, so that no other drill can find it unlocked
    return descriptor


def _remove(root: Path) -> None:
    """Remove a directory with all that is in it; what is in the way is told in a WARNING. The lock goes last."""
    try:
        for path in list(root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        (root / LOCK).unlink(missing_ok=True)
        root.rmdir()
    except OSError as error:
        log.warning("%s can't be removed: %s", root, error)
