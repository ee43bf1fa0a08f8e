"""What the text of ``archive_command`` says, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.cli.lines import judge_archive_line
from barman_cloud.doctor.database import without_secrets
from barman_cloud.postgres.archive_command import read_archive_command

GOOD = [
    ("barman-cloud-wal-archive s3://b main %p", "barman-cloud-wal-archive", ["s3://b", "main", "%p"]),
    (
        '/opt/bin/barman-cloud-wal-archive --zstd s3://b main "%p"',
        "/opt/bin/barman-cloud-wal-archive",
        ["--zstd", "s3://b", "main", "%p"],
    ),
    ("barman-cloud wal-archive s3://b main '%p'", "barman-cloud", ["s3://b", "main", "%p"]),
    ("barman-cloud -c /etc/b.conf wal-archive main %p", "barman-cloud", ["main", "%p"]),
    (
        "AWS_PROFILE=x /usr/bin/env barman-cloud-wal-archive s3://b main %p",
        "barman-cloud-wal-archive",
        ["s3://b", "main", "%p"],
    ),
    (
        "test ! -f /stop && barman-cloud-wal-archive s3://b main %p 2>>/var/log/a",
        "barman-cloud-wal-archive",
        ["s3://b", "main", "%p"],
    ),
    ("barman-cloud-wal-archive s3://b/100%% main %p", "barman-cloud-wal-archive", ["s3://b/100%%", "main", "%p"]),
]


@pytest.mark.parametrize(("text", "program", "words"), GOOD)
def test_what_is_run(text: str, program: str, words: list[str]) -> None:
    call = read_archive_command(text)
    assert (call.program, list(call.words), call.problems) == (program, words, ())
    assert (call.is_umbrella, call.configuration) == (
        program == "barman-cloud",
        "/etc/b.conf" if " -c " in text else None,
    )


def test_a_name_of_the_configuration_is_its_url(tmp_path: Path) -> None:
    file = tmp_path / "barman.conf"
    file.write_text("[main]\nbasebackups_directory = s3://b/p\nwals_directory = s3://b/p\n")
    line = read_archive_command(f"/opt/bin/barman-cloud -c {file} wal-archive main %p")
    assert judge_archive_line(line) == (None, "s3://b/p", "main")
    wrong, _, _ = judge_archive_line(read_archive_command(f"barman-cloud -c {file} wal-archive other %p"))
    assert wrong is not None
    assert "no server 'other'" in wrong


def test_secrets_are_not_shown() -> None:
    text = "AWS_ACCESS_KEY_ID=k AWS_SECRET_ACCESS_KEY=hidden barman-cloud-wal-archive s3://b main %p"
    assert without_secrets(text) == text.replace("hidden", "…")
    assert without_secrets(GOOD[0][0]) == GOOD[0][0]


BAD = [
    ("barman-cloud-wal-archive s3://b main %f", "doesn't hold %p"),
    ("barman-cloud-wal-archive s3://b main %p || true", "ends in success"),
    ("barman-cloud-wal-archive s3://b main %p; exit 0", "ends in success"),
    ("barman-cloud-wal-archive s3://b main %p &", "sent to the background"),
    ("barman-cloud-wal-archive s3://b main %p 2>&1 | tee /tmp/log", "is a pipe"),
    ("barman-cloud-wal-archive s3://b/%d main %p", "holds %d"),
    ("barman-cloud-wal-archive s3://b main %p.gz", "glued"),
    ("barman-cloud-wal-archive 's3://b main %p", "can't be read by a shell"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_what_is_wrong(text: str, problem: str) -> None:
    assert any(problem in found for found in read_archive_command(text).problems)


def test_another_program_is_none_of_ours() -> None:
    assert read_archive_command("test ! -f /a/%f && cp %p /a/%f").program is None
