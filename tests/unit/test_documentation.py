"""The documents hold together: no broken link, no page that nothing leads to, no name that isn't in the code."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from barman_cloud.cli.commands import SUMMARIES
from barman_cloud.cli.examples import DOCUMENTATION, REPOSITORY

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*(PROJECT / "docs").rglob("*.md"), *PROJECT.glob("*.md"), PROJECT / "benchmarks" / "README.md"])
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(?:#[^)]*)?\)")
NAME = re.compile(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`")


def links(page: Path) -> list[Path]:
    return [(page.parent / target).resolve() for target in LINK.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not target.exists()] == []


def test_the_readme_names_every_page() -> None:
    named = set(links(PROJECT / "README.md"))
    missing = [str(page.relative_to(PROJECT)) for page in PAGES if page not in named and page.name != "README.md"]
    assert missing == []


def test_the_walks_of_the_architecture_are_in_the_code() -> None:
    text = (PROJECT / "docs" / "explanation" / "architecture.md").read_text()
    walks = text[text.index("## Two walks") : text.index("## Threads, not processes")]
    names = [name for name in NAME.findall(walks) if not name.endswith((".md", ".py", ".info"))]
    assert len(names) > 30
    for name in names:
        assert resolves(name), name


def test_the_address_of_the_project_is_in_one_place() -> None:
    urls = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Source"] == REPOSITORY
    assert all(url.startswith(f"{REPOSITORY}/") for name, url in urls.items() if name != "Source")
    commands = (PROJECT / "docs" / "reference" / "commands.md").read_text()
    assert DOCUMENTATION.startswith(REPOSITORY)
    assert DOCUMENTATION.endswith("/docs/reference/commands.md")
    for name in SUMMARIES:  # what --help and the manual pages link to
        assert re.search(rf"^## barman-cloud[- ]{name}$", commands, re.MULTILINE), name
    folders = [PROJECT / name for name in ("src", "bin", "docs", "packaging", "scripts", "completions", ".github")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    holders = {str(path.relative_to(PROJECT)) for path in files if REPOSITORY.encode() in path.read_bytes()}
    assert holders == {"src/barman_cloud/cli/examples.py"}


def resolves(name: str) -> bool:
    """Whether ``package.module.attribute…`` exists below ``barman_cloud``."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(["barman_cloud", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False
