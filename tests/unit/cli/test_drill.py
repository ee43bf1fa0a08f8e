"""The command line of a drill."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from barman_cloud.cli.command import parse
from barman_cloud.cli.drill import COMMAND, _options, _settings
from barman_cloud.cli.plain import Arguments
from barman_cloud.errors import ConfigurationError


def parsed(*words: str) -> Arguments:
    return parse(COMMAND, ["file:///store", "main", *words], "barman-cloud drill")


def test_the_backup_may_come_anywhere_behind_the_server() -> None:
    assert parsed().backup_id is None
    assert (
        parsed("ID").backup_id
        == parsed("--keep", "ID").backup_id
        == parsed("ID", "--assert", "SELECT 1").backup_id
        == "ID"
    )


def test_a_target_is_promoted_at_and_none_means_all_wal() -> None:
    assert (_settings(parsed()).targets(), _settings(parsed()).action) == ({}, None)
    settings = _settings(parsed("--target-time", "2026-11-28 10:00:00+00"))
    assert settings.targets() == {"recovery_target_time": "2026-11-28 10:00:00+00:00"}
    assert settings.action == "promote"
    assert "--abort-recovery-on-error" in settings.restore_command
    assert settings.restore_command.endswith("file:///store main %f %p")
    assert "--endpoint-url=http://here" in _settings(parsed("--endpoint-url", "http://here")).restore_command
    with pytest.raises(SystemExit):
        parsed("--target-lsn", "0/1", "--target-immediate")


def test_assertions_come_from_options_and_files(tmp_path: Path) -> None:
    file = tmp_path / "a.sql"
    file.write_text("SELECT 'ü' = 'ü'")
    options = _options(parsed("--assert", "SELECT 1", "--assert-file", str(file), "--max-rto", "2h"))
    assert [(found.name, found.sql) for found in options.assertions] == [
        ("SELECT 1", "SELECT 1"), (str(file), "SELECT 'ü' = 'ü'"),
    ]  # fmt: skip
    assert (options.max_rto, options.recovery_timeout) == (timedelta(hours=2), timedelta(days=1))
    assert options.amcheck
    for content, problem in (
        (b"\xff", "isn't UTF-8"),
        (b" " * (1 << 20) + b" ", "more than 1 MiB"),
        (None, "No such file"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=problem):
            _options(parsed("--assert-file", str(file)))
