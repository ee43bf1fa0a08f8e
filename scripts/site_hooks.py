"""Hooks of the documentation's site: pages that live outside ``docs/``, and links to what is no page.

README, CHANGELOG and their like stay where people look for them in a repository, and become pages of the site as well.
Links from a page to source code become links into the repository.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "explanation/benchmarks.md",
}
"""Files of the repository to pages of the site."""

_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)]*)?(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that live outside ``docs/``."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make every relative link lead to a page of the site or into the repository."""
    place = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == place), f"docs/{place}")
    return _LINK.sub(lambda found: found[1] + _target(found[2], source, place) + (found[3] or "") + found[4], markdown)


def _target(link: str, source: str, place: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if path.startswith("docs/"):
        page = path.removeprefix("docs/")
    elif path in PAGES:
        page = PAGES[path]
    elif (ROOT / path).exists():
        return f"{_repository()}/blob/main/{path}"
    else:
        return link  # MkDocs reports it
    return posixpath.relpath(page, posixpath.dirname(place) or ".")


def _repository() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address: str = project["urls"]["Source"]
    return address
