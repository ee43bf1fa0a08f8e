"""What stores' answers taught, remembered for the commands that follow.

``wal-archive`` runs once for each segment: what one run finds out by a refused request, the next ones needn't. Each
kind of fact is a small file of lines ``moment value address`` in the user's cache directory. All of it may be lost at
any time. A wrong region costs a request; a wrong answer about what a store does costs a promise (``s3.behaviour``), so
nothing is trusted for longer than a day, and the directory must be one that nobody else can write to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

TRUSTED_SECONDS = 86_400
"""Another server may take over an address."""
_MOST_BYTES = 64 << 10


def recall(kind: str, address: str, environ: Mapping[str, str]) -> str | None:
    """Return the value of ``kind`` that was learned of ``address`` within a day, or None."""
    file = _file(kind, environ, create=False)
    return None if file is None else _entries(file).get(address, (0, None))[1]


def remember(kind: str, address: str, value: str, environ: Mapping[str, str]) -> None:
    """Remember; that this is impossible costs later commands a request, nothing else."""
    file = _file(kind, environ, create=True)
    if file is None:
        return
    import time

    temporary = f"{file}.{os.getpid()}.tmp"
    entries = {**_entries(file), address: (int(time.time()), value)}
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as memory:
            memory.writelines(f"{moment} {text} {url}\n" for url, (moment, text) in entries.items())
        os.replace(temporary, file)
    except OSError:
        pass


def can_remember(environ: Mapping[str, str]) -> bool:
    """Tell whether there is a place to remember anything."""
    file = _file("", environ, create=True)
    return file is not None and os.access(os.path.dirname(file), os.W_OK)


def _file(kind: str, environ: Mapping[str, str], *, create: bool) -> str | None:
    """Return the path of the file, or None where there is no place for one that only this user can write to."""
    cache, home = environ.get("XDG_CACHE_HOME", ""), environ.get("HOME", "")
    if not os.path.isabs(cache):
        if not os.path.isabs(home):
            return None
        cache = os.path.join(home, ".cache")
    directory = os.path.join(cache, "barman-cloud")
    try:
        if create and os.path.isdir(home or cache):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        status = os.stat(directory)
    except OSError:
        return None
    private = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return os.path.join(directory, kind) if private else None


def _entries(file: str) -> dict[str, tuple[int, str]]:
    """Return what is remembered and still trusted, by address. A file that can't be read holds nothing."""
    import time

    entries: dict[str, tuple[int, str]] = {}
    now = time.time()
    try:
        with open(file, encoding="utf-8") as memory:
            lines = memory.read(_MOST_BYTES).splitlines()
        for line in lines:
            moment, value, address = line.split(" ", 2)
            if 0 <= now - int(moment) < TRUSTED_SECONDS:
                entries[address] = (int(moment), value)
    except (OSError, ValueError):
        return entries
    return entries
