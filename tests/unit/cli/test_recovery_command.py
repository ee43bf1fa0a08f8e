"""The ``restore_command`` that a restore writes stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.cli import recovery
from barman_cloud.cli.command import parse
from barman_cloud.cli.restore import COMMAND
from barman_cloud.config.reader import load


@pytest.mark.parametrize(
    ("variable", "named"), [(None, True), ("eu-central-1", True), ("us-west-2", False)], ids=["", "same", "other"]
)
def test_the_region_of_a_configuration_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, named: bool
) -> None:
    """However the server was named; a variable of the environment is stronger, and is expected on the other machine."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    if variable:
        monkeypatch.setenv("AWS_DEFAULT_REGION", variable)
    file = tmp_path / "barman.conf"
    file.write_text(f"[barman]\nbarman_home = {tmp_path}\n[main]\nconninfo = host=pg\naws_region = eu-central-1\n")
    args = parse(COMMAND, ["s3://b/p", "main", "last", "/x", "--write-recovery-settings"], "barman-cloud restore")
    args.server = load(str(file)).server("main")
    command = recovery.command(args, abort_on_error=False)
    assert ("AWS_DEFAULT_REGION=eu-central-1" in command) is named, command
