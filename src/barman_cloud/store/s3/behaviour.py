"""What an S3 store does without saying so: Amazon's behaviour is documented, compatible stores differ.

Whether it takes notice of ``If-None-Match: *``, which makes a conditional create safe, and whether it compares the
content with its signature, which makes comparing its ETag needless. Both are found out with a small object that is
created twice, sent once with a wrong signature of its content, and deleted again. The answers are remembered: in this
process, and in a file for a day, because ``wal-archive`` runs once for each segment. ``docs/reference/stores.md`` says
what a store that does neither can't promise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, ObjectExistsError

logger = logs.get_logger(__name__)

PROBE = "barman-cloud-probe"
"""Name of the object, directly below the path of the URL."""
TRUSTED_SECONDS = 86_400
"""Another server may take over an address."""
_MOST_BYTES = 64 << 10


class Answers(NamedTuple):
    """What was found out."""

    honours_conditions: bool = False
    compares_content: bool = False


_learned: dict[str, Answers] = {}
"""What this process has learned, by the URL of a bucket."""


class Behaviour:
    """What is known of one bucket."""

    def __init__(self, aws: bool, bucket_url: str, environ: Mapping[str, str]) -> None:
        self._bucket_url = bucket_url
        self._environ = environ
        self._creates = 0
        self._asking = Lock()
        self._answers = Answers(True, True) if aws else _learned.get(bucket_url)

    @property
    def known(self) -> Answers:
        return self._answers or Answers()

    def settle(self, probe: Callable[[], Answers]) -> Answers:
        """Return the answers before a conditional create, asking ``probe`` where that is worth its requests.

        It is where the answers can be remembered for other processes, or are needed once more in this one.
        """
        with self._asking:
            if self._answers is None:
                self._creates += 1
                file = _memory_file(self._environ)
                if file is not None:
                    self._answers = _entries(file).get(self._bucket_url, (0.0, None))[1]
                if self._answers is None and (file is not None or self._creates > 1):
                    self._answers = self._ask(probe, file)
            return self.known

    def _ask(self, probe: Callable[[], Answers], file: str | None) -> Answers:
        try:
            answers = probe()
        except BarmanCloudError as error:
            logger.info("can't find out what %s makes of conditions and signatures: %s", self._bucket_url, error)
            return Answers()
        logger.info(
            "%s %s If-None-Match and %s content with its signature",
            self._bucket_url,
            "takes notice of" if answers.honours_conditions else "ignores",
            "compares" if answers.compares_content else "doesn't compare",
        )
        _learned[self._bucket_url] = answers
        if file is not None:
            _write(file, self._bucket_url, answers)
        return answers


def find_out(create: Callable[[], object], refuses: Callable[[], bool], delete: Callable[[], object]) -> Answers:
    """Ask the store by one object.

    ``create`` makes it if there is none, ``refuses`` tells whether the store took content that wasn't signed for it,
    and ``delete`` removes it.
    """
    honours = False
    for _ in range(2):
        try:
            create()
        except ObjectExistsError:
            honours = True
            break
    compares = refuses()
    try:
        delete()
    except BarmanCloudError as error:
        logger.info("the object %s stays in the bucket: %s", PROBE, error)
    return Answers(honours, compares)


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
    return os.path.join(directory, "s3-behaviour") if os.access(directory, os.W_OK) else None


def _entries(file: str) -> dict[str, tuple[float, Answers]]:
    """Return what is remembered and still trusted. A file that can't be read holds nothing."""
    entries = {}
    now = time.time()
    try:
        with open(file, encoding="utf-8") as memory:
            for line in memory.read(_MOST_BYTES).splitlines():
                moment, honours, compares, url = line.split(" ", 3)
                if 0 <= now - float(moment) < TRUSTED_SECONDS:
                    entries[url] = (float(moment), Answers(honours == "True", compares == "True"))
    except (OSError, ValueError):
        pass
    return entries


def _write(file: str, bucket_url: str, answers: Answers) -> None:
    """Remember; that this is impossible costs the next process a few requests, nothing else."""
    entries = {**_entries(file), bucket_url: (time.time(), answers)}
    temporary = f"{file}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as memory:
            for url, (moment, (honours, compares)) in entries.items():
                memory.write(f"{int(moment)} {honours} {compares} {url}\n")
        os.replace(temporary, file)
    except OSError:
        pass
