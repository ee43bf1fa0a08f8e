"""The page about the Python API does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from barman_cloud import api
from tests.support.postgres import PostgresServer
from tests.support.privileges import PROJECT, server_account
from tests.support.repository import Repository

PAGE = PROJECT / "docs" / "reference" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_runs(new_postgres: Callable[..., PostgresServer], server_dir: Path, tmp_path: Path) -> None:
    postgres = new_postgres()
    archiving = Repository(server_dir / "store")
    archiving.archive_from(postgres)
    postgres.query("CREATE TABLE kept AS SELECT 1 AS number")
    name = postgres.switch_wal()
    postgres.wait_archived(name)
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 9
    values = {
        "URL": archiving.url,
        "SEGMENT": postgres.data / "pg_wal" / name,
        "SCRATCH": tmp_path,
        "CONNINFO": postgres.conninfo,
    }
    server_account().own(tmp_path)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), values)
    assert (tmp_path / "restored" / "recovery.signal").exists()


def test_every_method_is_on_the_page() -> None:
    text = PAGE.read_text()
    public = [name for name in vars(api.Repository) if not name.startswith("_") and name not in ("view",)]
    assert [name for name in public if f"repository.{name}" not in text and f"Repository.{name}" not in text] == []
