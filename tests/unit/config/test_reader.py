"""Configuration files as users have them, and the mistakes in them."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from barman_cloud.config.reader import Configuration, find_file, load
from barman_cloud.errors import ConfigurationError

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture
def more(tmp_path: Path) -> Path:
    directory = tmp_path / "barman.d"
    directory.mkdir()
    return directory


def example(tmp_path: Path, name: str, more: Path) -> Configuration:
    """One of Barman's example configurations, unchanged but for the place of the other files."""
    text = (EXAMPLES / f"{name}.conf").read_text().replace("/etc/barman.d", str(more))
    path = tmp_path / "barman.conf"
    path.write_text(text)
    return load(str(path))


def written(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "barman.conf"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def problem(tmp_path: Path, text: str) -> str:
    """The one line and the hint that a file ends with, its directory left out."""
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, text), {}).servers()
    message = f"{caught.value} ({caught.value.hint})".replace(f"{tmp_path}/", "")
    assert "\n" not in message
    return message


def test_a_server_that_streams_to_the_cloud(tmp_path: Path, more: Path) -> None:
    server = example(tmp_path, "streamed", more).server("main")
    assert server["description"] == "Main PostgreSQL, streamed to the cloud"
    assert server.base_url == server.wal_url == "s3://backups/prod"
    assert (server["backup_method"], server["create_slot"], server["streaming_archiver"]) == ("postgres", "auto", True)
    assert server["compression"] == "gzip"  # of [barman]
    assert server["cloud_upload_max_archive_size"] == 20 * 1024**3
    assert server["last_backup_maximum_age"] == timedelta(days=1)
    assert server["streaming_wals_directory"] == "/var/lib/barman/main/streaming"
    assert {name for name, _ in server.unused()} == {
        "backup_options",
        "cloud_staging_directory",
        "cloud_staging_max_size",
    }


def test_a_server_that_reads_its_own_machine(tmp_path: Path, more: Path) -> None:
    server = example(tmp_path, "local-to-cloud", more).server("pg")
    assert server.base_url == "gs://company-backups/pg"
    assert (server["backup_method"], server["archiver"], server["parallel_jobs"]) == ("local-to-cloud", True, 4)
    assert server["pre_backup_script"] == "/usr/local/bin/announce"
    assert server["streaming_conninfo"] == server["conninfo"]
    assert server.unused() == []


def test_a_server_of_snapshots_with_a_model(tmp_path: Path, more: Path) -> None:
    configuration = example(tmp_path, "snapshot", more)
    assert configuration.names == ["volumes"]
    server = configuration.server("volumes")
    assert server["snapshot_disks"] == ("vol-data", "vol-tablespace")
    assert server.base_url == "s3://backups/prod"  # metadata alone, which goes with the WAL
    assert server.wal_url == "s3://backups/prod"
    moved = configuration.server("volumes", "volumes:failover")
    assert moved["snapshot_disks"] == ("vol-data2",)
    assert moved["aws_region"] == "eu-central-1"
    assert moved.model == "volumes:failover"


def test_more_files_hold_more_servers(tmp_path: Path, more: Path) -> None:
    (more / "b.conf").write_text("[second]\nconninfo = host=b\n")
    (more / "a.conf").write_text("[first]\nconninfo = host=a\n")
    (more / "notes.txt").write_text("not read")
    assert example(tmp_path, "streamed", more).names == ["main", "first", "second"]


def test_the_first_file_of_the_search_path_counts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".barman.conf").write_text("[barman]\n")
    assert find_file(None, {"HOME": str(home)}) == home / ".barman.conf"
    assert find_file("/given", {"HOME": str(home)}) == Path("/given")


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    path = written(tmp_path, f"[main]\nconninfo = user=${{ENV:PGUSER}} password=${{FILE:{secret}}}\n")
    assert load(path, {"PGUSER": "barman"}).server("main")["conninfo"] == "user=barman password=s3cret"


@pytest.mark.parametrize("secret", ["host=pg password=x", "postgresql://barman:x@pg/postgres"])
def test_a_password_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    text = f"[main]\nconninfo = {secret}\n"
    with caplog.at_level(logging.WARNING):
        load(written(tmp_path, text, 0o644))
        assert "barman.conf:2: conninfo holds a password, and others may read the file (mode 644)" in caplog.text
        caplog.clear()
        load(written(tmp_path, text, 0o600))
        assert not caplog.text


MISTAKES = {
    "unknown key": (
        "[main]\n# fine\nretention_polcy = REDUNDANCY 1\n",
        "barman.conf:3: unknown key 'retention_polcy' in [main] (did you mean retention_policy?)",
    ),
    "unknown key in [barman]": (
        "[barman]\nbarman_hom = /x\n",
        "barman.conf:2: unknown key 'barman_hom' in [barman] (did you mean barman_home?)",
    ),
    "global key in a server": (
        "[main]\nbarman_home = /x\n",
        "barman.conf:2: 'barman_home' can't stand in a server (it belongs to the section [barman])",
    ),
    "bucket in [barman]": (
        "[barman]\nwals_directory = s3://bucket/x\n",
        "barman.conf:2: 'wals_directory' can't stand in the section [barman] (it belongs to a server)",
    ),
    "bad boolean": ("[main]\narchiver = maybe\n", "barman.conf:2: archiver: 'maybe' is neither on nor off"),
    "bad choice": ("[main]\ncompression = zip\n", "barman.conf:2: compression: 'zip' is not one of gzip, bzip2"),
    "bad slot": ("[main]\nslot_name = a-b\n", "barman.conf:2: slot_name: 'a-b' can't be the name of a slot"),
    "bad age": ("[main]\nlast_backup_maximum_age = 3\n", "barman.conf:2: last_backup_maximum_age: '3' is not an age"),
    "bad size": (
        "[main]\ncloud_upload_max_archive_size = 5X\n",
        "barman.conf:2: cloud_upload_max_archive_size: '5X' is",
    ),
    "bad policy": ("[main]\nretention_policy = FOREVER\n", "barman.conf:2: retention_policy: "),
    "URL that isn't understood": ("[main]\nwals_directory = s3:///x\n", "barman.conf:2: wals_directory: "),
    "URL of another kind": ("[main]\nbasebackups_directory = ftp://x/y\n", "barman.conf:2: basebackups_directory: "),
    "relative path": ("[main]\nbackup_directory = x\n", "barman.conf:2: backup_directory: 'x' is not an absolute path"),
    "duplicate section": ("[main]\n[main]\n", "barman.conf:2: section [main] is there twice (remove one of them)"),
    "duplicate key": ("[main]\nactive=on\nactive=off\n", "barman.conf:3: key 'active' is twice in [main]"),
    "key before a section": ("active = on\n", "barman.conf:1: a key before any section (begin the file with"),
    "no key": ("[main]\nnonsense\n", "barman.conf:2: not of the form key = value"),
    "server named all": ("[all]\n", "barman.conf:1: a server can't be named 'all' (choose another name)"),
    "server named like a path": ("[a/b]\n", "barman.conf:1: 'a/b' can't be a server's name"),
    "model without a cluster": ("[m]\nmodel = on\n", "barman.conf:1: model [m] doesn't say which cluster it is for"),
    "schedule that never comes": (
        "[main]\nbackup_schedule = 0 0 31 2 *\n",
        "barman.conf:2: backup_schedule: '0 0 31 2 *' is a schedule that never comes",
    ),
    "schedule of four fields": ("[main]\nbackup_schedule = 0 0 1 2\n", "barman.conf:2: backup_schedule: '0 0 1 2' is"),
    "time zone": ("[main]\nschedule_time_zone = Mars\n", "barman.conf:2: schedule_time_zone: 'Mars' is not a time"),
    "missing variable": ("[main]\nconninfo = ${ENV:NO}\n", "barman.conf:2: the environment variable NO isn't set"),
    "missing file": ("[main]\nconninfo = ${FILE:/no}\n", "barman.conf:2: can't read /no: No such file or directory"),
    "missing directory": (
        "[barman]\nconfiguration_files_directory = /no\n",
        "barman.conf:2: configuration_files_directory /no doesn't exist (make it, or remove the line)",
    ),
}


def test_values_that_barman_takes_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    path.write_text("[barman]\nlog_level = NOTSET\n[main]\nslot_name = SLOT\ncompression =\nactive = t\n")
    server = load(str(path)).server("main")
    assert (server["slot_name"], server["compression"], server["active"]) == ("slot", "none", True)


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_file_and_line(tmp_path: Path, text: str, expected: str) -> None:
    assert problem(tmp_path, text).startswith(expected)


def test_a_server_twice_names_both_files(tmp_path: Path, more: Path) -> None:
    (more / "x.conf").write_text("\n[main]\n")
    with pytest.raises(ConfigurationError, match=r"x\.conf:2: section \[main\] is also at .*barman\.conf:10"):
        example(tmp_path, "streamed", more)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory, not a configuration file"):
        load(str(tmp_path))
    with pytest.raises(ConfigurationError, match="can't read the configuration file /nowhere: No such file"):
        load("/nowhere")
    latin = tmp_path / "latin.conf"
    latin.write_bytes(b"[main]\ndescription = caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.conf:2: the file is not UTF-8"):
        load(str(latin))
    with pytest.raises(ConfigurationError, match="there is no configuration file"):
        if any(Path(name).exists() for name in ("/etc/barman.conf", "/etc/barman/barman.conf")):
            pytest.skip("this machine has a configuration of Barman")
        load(None, {"HOME": str(tmp_path / "nobody")})


def test_a_model_of_another_cluster_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "[a]\n[b]\n[m]\nmodel=on\ncluster=b\nconninfo=host=x\n")
    configuration = load(path)
    assert configuration.server("b", "m")["conninfo"] == "host=x"
    with pytest.raises(ConfigurationError, match="model 'm' is for cluster 'b', and server 'a' is of cluster 'a'"):
        configuration.server("a", "m")


def test_an_unknown_server_names_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "[main]\n[other]\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path).server("mian")
    assert caught.value.hint == "did you mean main?"


def test_a_local_directory_must_fit_the_layout(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    server = load(written(tmp_path, "[main]\nbasebackups_directory = /data/base\nwals_directory=/d/main/wals\n"))
    assert server.server("main").wal_url == "file:///d"
    with pytest.raises(ConfigurationError, match=r"barman\.conf:2: basebackups_directory = /data/base can't be used"):
        _ = server.server("main").base_url
