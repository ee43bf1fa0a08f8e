"""Extracting the archives of a backup, or of all backups of a chain, in parallel, with a journal of what is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.restore.chain import Chain
from barman_cloud.restore.delta import Comparison
from barman_cloud.restore.journal import Journal
from barman_cloud.restore.layer import Layer, LayerOfArchive
from barman_cloud.restore.merge import Merge
from barman_cloud.restore.pipeline import run_all
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.tree import Outcome, Tree
from barman_cloud.restore.verify import WrittenFiles
from barman_cloud.restore.worker import Window, extract_archive
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Extraction:
    """Where archives are extracted to, and what is known of that."""

    store: ObjectStore
    trees: Mapping[str, Tree]
    notes: Journal
    files: WrittenFiles
    jobs: int
    comparison: Comparison | None = None
    """What is there already."""

    def extract_chain(self, chain: Chain, merge: Merge | None) -> list[Outcome]:
        """Extract what the newest backup needs of each backup of its chain; returns the outcomes of the older ones.

        In place (without ``merge``) the oldest is first, otherwise the newest.
        """
        newest = len(chain.sources) - 1
        numbers = range(newest + 1) if merge is None else range(newest, -1, -1)
        found: dict[int, list[Outcome]] = {}
        later: list[tuple[str, Outcome]] = []
        for number in numbers:
            held_back = None if merge is None or number == 0 else later
            found[number] = self.extract(chain.sources[number], chain.layer(number), merge, held_back)
        for key, outcome in reversed(later):
            self.notes.add(key, outcome)
        return [outcome for number in range(newest) for outcome in found[number]]

    def extract(
        self,
        source: ArchiveSource,
        layer: Layer | None = None,
        merge: Merge | None = None,
        held_back: list[tuple[str, Outcome]] | None = None,
    ) -> list[Outcome]:
        """Extract what the journal doesn't know as extracted, the largest archives first.

        ``layer`` tells what to do with the members of a backup of a chain. Of an older one nothing but files counts.
        With ``held_back`` the journal's entries go there, and not to the journal.
        """
        turn = threading.Lock()
        finished = self.notes.finished
        archives = [archive for archive in source.archives if archive.base in self.trees]
        outcomes = [finished[archive.key] for archive in archives if archive.key in finished]
        is_older = layer is not None and not layer.is_newest

        def done(order: int, base: str, outcome: Outcome) -> None:
            if not is_older:
                self.trees[base].add(order, outcome)

        for order, archive in enumerate(archives):
            if archive.key in finished:
                done(order, archive.base, finished[archive.key])
        pending = [(order, archive) for order, archive in enumerate(archives) if archive.key not in finished]
        if len(pending) < len(archives):
            log.info("%d of %d archives were extracted before", len(archives) - len(pending), len(archives))
        window = Window.of_each(max(1, min(self.jobs, len(pending))))

        def task(order: int, archive: ArchiveObject) -> Callable[[threading.Event], None]:
            def run(stop: threading.Event) -> None:
                part = LayerOfArchive(layer, archive.base, merge) if layer else None
                outcome = self._extract_archive(source, order, archive, part, window, stop)
                done(order, archive.base, outcome)
                with turn:
                    if held_back is None:
                        self.notes.add(archive.key, outcome)
                    else:
                        held_back.append((archive.key, outcome))
                    outcomes.append(outcome)

            return run

        pending.sort(key=lambda entry: entry[1].size, reverse=True)
        run_all([task(order, archive) for order, archive in pending], self.jobs)
        if layer is not None:
            layer.require_all(
                sum(outcome.files + outcome.kept if is_older else outcome.overlaid for outcome in outcomes)
            )
        return outcomes

    def _extract_archive(
        self,
        source: ArchiveSource,
        order: int,
        archive: ArchiveObject,
        part: LayerOfArchive | None,
        window: Window,
        stop: threading.Event,
    ) -> Outcome:
        record = None if part is not None and not part.is_newest else self.files.recorder(archive.base)
        return extract_archive(
            self.store,
            archive,
            self.trees[archive.base],
            order,
            window=window,
            expected=(source.records or {}).get(archive.key),
            record=part.recorder(record) if part else record,
            keep=self.comparison.keeper(archive.base) if self.comparison else None,
            layer=part,
            stop=stop,
        )
