"""A receiver's word about itself, put into the bucket by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.catalog import receiver_state
from barman_cloud.errors import BarmanCloudError

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.catalog.receiver_state import ReceiverState
    from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

SOON = 3.0
"""Seconds after the begin at which there is more to say."""
LAST_WORD_SECONDS = 5.0
"""How long the end waits for a store that doesn't answer."""


class Reporter:
    """As a context: writes at the begin, every half minute, and at the end, when it tells why that came."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        describe: Callable[[], ReceiverState],
        *,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """``is_ours`` tells whether we are still the server's receiver; nothing is written otherwise."""
        self._is_ours = is_ours
        self._store = store
        self._layout = layout
        self._describe = describe
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        state = replace(self._describe(), running=False, connected=False)
        if error is not None:
            state = replace(state, problem=str(error) or type(error).__name__)
        last_word = threading.Thread(target=self._write, args=(state, self._thread), name="last word", daemon=True)
        last_word.start()
        last_word.join(LAST_WORD_SECONDS)

    def _run(self) -> None:
        pause = SOON
        while not self._ended.is_set():
            self._write(self._describe())
            self._ended.wait(pause)
            pause = receiver_state.INTERVAL

    def _write(self, state: ReceiverState, after: threading.Thread | None = None) -> None:
        if after is not None:
            after.join()  # or what it is writing would come later
        if not self._is_ours():
            return
        try:
            receiver_state.write(self._store, self._layout, state)
        except BarmanCloudError as error:
            log.info("the receiver's state can't be stored now: %s", error)
