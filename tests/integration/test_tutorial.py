"""The shell blocks of the tutorial do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.installations import Installation
from tests.support.postgres import run_as_server
from tests.support.privileges import PROJECT

TUTORIAL = PROJECT / "docs" / "tutorial" / "first-backup.md"
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP = 'for data in tutorial/data tutorial/restored; do pg_ctl -D "$data" -m immediate stop; done 2>/dev/null || true'


@pytest.mark.slow
def test_tutorial(postgres_installation: Installation, server_dir: Path) -> None:
    blocks = SHELL_BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) > 10
    lines = [
        f'PATH="$PATH:{postgres_installation.bin}"',
        f'cd "{server_dir}"',
        f"trap 'cd \"{server_dir}\"; {STOP}' EXIT",
        *blocks,
    ]
    done = run_as_server(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], environ=postgres_installation.environ)
    assert " 100001 | 100001" in done.stdout
    assert "before-the-accident" in done.stdout
