"""Whether an S3 store takes notice of ``If-None-Match: *``, which makes a conditional create safe.

Amazon does, and so do MinIO, versitygw and others; some stores ignore the header without a word. It is found out by a
small object that is created twice and deleted again, and remembered: in this process, and in a file for a day, because
``wal-archive`` runs once for each segment. ``docs/reference/stores.md`` says what stores that ignore it can't promise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from threading import Lock

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, ObjectExistsError

logger = logs.get_logger(__name__)

PROBE = "barman-cloud-probe"
"""Name of the object, directly below the path of the URL."""
TRUSTED_SECONDS = 86_400
"""Another server may take over an address."""
_MOST_BYTES = 64 << 10

_learned: dict[str, bool] = {}
"""Bucket URL -> whether it takes notice; what this process has learned."""


class Conditions:
    """What is known of one bucket. ``honoured`` is None as long as nothing is."""

    def __init__(self, aws: bool, bucket_url: str, environ: Mapping[str, str]) -> None:
        self._bucket_url = bucket_url
        self._environ = environ
        self._creates = 0
        self._asking = Lock()
        self.honoured: bool | None = True if aws else _learned.get(bucket_url)

    def settle(self, probe: Callable[[], bool]) -> bool:
        """Return whether conditions are honoured, asking ``probe`` where that is worth its requests.

        It is where the answer can be remembered for other processes, or is needed once more in this one.
        """
        with self._asking:
            if self.honoured is None:
                self._creates += 1
                file = _memory_file(self._environ)
                if file is not None:
                    self.honoured = _read(file, self._bucket_url)
                if self.honoured is None and (file is not None or self._creates > 1):
                    self.honoured = self._ask(probe, file)
            return bool(self.honoured)

    def _ask(self, probe: Callable[[], bool], file: str | None) -> bool:
        try:
            honoured = probe()
        except BarmanCloudError as error:
            logger.info("can't find out whether %s takes notice of If-None-Match: %s", self._bucket_url, error)
            return False
        logger.info("%s %s If-None-Match", self._bucket_url, "takes notice of" if honoured else "ignores")
        _learned[self._bucket_url] = honoured
        if file is not None:
            _write(file, self._bucket_url, honoured)
        return honoured


def probe_by(create: Callable[[], object], delete: Callable[[], object]) -> bool:
    """Find it out by an object that ``create`` makes, on condition that there is none, and ``delete`` removes."""
    for _ in range(2):
        try:
            create()
        except ObjectExistsError:
            honoured = True
            break
    else:
        honoured = False
    try:
        delete()
    except BarmanCloudError as error:
        logger.info("the object %s stays in the bucket: %s", PROBE, error)
    return honoured


def _memory_file(environ: Mapping[str, str]) -> str | None:
    """Return the file that remembers, or None where there is no place for one."""
    cache, home = environ.get("XDG_CACHE_HOME", ""), environ.get("HOME", "")
    if not os.path.isabs(cache):
        if not os.path.isdir(home):
            return None
        cache = os.path.join(home, ".cache")
    directory = os.path.join(cache, "barman-cloud")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError:
        return None
    return os.path.join(directory, "if-none-match") if os.access(directory, os.W_OK) else None


def _entries(file: str) -> dict[str, tuple[float, bool]]:
    """Return what is remembered and still trusted. A file that can't be read holds nothing."""
    entries = {}
    now = time.time()
    try:
        with open(file, encoding="utf-8") as memory:
            for line in memory.read(_MOST_BYTES).splitlines():
                moment, honoured, url = line.split(" ", 2)
                if 0 <= now - float(moment) < TRUSTED_SECONDS:
                    entries[url] = (float(moment), honoured == "honoured")
    except (OSError, ValueError):
        pass
    return entries


def _read(file: str, bucket_url: str) -> bool | None:
    entry = _entries(file).get(bucket_url)
    return None if entry is None else entry[1]


def _write(file: str, bucket_url: str, honoured: bool) -> None:
    """Remember; that this is impossible costs the next process a few requests, nothing else."""
    entries = {**_entries(file), bucket_url: (time.time(), honoured)}
    temporary = f"{file}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as memory:
            for url, (moment, answer) in entries.items():
                memory.write(f"{int(moment)} {'honoured' if answer else 'ignored'} {url}\n")
        os.replace(temporary, file)
    except OSError:
        pass
