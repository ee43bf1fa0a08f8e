"""Where a receiver puts WAL: what ``receiver.py`` asks of the spool and of the direct way into the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from barman_cloud.catalog.wal_range import name_of

if TYPE_CHECKING:
    from barman_cloud.wal.receive_plan import Lineage


class Sink(ABC):
    """Takes WAL in order and says how much of it is durable. All methods are called by one thread.

    Positions are LSNs, int; 0 before the first :meth:`begin`.
    """

    mode = ""
    """The word for it on the command line."""

    def __init__(self) -> None:
        self.timeline = 0
        self.segment_size = 0
        self.written = 0
        """How far WAL was taken."""
        self.on_progress: Callable[[], None] = lambda: None
        """Called, by any thread, when more may have become durable without a call."""

    @property
    @abstractmethod
    def flushed(self) -> int:
        """How far the server may count on us: what was taken before it outlives whatever happens to us."""

    @property
    def received(self) -> int:
        """How far the server is told that WAL has arrived (it may have transactions that wait for just that)."""
        return self.written

    @property
    @abstractmethod
    def failure(self) -> BaseException | None:
        """What time won't mend: nothing more is stored."""

    @property
    @abstractmethod
    def problem(self) -> str | None:
        """What is in the way of storing now, as one line; None if nothing is."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many bytes aren't in the bucket yet."""

    @property
    @abstractmethod
    def limit(self) -> int:
        """How many may be."""

    def prepare(self, lineage: Lineage) -> None:  # noqa: B027 - the spool needs nothing
        """Look at what earlier receivers left; ``ConflictError`` if it isn't of this server's past."""

    def held(self) -> Iterable[str]:
        """Return the names of complete segments that are on their way into the archive."""
        return ()

    def begun(self, lineage: Lineage) -> Iterable[int]:
        """Return the numbers of segments of which earlier receivers acknowledged a part that isn't lost with us."""
        return ()

    def acknowledged_up_to(self, lineage: Lineage) -> int:
        """Return how far WAL was acknowledged by earlier receivers, beyond the last complete segment; 0: not known."""
        return 0

    @abstractmethod
    def store_history(self, name: str, content: bytes) -> None:
        """Have a timeline's history file stored."""

    def begin(self, timeline: int, start: int, segment_size: int) -> None:
        """Go on at ``start``, the beginning of a segment: for the first time, or once more on another connection."""
        self.timeline, self.written, self.segment_size = timeline, start, segment_size

    @abstractmethod
    def take(self, data: memoryview, server_end: int) -> None:
        """Take the WAL that follows; ``server_end`` is how far the server had it when it sent this."""

    @abstractmethod
    def pause(self, *, caught_up: bool) -> None:
        """Use the moment in which there is nothing to take; ``caught_up`` tells that the server has no more."""

    @abstractmethod
    def tend(self) -> None:
        """Do what is due by the clock; called often."""

    @abstractmethod
    def settle(self, seconds: float = 0.0) -> None:
        """Begin to make durable what was taken, and wait ``seconds`` for it."""

    @abstractmethod
    def has_room(self) -> bool:
        """Tell whether more can be taken now."""

    @abstractmethod
    def wait_for_room(self, seconds: float) -> None:
        """Wait until that may have changed."""

    @abstractmethod
    def end_timeline(self) -> None:
        """Have the last segment of a timeline stored as far as it goes: there will be no more of it."""

    @abstractmethod
    def end(self) -> None:
        """Store what can be stored soon; nothing is taken any more."""

    def name_at(self, lsn: int) -> str:
        """Return the name of the segment that ``lsn`` is in."""
        return name_of(self.timeline, lsn // self.segment_size, self.segment_size)
