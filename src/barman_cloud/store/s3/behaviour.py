"""What an S3 store does without saying so: Amazon's behaviour is documented, compatible stores differ.

Whether it takes notice of ``If-None-Match: *``, which makes a conditional create safe, and whether it compares the
content with its signature, which makes comparing its ETag needless. Both are found out with a small object that is
created twice, sent once with a wrong signature of its content, and deleted again. The answers are remembered: in this
process, and in a file for a day, because ``wal-archive`` runs once for each segment. ``docs/reference/stores.md`` says
what a store that does neither can't promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, ObjectExistsError
from barman_cloud.store.learned import can_remember, recall, remember

log = logs.get_logger(__name__)

PROBE = "barman-cloud-probe"
"""Name of the object, directly below the path of the URL."""
_FACT = "s3-behaviour"


class Answers(NamedTuple):
    """What was found out."""

    honours_conditions: bool = False
    compares_content: bool = False

    def __str__(self) -> str:
        return ",".join("yes" if answer else "no" for answer in self)

    @classmethod
    def of(cls, text: str | None) -> Answers | None:
        """Return what ``str`` was made of; None for anything else."""
        words = (text or "").split(",")
        return cls(*(word == "yes" for word in words)) if len(words) == 2 and {*words} <= {"yes", "no"} else None


_learned: dict[str, Answers] = {}
"""What this process has learned, by the URL of a bucket."""


class Behaviour:
    """What is known of one bucket."""

    def __init__(self, aws: bool, bucket_url: str, environ: Mapping[str, str]) -> None:
        self._bucket_url = bucket_url
        self._environ = environ
        self._questions = 0
        self._asking = Lock()
        self._answers = Answers(True, True) if aws else _learned.get(bucket_url)

    @property
    def known(self) -> Answers:
        return self._answers or Answers()

    @property
    def ignores_content(self) -> bool:
        """Tell whether the store is known not to compare content with its signature."""
        return self._answers is not None and not self._answers.compares_content

    def settle(self, probe: Callable[[], Answers]) -> Answers:
        """Return the answers before they matter, asking ``probe`` where that is worth its requests.

        It is where the answers can be remembered for other processes, or are needed once more in this one.
        """
        with self._asking:
            if self._answers is None:
                self._questions += 1
                self._answers = Answers.of(recall(_FACT, self._bucket_url, self._environ))
                if self._answers is None and (self._questions > 1 or can_remember(self._environ)):
                    self._answers = self._ask(probe)
            return self.known

    def _ask(self, probe: Callable[[], Answers]) -> Answers:
        try:
            answers = probe()
        except BarmanCloudError as error:
            log.info("can't find out what %s makes of conditions and signatures: %s", self._bucket_url, error)
            return Answers()
        log.info(
            "%s %s If-None-Match and %s content with its signature",
            self._bucket_url,
            "takes notice of" if answers.honours_conditions else "ignores",
            "compares" if answers.compares_content else "doesn't compare",
        )
        _learned[self._bucket_url] = answers
        remember(_FACT, self._bucket_url, str(answers), self._environ)
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
        log.info("the object %s stays in the bucket: %s", PROBE, error)
    return Answers(honours, compares)
