"""Output whose reader has gone away: the command didn't say what it was asked to say, so it can't end with 0."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.postgres import command_environment
from tests.unit.catalog.builders import backup, fill, segment


@pytest.mark.parametrize("arguments", [[], ["--format", "json"]], ids=["text", "json"])
def test_the_exit_code_is_4_and_stderr_stays_silent(tmp_path: Path, arguments: list[str]) -> None:
    store = open_store(f"file://{tmp_path}")
    fill(Catalog(store, Layout.of(store.url, "main")), [backup("20260101T000000", segment(1))])
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [program("backup-list"), *arguments, f"file://{tmp_path}", "main"],
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, env=command_environment(),
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (4, "")
