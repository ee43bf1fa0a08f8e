"""What the text of ``archive_command`` says, and what is wrong with it."""

from __future__ import annotations

import pytest

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
