"""The shell blocks of the tutorial do what it says: here with a directory, in test_documented_blocks.py with S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import program
from tests.support.installations import Installation
from tests.support.ports import free_port
from tests.support.scenes import TUTORIAL, Scene, Stage, run_page


@pytest.mark.slow
def test_tutorial(postgres_installation: Installation, server_dir: Path) -> None:
    stage = Stage(postgres_installation, programs=Path(program("backup")).parent)
    scene = Scene(server=False)
    told = run_page(TUTORIAL, scene, stage, server_dir, free_port(), ("directory",))
    assert " 100001 | 100001" in told
    assert "before-the-accident" in told
