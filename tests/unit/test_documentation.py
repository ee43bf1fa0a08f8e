"""The documents hold together: no broken link, no page that nothing leads to, no name that isn't in the code."""

from __future__ import annotations

import ast
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


PACKAGES = sorted(path.parent for path in (PROJECT / "src" / "barman_cloud").glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_says_where_to_begin_and_what_it_may_import(package: Path) -> None:
    """``May import `a`, `b` and what is below``: the layers of pyproject.toml below the lowest one that is named."""
    text = " ".join((ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or "").split())
    begin, may = re.search(r"Begin with (.*?)\.(?: |$)", text), re.search(r"May import ([^.;:]*)", text)
    assert begin and may, text
    first = re.findall(r"``([a-z_]+)``", begin[1])[0]
    assert (package / f"{first}.py").exists() or (package.parent / f"{first}.py").exists()
    if may[1].startswith("everything"):
        return
    named = set(re.findall(r"``([a-z_]+)``", may[1]))
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [{name.strip().split(".")[1] for name in layer.split("|")} for layer in contracts[0]["layers"]]
    assert named <= set.union(*layers)
    if "what is below" in may[1]:
        lowest = max(number for number, layer in enumerate(layers) if layer & named)
        named = named.union(*layers[lowest + 1 :])
    assert imported_by(package) - {package.name, "__version__"} <= named


def imported_by(package: Path) -> set[str]:
    """Return what of ``barman_cloud`` the modules of a package import, also within functions and for types only."""
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "barman_cloud":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("barman_cloud."):
                found.add(str(node.module).split(".")[1])
            elif isinstance(node, ast.Import):
                found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("barman_cloud.")}
    return found


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
