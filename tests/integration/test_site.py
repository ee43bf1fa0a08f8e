"""The documentation as a site: built strictly, every page reachable from the first, every block a block."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from scripts.site_hooks import PAGES as OUTSIDE

from barman_cloud.cli.examples import REPOSITORY
from tests.support.documented import blocks
from tests.support.privileges import PROJECT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.slow
def test_every_page_is_reached_from_the_first_by_links_in_the_text(site: Path) -> None:
    found: set[Path] = set()
    waiting = [site / "index.html"]
    elsewhere = set()
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        text = page.read_text()
        article = text[text.index("<article") : text.index("</article>")]  # not the site's own list of pages
        for link in re.findall(r'<a [^>]*href="([^"#]*)', article):
            target = unescape(link)
            if re.match(r"[a-z]+:", target):
                elsewhere.add(target)
            elif target:
                path = (page.parent / unquote(target)).resolve()
                assert path.exists(), f"{page.relative_to(site)}: {target}"
                waiting += [path] if path.suffix == ".html" else []
    assert found == {*site.rglob("*.html")} - {site / "404.html"}
    for link in elsewhere:  # what isn't a page of the site is a file of the repository
        if link.startswith(REPOSITORY):
            assert (PROJECT / link.removeprefix(f"{REPOSITORY}/blob/main/")).exists(), link


@pytest.mark.slow
def test_blocks_are_blocks_lists_are_lists_and_comments_are_not_shown(site: Path) -> None:
    sources = {PROJECT / source: page for source, page in OUTSIDE.items()}
    sources |= {path: str(path.relative_to(PROJECT / "docs")) for path in (PROJECT / "docs").rglob("*.md")}
    for source, page in sources.items():
        text = (site / page).with_suffix(".html").read_text()
        shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        assert len(re.findall(r"<pre\b", shown)) == len(blocks(source)), page
        words = re.sub(r"<code>.*?</code>", "", shown, flags=re.DOTALL)
        assert "not run:" not in words, page
        # A list needs an empty line before it here, though not where repositories are shown.
        assert (
            re.findall(r"^(?:\d+\.|[*-]) \S.*", re.sub(r"<pre\b.*?</pre>", "", words, flags=re.DOTALL), re.M) == []
        ), page
