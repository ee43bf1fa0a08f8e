"""The file that marks a directory as half restored, so that the same command can go on after a kill or a crash.

``.barman-cloud-restore`` is in the recovery directory from the first moment of a restore to the last. Its first line
says which backup is restored to where; each further one, which archive is extracted and what that archive leaves to be
done at the end; a last one, that all files match the manifest. For a chain one says that it isn't restored in place.
What was written before the machine (not just the program) stopped may be lost, so after a reboot all archives are
extracted again. The file is locked while a restore runs.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from barman_cloud.errors import OperationError
from barman_cloud.restore.durability import sync_path
from barman_cloud.restore.tree import Outcome

NAME = ".barman-cloud-restore"


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be equal for a restore to be continued. ``tablespaces`` maps oids (as text) to directories."""

    url: str
    server: str
    backup_id: str
    tablespaces: Mapping[str, str]
    delta: bool = False
    """The directory wasn't empty; what is as the backup has it is kept."""


@dataclass(slots=True)
class Journal:
    """An open, locked journal. ``finished`` maps the keys of archives that need not be extracted again."""

    path: Path
    fd: int
    finished: dict[str, Outcome] = field(default_factory=dict)
    delta: bool = False
    merging: bool = False
    """The files of a chain are put together while they are written (``merge``), and not in place."""
    verified: int | None = None
    """How many files were found to be as the manifest says, once all were extracted."""

    def add(self, key: str, outcome: Outcome) -> None:
        """Note that the archive ``key`` is extracted; callers take turns."""
        self._append({"archive": key, **outcome.to_json()})

    def add_verified(self, count: int) -> None:
        """Note that all files are as the manifest says: what is changed in the directory from now on is ours."""
        self.verified = count
        self._append({"verified": count})

    def add_merging(self) -> None:
        """Note that files are put together while they are written, before the first one is."""
        self.merging = True
        self._append({"merging": True})

    def forget(self) -> None:
        """Let this run and the next one extract everything again: what is there is wrong, or not known."""
        self.finished.clear()
        self.verified = None
        self._append({"boot": None})

    def remove(self) -> None:
        """Delete the file: the directory is complete."""
        self.path.unlink()

    def close(self) -> None:
        """Release the lock; the file stays."""
        os.close(self.fd)

    def begin(self, identity: Identity) -> None:
        """Write the first lines, on disk: without them nobody would know what is in the directory."""
        self._append(asdict(identity))
        self._append({"boot": _boot_id()})
        os.fsync(self.fd)
        sync_path(self.path.parent)

    def read(self, identity: Identity) -> None:
        """Fill ``finished`` from the file, and cut off a last line that is incomplete."""
        with open(self.fd, "rb", closefd=False) as file:
            text = file.read()
        lines = text[: text.rfind(b"\n") + 1].splitlines()
        os.ftruncate(self.fd, text.rfind(b"\n") + 1)
        if not lines:
            # Killed before the first line was complete, so before anything else was written.
            self.delta = identity.delta and any(item.name != NAME for item in self.path.parent.iterdir())
            self.begin(identity)
            return
        found, *entries = self._parse(lines)
        self.delta = identity.delta
        if identity.delta and found == asdict(replace(identity, delta=False)):
            # It was begun in an empty directory.
            self.delta = False
        elif found != asdict(identity):
            raise OperationError(
                f"{self.path.parent} holds an unfinished restore of backup {found.get('backup_id')} of "
                f"{found.get('server')}, and this is not the same restore",
                hint="finish that restore with the command it was begun with, or empty the directories",
            )
        boot = None
        for entry in entries:
            if "boot" in entry:
                boot = entry["boot"]
                self.finished.clear()
                self.verified = None
            elif "merging" in entry:
                self.merging = True
            elif "verified" in entry:
                self.verified = entry["verified"]
            else:
                self.finished[entry["archive"]] = Outcome.from_json(entry)
        if boot != _boot_id():
            self.finished.clear()
            self.verified = None
            self._append({"boot": _boot_id()})

    def _parse(self, lines: Sequence[bytes]) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise OperationError(
                f"{self.path} is damaged, so that the restore into {self.path.parent} can't go on",
                hint="empty the directory (and those of the tablespaces) and run the command again",
            ) from error

    def _append(self, entry: Mapping[str, Any]) -> None:
        os.write(self.fd, (json.dumps(entry) + "\n").encode())


def start(directory: Path, identity: Identity) -> Journal:
    """Begin a journal in the empty ``directory``."""
    journal = _open(directory, os.O_CREAT | os.O_EXCL)
    journal.begin(identity)
    return journal


def resume(directory: Path, identity: Identity) -> Journal | None:
    """Return the journal of an interrupted restore of the same thing, None if ``directory`` has no journal.

    ``OperationError`` if it is of another backup, or if another process is restoring into the directory now.
    """
    try:
        journal = _open(directory, os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        journal.read(identity)
    except BaseException:
        journal.close()
        raise
    return journal


def _open(directory: Path, flags: int) -> Journal:
    fd = os.open(directory / NAME, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise OperationError(f"another process is restoring into {directory}") from None
    return Journal(directory / NAME, fd)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
