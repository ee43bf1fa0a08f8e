"""Links of a restored tree that lead out of it: what they lead to here may belong to a server that runs here."""

from __future__ import annotations

import os

from barman_cloud import logs
from barman_cloud.restore.tree import Tree

log = logs.get_logger(__name__)


def warn_of_links_outside(tree: Tree) -> None:
    """Log a WARNING for each symbolic link of the archives whose target exists on this machine outside the tree."""
    root = os.path.realpath(tree.root)
    links = {path: link for outcome in tree.outcomes.values() for path, link in outcome.links.items() if not link.hard}
    for path in sorted(links):
        place = tree.root / path
        target = os.path.realpath(place)
        if place.is_symlink() and os.path.exists(target) and not f"{target}/".startswith(f"{root}/"):
            log.warning(
                "%s is a link to %s, which is not of this backup: a server on this copy would use, and may change, "
                "the file that is there",
                place,
                links[path].target,
            )
