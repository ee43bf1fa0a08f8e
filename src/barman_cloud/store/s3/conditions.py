"""Whether an S3 store takes notice of ``If-None-Match: *``, which makes a conditional create safe.

Amazon does, and so do MinIO, versitygw and others; some stores ignore the header without a word. It is found out by a
small object that is created twice and deleted again, and remembered: in this process, and in a file for a day, because
``wal-archive`` runs once for each segment. ``docs/reference/stores.md`` says what stores that ignore it can't promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, ObjectExistsError
from barman_cloud.store.learned import can_remember, recall, remember

logger = logs.get_logger(__name__)

PROBE = "barman-cloud-probe"
"""Name of the object, directly below the path of the URL."""
_MEMORY = "if-none-match"
_HONOURED, _IGNORED = "honoured", "ignored"

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
                known = recall(_MEMORY, self._bucket_url, self._environ)
                if known in (_HONOURED, _IGNORED):
                    self.honoured = known == _HONOURED
                elif can_remember(self._environ) or self._creates > 1:
                    self.honoured = self._ask(probe)
            return bool(self.honoured)

    def _ask(self, probe: Callable[[], bool]) -> bool:
        try:
            honoured = probe()
        except BarmanCloudError as error:
            logger.info("can't find out whether %s takes notice of If-None-Match: %s", self._bucket_url, error)
            return False
        logger.info("%s %s If-None-Match", self._bucket_url, "takes notice of" if honoured else "ignores")
        _learned[self._bucket_url] = honoured
        remember(_MEMORY, self._bucket_url, _HONOURED if honoured else _IGNORED, self._environ)
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
