"""``barman-cloud COMMAND SERVER``: what the configuration adds to a command line, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.cli.command import load
from barman_cloud.cli.commands import SHORT, SUMMARIES
from barman_cloud.cli.main import main as umbrella
from barman_cloud.cli.names import with_configuration
from barman_cloud.errors import ConfigurationError

TEXT = """
[barman]
endpoint_url = http://127.0.0.1:9000
[main]
conninfo = host=pg user=barman
backup_method = postgres
basebackups_directory = s3://backups/prod
wals_directory = s3://backups/prod
compression = pygzip
compression_level = low
base_compression = zstd
backup_jobs = 4
bandwidth_limit = 500
immediate_checkpoint = on
tags = team=db, tier=gold
last_backup_maximum_age = 2 DAYS
cloud_wal_restore_parallel = 8
primary_conninfo = host=up
retention_policy = REDUNDANCY 3
aws_check_object_lock = true
[split]
basebackups_directory = s3://backups/prod
wals_directory = s3://wal/prod
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "barman.conf"
    path.write_text(TEXT)
    return str(path)


def expanded(command: str, file: str | None, *words: str) -> str:
    return " ".join(with_configuration(load(command), list(words), file))


def test_a_name_becomes_a_url_and_options(file: str) -> None:
    line = expanded("backup", file, "main")
    assert line.endswith(" s3://backups/prod main")
    for part in (
        "--endpoint-url http://127.0.0.1:9000", "--dbname host=pg user=barman", "--method stream", "--zstd", "--jobs 4",
        "--max-bandwidth 500KB", "--immediate-checkpoint", "--tag team,db --tag tier,gold",
    ):  # fmt: skip
        assert part in line


@pytest.mark.parametrize(
    ("command", "words", "present", "absent"),
    [
        ("wal-archive", ["main", "x/0"], ["--gzip --compression-level low", "s3://backups/prod main x/0"], ["--zstd"]),
        ("wal-restore", ["main", "0", "x"], ["--parallel 8"], ["--gzip", "--tag"]),
        ("backup-list", ["main"], ["--endpoint-url", "s3://backups/prod main"], ["--zstd", "--jobs"]),
        ("backup-delete", ["main"], ["--retention-policy REDUNDANCY 3", "--check-object-lock"], ["--dbname"]),
        ("check", ["main"], ["--max-backup-age 172800s"], ["--retention-policy"]),
        ("restore", ["main", "last", "/x"], ["--jobs 4", "s3://backups/prod main last /x"],
         ["--gzip", "--primary-conninfo", "--wal-parallel"]),
        ("restore", ["--write-recovery-settings", "main", "last", "/x"], ["--wal-parallel 8"], ["--primary-conninfo"]),
        ("restore", ["--standby-mode", "main", "last", "/x"], ["--wal-parallel 8", "--primary-conninfo host=up"], []),
        ("restore", ["--standby-mode", "--wal-parallel", "2", "main", "last", "/x"], ["--wal-parallel 2"], ["8"]),
    ],
)  # fmt: skip
def test_each_command_gets_what_it_declares(
    file: str, command: str, words: list[str], present: list[str], absent: list[str]
) -> None:
    line = expanded(command, file, *words)
    assert [part for part in present if part not in line] == []
    assert [part for part in absent if part in line.split()] == []


@pytest.mark.parametrize(
    ("words", "lost"),
    [
        (["--lz4", "main"], "--zstd"),
        (["-J2", "main"], "--jobs"),
        (["main", "--jobs=1"], "--jobs 4"),
        (["--tags", "a,b", "--name", "x", "main"], "--method files"),
        (["-d", "host=other", "main"], "host=pg"),
    ],
)
def test_the_command_line_wins(file: str, words: list[str], lost: str) -> None:
    assert lost not in expanded("backup", file, *words)


def test_a_line_with_a_url_is_left_alone(file: str) -> None:
    words = ["--endpoint-url", "http://127.0.0.1:1", "s3://bucket", "main"]
    assert with_configuration(load("backup-list"), words, file) == words
    assert with_configuration(load("backup-list"), ["--help"], file) == ["--help"]


def test_values_of_options_are_no_names(file: str) -> None:
    assert expanded("backup-delete", file, "-b", "last", "main").endswith("-b last s3://backups/prod main")
    assert "--retention-policy" not in expanded("backup-delete", file, "--backup-id", "last", "main").split()


def test_a_variable_can_hold_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMAN_CLOUD_URL", "gs://bucket/x")
    assert expanded("backup-list", None, "main") == "gs://bucket/x main"


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [
        ("backup-list", [], "s3://bucket/x main"),
        ("backup-list", ["--format", "csv"], "--format csv s3://bucket/x main"),
        ("backup-list", ["other"], "s3://bucket/x other"),
        ("backup-list", ["s3://elsewhere"], "s3://elsewhere main"),
        ("backup-list", ["s3://elsewhere", "other"], "s3://elsewhere other"),
        ("backup-show", ["latest"], "s3://bucket/x main latest"),
        ("restore", ["latest", "/x", "-J2"], "s3://bucket/x main latest /x -J2"),
        ("restore", ["-J", "2", "other", "latest", "/x"], "-J 2 s3://bucket/x other latest /x"),
        ("verify", [], "s3://bucket/x main"),
        ("verify", ["other", "all"], "s3://bucket/x other all"),
        ("verify", ["--help"], "--help"),
    ],
)
def test_a_variable_can_hold_the_server(
    command: str, words: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARMAN_CLOUD_URL", "s3://bucket/x")
    monkeypatch.setenv("BARMAN_CLOUD_SERVER", "main")
    assert expanded(command, None, *words) == line


def test_the_server_of_the_variable_is_looked_up_in_the_configuration(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARMAN_CLOUD_SERVER", "main")
    assert expanded("backup-list", file) == expanded("backup-list", file, "main")


def test_two_places_are_refused_where_one_is_needed(file: str) -> None:
    assert expanded("wal-restore", file, "split", "0", "x").endswith("s3://wal/prod split 0 x")
    assert expanded("backup-show", file, "split", "last").endswith("s3://backups/prod split last")
    for command, words in (("restore", ("last", "/x")), ("backup", ()), ("backup-delete", ("-b", "last"))):
        with pytest.raises(ConfigurationError, match=f"conf:[0-9]+: .* and {command} needs both in one place"):
            expanded(command, file, "split", *words)


def test_an_unknown_name_is_one_line(file: str) -> None:
    with pytest.raises(ConfigurationError, match="no server 'mian'"):
        expanded("backup-list", file, "mian")


def test_a_receiver_gets_slot_spool_and_connections(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    path.write_text(
        "[barman]\nbarman_home = /srv/barman\n[main]\nconninfo = host=pg user=barman\nslot_name = barman\n"
        "streaming_conninfo = host=pg user=stream\ncreate_slot = auto\nbackup_method = postgres\n"
        "streaming_backup_name = nightly\nbasebackups_directory = s3://b/p\nwals_directory = s3://b/p\n"
        "[other]\nconninfo = host=pg\nwal_conninfo = host=standby\nwal_streaming_conninfo = host=standby user=s\n"
        "streaming_conninfo = host=pg user=stream\nstreaming_archiver_name = receiver\nspool_max = 1Gi\n"
        "backup_method = local-to-cloud\nbasebackups_directory = s3://b/p\nwals_directory = s3://b/p\n"
        "streaming_wals_directory = /srv/spool\n"
    )
    line = expanded("wal-receive", str(path), "main")
    for part in (
        "--dbname host=pg user=barman", "--streaming-conninfo host=pg user=stream", "--slot barman", "--create-slot",
        "--spool-dir /srv/barman/main/streaming",
    ):  # fmt: skip
        assert part in line
    assert "--streaming-conninfo user=stream host=pg application_name=nightly" in expanded("backup", str(path), "main")
    line = expanded("wal-receive", str(path), "other")
    assert "--streaming-conninfo user=s host=standby application_name=receiver" in line
    assert "--dbname host=standby " in f"{line} "
    assert "user=stream" not in line
    assert "--spool-dir /srv/spool" in line
    assert "--create-slot" not in line
    # A connection for streams means nothing to a backup of local files.
    assert "--streaming-conninfo" not in expanded("backup", str(path), "other")


def test_snapshots_have_keys_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    text = (
        "[main]\nconninfo = host=pg\nbackup_method = METHOD\nsnapshot_provider = gcp\nsnapshot_instance = vm\n"
        "snapshot_disks = a, b\nsnapshot_zone = old\ngcp_zone = new\nsnapshot_gcp_project = p\n"
        "ssh_command = ssh pg\nbase_compression = zstd\nwals_directory = s3://wal/prod\n"
        "BASE"
    )
    path.write_text(text.replace("METHOD", "snapshot").replace("BASE", ""))
    line = expanded("backup", str(path), "main")
    for part in (
        "--snapshot-provider gcp", "--snapshot-instance vm", "--snapshot-disk a --snapshot-disk b", "--gcp-zone new",
        "--gcp-project p", "--snapshot-ssh-command ssh pg", "s3://wal/prod main",
    ):  # fmt: skip
        assert part in line
    for part in ("--zstd", "--method", "old"):
        assert part not in line
    path.write_text(text.replace("METHOD", "postgres").replace("BASE", "basebackups_directory = s3://base/prod\n"))
    line = expanded("backup", str(path), "main")
    assert "--zstd" in line
    assert "snapshot" not in line
    assert "gcp" not in line


@pytest.mark.parametrize("method", ["rsync", "local-rsync"])
def test_copies_by_rsync_are_refused_for_backups_alone(tmp_path: Path, method: str) -> None:
    path = tmp_path / "barman.conf"
    path.write_text(f"[main]\nbackup_method = {method}\nbasebackups_directory = s3://b/p\nwals_directory = s3://b/p\n")
    with pytest.raises(ConfigurationError, match=f"barman.conf:2: backup_method {method} can't store backups"):
        expanded("backup", str(path), "main")
    assert expanded("backup", str(path), "--method", "files", "main").endswith("s3://b/p main")
    assert expanded("backup-list", str(path), "main").endswith("s3://b/p main")


def test_short_words_are_the_commands(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("barman_cloud.cli.main.run_command", lambda command, *_, **__: seen.append(command.name) or 0)
    for short, name in SHORT.items():
        assert umbrella(["-c", file, short, "main"]) == umbrella(["-c", file, name, "main"]) == 0
    assert seen == [name for name in SHORT.values() for _ in range(2)]
    assert not set(SHORT) & set(SUMMARIES)


def test_a_word_that_is_nearly_a_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for word, meant in (("lst", "list"), ("bakup", "backup"), ("drils", "drill")):
        assert umbrella([word]) == 3
        assert f"is it '{meant}'?" in capsys.readouterr().err
