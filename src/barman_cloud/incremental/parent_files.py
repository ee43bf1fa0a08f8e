"""The files of a parent backup, as far as an increment on top of it has to know them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.relations import MAIN, parse

VERSION_FILE = "PG_VERSION"


@dataclass(slots=True)
class ParentFiles:
    """Paths of the parent's manifest that changed blocks can lie on: about 200 bytes of memory for each."""

    sizes: dict[str, int | None] = field(default_factory=dict)
    """Bytes of each relation file, by the path that it is restored to; None where the parent has changed blocks."""
    versions: dict[str, str] = field(default_factory=dict)
    """When each ``PG_VERSION`` was written, as the manifest says it: of PGDATA, and of each database."""

    def __contains__(self, path: object) -> bool:
        return path in self.sizes


def read_parent_files(files: Iterable[ManifestFile]) -> ParentFiles:
    """Read a manifest; raises what reading it does."""
    found = ParentFiles()
    for file in files:
        whole = restored_path(file.path)
        relation = parse(whole or file.path)
        if relation is not None and relation.fork.fork == MAIN:
            found.sizes[whole or file.path] = None if whole else file.size
        elif file.path.endswith(f"/{VERSION_FILE}"):
            found.versions[file.path] = file.last_modified
    return found
