"""Whether a WAL archive is safe for a new cluster: nothing in it that the cluster's own WAL would collide with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from barman_cloud.catalog.identity import identifier_of
from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.errors import OperationError
from barman_cloud.report.text import counted
from barman_cloud.store.base import ObjectStore

_LOOKED_AT = 100
"""Objects that are looked at for one that tells which cluster it is of."""


def require_safe_for_new_cluster(store: ObjectStore, layout: Layout, timeline: int | None) -> None:
    """Raise ``OperationError`` (1), naming a culprit, if the archive of ``layout`` isn't safe to use.

    Without ``timeline`` it must hold no WAL file at all; with it none of that timeline or a later one, history files
    included. Objects that aren't WAL files don't count. That nothing was found is believed when it is said twice.
    """
    # "There is nothing" is the one answer that lets the new cluster in, and a proxy or cache may give the one of some
    # other day. So it is asked for twice, with beginnings that differ and leave out the same.
    for start in _beginnings(layout, timeline):
        found = _wal(store, layout, start, timeline or 0)
        seen = list(islice(found, _LOOKED_AT))
        if seen:
            break
    else:
        return
    culprit = next((wal for wal in seen if wal.is_full_segment), seen[0])
    whose = _describe(store, culprit)
    if timeline is None:
        raise OperationError(
            f"the WAL archive {store.object_url(layout.wals_dir)} is not empty: it holds {whose}",
            hint="give the new cluster a server name or URL of its own; if this is the archive of its own past, "
            "name the timeline that it goes on with by --timeline",
        )
    names = {wal.name for wal in seen} | {wal.name for wal in found}
    raise OperationError(
        f"the WAL archive {store.object_url(layout.wals_dir)} holds {counted(len(names), 'file')} "
        f"of timeline {timeline} or later, such as {whose}",
        hint="another cluster has gone on from the same past; archive to a server name or URL of its own",
    )


def _beginnings(layout: Layout, timeline: int | None) -> tuple[str | None, str]:
    """Return two keys behind which the WAL from a timeline on begins; None is the first key there is.

    Timelines are hex digits of fixed width at the start of every name, and a tilde comes behind all of these.
    """
    if not timeline:
        return None, layout.wals_dir
    return f"{layout.wals_dir}{timeline:08X}", f"{layout.wals_dir}{timeline - 1:08X}~"


def _wal(store: ObjectStore, layout: Layout, start: str | None, timeline: int) -> Iterator[WalObject]:
    for item in store.list(layout.wals_dir, start_after=start):
        wal = layout.parse_wal_key(item.key)
        if wal and wal.timeline >= timeline:
            yield wal


def _describe(store: ObjectStore, wal: WalObject) -> str:
    text = f"{wal.name} of timeline {wal.timeline}"
    if not wal.is_full_segment:
        return text
    identifier = identifier_of(store, wal)
    return f"{text}, written by the cluster with system identifier {identifier}" if identifier else text
