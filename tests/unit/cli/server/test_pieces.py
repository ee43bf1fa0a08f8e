"""Pieces of the server commands that need no server: output, locks, lines of check, tars for put-wal."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pwd
import tarfile
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.server import check, incoming, main, servers
from barman_cloud.cli.server.output import Output
from barman_cloud.cli.server.session import Session
from barman_cloud.cli.wal_receive import one_on_this_machine
from barman_cloud.config.reader import load
from barman_cloud.errors import ConflictError, IntegrityError, NotFoundError
from barman_cloud.schedule import locks
from barman_cloud.schedule.local import lock_path
from barman_cloud.store.open import open_store
from tests.unit.catalog.builders import backup, fill

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"
NAME = "000000010000000000000003"


def test_text_goes_to_stdout_and_trouble_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.info("a\tb")
    output.warning("careful\x1b")
    output.error("wrong", "do that")
    output.finish()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a\tb\n", "WARNING: careful\\x1b\nERROR: wrong (hint: do that)\n")
    assert output.exit_code == 1


def test_json_is_one_object_without_line_end(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.text("for people\n")
    output.info("done")
    output.warning("careful")
    output.error("wrong")
    output.result("main", {"b": 1})
    output.result("main", {"a": 2})
    output.result(None, {"z": 3})
    output.finish()
    said = capsys.readouterr()
    assert said.out == (
        '{"_ERROR": ["wrong"], "_INFO": ["done"], "_WARNING": ["careful"], "main": {"a": 2, "b": 1}, "z": 3}'
    )
    assert said.err == ""


def test_a_lock_is_held_by_one_process_and_names_it(tmp_path: Path) -> None:
    path = lock_path(tmp_path, "main", "backup")
    with locks.held(str(tmp_path), "main", "backup", "busy"):
        assert locks.holder(path) == os.getpid()
        assert locks.running(str(tmp_path), "main") == {"backup": os.getpid()}
        assert locks.running(str(tmp_path), "other") == {}
        with pytest.raises(ConflictError, match="busy"), locks.held(str(tmp_path), "main", "backup", "busy"):
            pass
    assert locks.holder(path) is None
    assert locks.running(str(tmp_path), "main") == {}
    assert locks.running(str(tmp_path / "nowhere"), "main") == {}


def test_a_receiver_holds_barmans_lock_whoever_starts_it(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    path.write_text(f"[barman]\nbarman_lock_directory = {tmp_path}/locks\n[main]\nconninfo = host=x\n")
    server = load(str(path)).server("main")
    with one_on_this_machine(server):
        assert locks.running(f"{tmp_path}/locks", "main") == {"receive-wal": os.getpid()}
        with (
            pytest.raises(ConflictError, match="Another receive-wal process is already running for server main"),
            one_on_this_machine(server),
        ):
            pass
    assert locks.running(f"{tmp_path}/locks", "main") == {}
    # A container without a place for it has the lease in the bucket.
    path.write_text(f"[barman]\nbarman_lock_directory = {path}/locks\n[main]\nconninfo = host=x\n")
    with one_on_this_machine(load(str(path)).server("main")):
        pass


def test_nagios_hears_one_line_with_sizes() -> None:
    good = check.Checked("main", (check.Line("PostgreSQL", True),), 5, 7)
    bad = check.Checked("copy", (check.Line("PostgreSQL", False, "down"), check.Line("wal size", True, "0 B")))
    assert check.nagios([good]) == "BARMAN OK - Ready to serve the Espresso backup for main|main=5B main_wals=7B"
    assert check.nagios([bad]) == (
        "BARMAN CRITICAL - server copy has issues * copy FAILED: PostgreSQL|copy=0B copy_wals=0B\n"
        "copy.PostgreSQL: FAILED (down)"
    )
    assert check.nagios([good, bad]).startswith("BARMAN CRITICAL - 1 server out of 2 have issues * copy FAILED: Post")
    assert check.key_of("superuser or standard user with backup privileges").startswith("superuser_or_standard_user")
    assert check.key_of("receive-wal running") == "receive_wal_running"


def packed(members: dict[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def sums(kind: str, members: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.new(kind, data).hexdigest()} *{name}\n" for name, data in members.items()).encode()


def test_what_put_wal_is_sent_is_compared_with_its_checksums(tmp_path: Path) -> None:
    files = {NAME: b"segment", "00000002.history": b"history"}
    for number, (name, kind) in enumerate({"SHA256SUMS": "sha256", "MD5SUMS": "md5"}.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert incoming.unpack(packed({**files, name: sums(kind, files)}), directory) == ["00000002.history", NAME]
        assert (directory / NAME).read_bytes() == b"segment"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({NAME: b"x"}, f"Missing checksum for file '{NAME}'"),
        ({NAME: b"x", "SHA256SUMS": sums("sha256", {NAME: b"y"})}, "Bad file checksum"),
        ({"../evil": b"x"}, "is not the name of a WAL file"),
        ({"SHA256SUMS": b"rubbish"}, "isn't understood"),
        ({"SHA256SUMS": sums("sha256", {NAME: b"y"})}, "isn't there"),
    ],
)
def test_put_wal_refuses(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        incoming.unpack(packed(members), tmp_path)


def test_put_wal_refuses_what_is_no_tar(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no tar"):
        incoming.unpack(io.BytesIO(b"x" * 2000), tmp_path)


def test_what_waits_is_archived_in_order_and_unfinished_segments_are_left(tmp_path: Path) -> None:
    for name in (NAME, "000000010000000000000004.partial", "00000002.history", "notes", "receive-x"):
        (tmp_path / name).touch()
    assert [path.name for path in incoming.waiting(tmp_path)] == ["00000002.history", NAME]
    assert incoming.waiting(tmp_path / "nowhere") == []


def test_passwords_are_not_shown() -> None:
    assert servers.hide_password("host=pg user=barman") == "host=pg user=barman"
    assert "secret" not in str(servers.hide_password("postgresql://barman:secret@pg/postgres"))
    assert "password=" in str(servers.hide_password("host=pg password=secret"))
    assert servers.hide_password("host=pg password='unfinished secret") == "********"
    assert servers.hide_password(None) is None


@pytest.mark.parametrize("name", ["streamed", "local-to-cloud", "snapshot"])
def test_users_configurations_work_unchanged(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three configurations as Barman's documentation has them, but for the directory of further files."""
    monkeypatch.setattr("barman_cloud.schedule.active_model.active_model", lambda *_: None)  # there is no bucket to ask
    (tmp_path / "barman.d").mkdir()
    text = (EXAMPLES / f"{name}.conf").read_text().replace("/etc/barman.d", str(tmp_path / "barman.d"))
    text = text.replace("barman_user = barman", f"barman_user = {pwd.getpwuid(os.geteuid()).pw_name}")
    path = tmp_path / "barman.conf"
    path.write_text(text.replace("/var/log/barman", str(tmp_path)))
    (server,) = load(str(path)).names
    assert main.main(["-c", str(path), "list-servers", "--minimal"]) == 0
    assert capsys.readouterr().out == f"{server}\n"
    for words in (["backup-list"], ["check"], ["restore", "last", "/x"], ["wal-archive", f"/x/{NAME}"]):
        if name == "snapshot" and words[0] not in ("wal-archive",):
            continue  # its base backups are snapshots: only WAL is in a bucket
        with Session.open(str(path), Output()) as session:
            args = session.server(server).plain(words[0], words[1:])
        assert "://" in getattr(args, args.url_argument)
        assert args.server_name == server


def test_unknown_words_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["lst-servers"]) == 2
    assert "is it 'list-servers'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main.main(["list-backups"])
    assert ended.value.code == 2


def test_a_missing_configuration_is_one_line_and_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["-c", str(tmp_path / "none"), "list-servers"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("ERROR: can't read the configuration file") and said.err.count("\n") == 1
    assert main.main(["-c", str(tmp_path / "none"), "-f", "json", "list-servers"]) == 1
    assert list(json.loads(capsys.readouterr().out)) == ["_ERROR"]


def test_all_goes_on_behind_a_server_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "barman.conf"
    sections = "".join(
        f"[{name}]\nactive = {active}\nbackup_method = postgres\nconninfo = host=x\n"
        f"basebackups_directory = file://{tmp_path}\nwals_directory = file://{tmp_path}\n"
        for name, active in (("one", "on"), ("two", "off"), ("three", "on"))
    )
    path.write_text(f"[barman]\nbarman_home = {tmp_path}\n{sections}")
    output = Output()
    seen = []

    def look(server: Any) -> None:
        seen.append(server.name)
        if server.name == "one":
            raise NotFoundError("gone")

    with Session.open(str(path), output) as session:
        session.each(["all"], look)
    assert seen == ["one", "three"]
    assert output.exit_code == 1
    assert capsys.readouterr().err == "ERROR: one: gone\n"


def catalogued(tmp_path: Path, **settings: str) -> str:
    """A server ``main`` with a full backup, an incremental one, two that failed and one that runs."""
    (tmp_path / "store").mkdir(exist_ok=True)
    catalog = Catalog(open_store(f"file://{tmp_path}/store"), Layout("", "main"))
    backups = [
        backup("20260101T000000", NAME, "FAILED"),
        backup("20260102T000000", NAME, backup_name="base", size=100, children_backup_ids=["20260103T000000"]),
        backup("20260103T000000", NAME, parent_backup_id="20260102T000000", size=10),
        backup("20260104T000000", NAME, "FAILED"),
        backup("20260105T000000", NAME, "STARTED"),
    ]
    fill(catalog, backups, [NAME], keeps={"20260102T000000": "standalone"})
    path = tmp_path / "barman.conf"
    given = {
        "basebackups_directory": f"file://{tmp_path}/store",
        "wals_directory": f"file://{tmp_path}/store",
        **settings,
    }
    section = "".join(f"{key} = {value}\n" for key, value in given.items())
    path.write_text(f"[barman]\nbarman_home = {tmp_path}/home\n[main]\nbackup_method = postgres\n{section}")
    return str(path)


@pytest.mark.parametrize(
    ("word", "day"),
    [("latest", 3), ("last", 3), ("oldest", 2), ("first", 2), ("latest-full", 2), ("last-full", 2), ("base", 2),
     ("last-failed", 4), ("latest-failed", 4), ("first-failed", 1), ("oldest-failed", 1), ("20260105T000000", 5),
     ("nothing", None), ("20260106T000000", None)],
)  # fmt: skip
def test_a_word_means_the_backup_that_barman_takes(tmp_path: Path, word: str, day: int | None) -> None:
    with Session.open(catalogued(tmp_path), Output()) as session:
        found = session.server("main").find(word)
    assert (found and found.backup_id) == (day and f"2026010{day}T000000")


def test_a_list_has_every_backup_and_what_the_policy_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["-c", catalogued(tmp_path), "list-backups", "main"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[1][:8] for line in listed] == [f"2026010{day}" for day in (5, 4, 3, 2, 1)]
    assert [line.split(" - ", 1)[1] for line in listed if "Size" not in line] == [
        "F - STARTED",
        "F - FAILED",
        "F - FAILED",
    ]
    assert listed[3] == "main 20260102T000000 'base' - F - Fri Jan  2 00:00:00 2026 - Size: 101 B - WAL Size: 0 B"
    assert main.main(["-c", catalogued(tmp_path, retention_policy="REDUNDANCY 1"), "list-backups", "main"]) == 0
    assert capsys.readouterr().out.splitlines()[3].endswith(" - WAL Size: 0 B - KEEP:STANDALONE")


def test_a_failed_backup_is_shown_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = catalogued(tmp_path)
    assert main.main(["-c", path, "show-backup", "main", "first-failed"]) == 0
    assert "  Status                 : FAILED\n" in capsys.readouterr().out
    assert main.main(["-c", path, "-f", "json", "check-backup", "main", "last-failed"]) == 1
    assert json.loads(capsys.readouterr().out) == {"_ERROR": ["backup 20260104T000000 is FAILED, not DONE"]}


def test_what_barman_kept_on_its_host_is_imported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = catalogued(tmp_path)
    base, meta = tmp_path / "store" / "main" / "base", tmp_path / "home" / "main" / "meta"
    meta.mkdir(parents=True)
    (base / "20260102T000000" / "annotations" / "keep").unlink()
    info = base / "20260103T000000" / "backup.info"
    (meta / "20260102T000000-keep").write_text("full")
    (meta / "20260102T000000-backup_manifest").write_text("manifest")
    (meta / "20260103T000000-backup.info").write_bytes(info.read_bytes())
    info.unlink()
    (meta / "20260104T000000-backup.info").write_text("status=DONE\n")  # the bucket's own is not replaced
    (meta / "20260109T000000-backup.info").write_text("status=DONE\n")
    (meta / "20260104T000000-delete_this").touch()
    (meta / "main-xlog.db").write_text("x")
    assert main.main(["-c", path, "import-state", "main"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"from {tmp_path}/home/main: 3 objects and 0 WAL files\n")
    assert "20260109T000000 has no archives" in said.err and "not finished deleting backup 20260104T000000" in said.err
    assert info.read_bytes() == (meta / "20260103T000000-backup.info").read_bytes()
    assert "FAILED" in (base / "20260104T000000" / "backup.info").read_text()
    assert not (base / "20260109T000000").exists()
    for words, said_now in (
        ("keep main base -s", "\tKeep: full"),
        ("keep main base -r", ""),
        ("import-state main", "was imported before"),
        ("keep main base -s", "\tKeep: nokeep"),
    ):
        assert main.main(["-c", path, *words.split()]) == 0
        assert said_now in capsys.readouterr().out
    (meta / "20260102T000000-keep").unlink()
    assert main.main(["-c", path, "import-state", "main", "--again"]) == 0
    assert (
        main.main(["-c", catalogued(tmp_path / "store", backup_directory="/nowhere/at-all"), "import-state", "main"])
        == 1
    )


def test_a_level_of_the_log_file(tmp_path: Path) -> None:
    path, log = tmp_path / "barman.conf", tmp_path / "log"
    path.write_text(f"[barman]\nlog_file = {log}\nlog_level = INFO\n")
    from barman_cloud import logs

    with Session.open(str(path), Output()):
        logger = logs.get_logger("barman_cloud.test")
        logger.info("kept")
        logger.debug("not kept")
    logs.configure(0)
    assert [line.rpartition("INFO: ")[2] for line in log.read_text().splitlines()] == ["kept"]
