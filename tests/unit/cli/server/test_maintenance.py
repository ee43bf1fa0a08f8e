"""``cron``, ``config-switch``, the active model, and the words of a receiver, with files and a directory as bucket."""

from __future__ import annotations

import json
import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import pytest

from barman_cloud.cli.server import main
from barman_cloud.cli.server.output import Output
from barman_cloud.cli.server.receiving import receiver_words
from barman_cloud.cli.server.session import Session
from barman_cloud.config.reader import load
from barman_cloud.config.user import act_as_user
from barman_cloud.errors import ConfigurationError
from barman_cloud.schedule import history, local
from barman_cloud.schedule.history import JobRun


def configured(tmp_path: Path, *lines: str, common: str = "") -> str:
    """A server ``main`` without schedules, and a model of its cluster."""
    (tmp_path / "store").mkdir(exist_ok=True)
    path = tmp_path / "barman.conf"
    places = f"basebackups_directory = file://{tmp_path}/store\nwals_directory = file://{tmp_path}/store\n"
    path.write_text(
        f"[barman]\nbarman_home = {tmp_path}/home\n{common}"
        f"[main]\ncluster = one\nbackup_method = postgres\nconninfo = host=a\n{places}"
        + "".join(f"{line}\n" for line in lines)
        + "[main:far]\nmodel = true\ncluster = one\nconninfo = host=b\ndescription = far away\n"
    )
    return str(path)


def test_a_model_is_switched_on_and_off_for_all_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    assert main.main(["-c", path, "config-switch", "main", "main:far"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Applying model 'main:far' to server 'main'"
    assert "  description: (none) -> far away" in said and not any("host=" in line for line in said)
    with Session.open(path, Output()) as session:
        server = session.server("main")
        assert (server["conninfo"], server.config.model) == ("host=b", "main:far")
    assert main.main(["-c", path, "-f", "json", "config-switch", "main", "--reset"]) == 0
    assert "main: model main:far is taken off" in json.loads(capsys.readouterr().out)["_INFO"]
    with Session.open(path, Output()) as session:
        assert session.server("main")["conninfo"] == "host=a"


def test_a_model_that_is_gone_can_be_taken_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    assert main.main(["-c", path, "config-switch", "main", "main:far"]) == 0
    Path(path).write_text(Path(path).read_text().replace("[main:far]", "[main:near]"))
    assert main.main(["-c", path, "list-backups", "main"]) == 1
    assert "active model of main can't be applied" in capsys.readouterr().err
    assert main.main(["-c", path, "config-switch", "main", "--reset"]) == 0
    assert main.main(["-c", path, "list-backups", "main"]) == 0


@pytest.mark.parametrize(
    ("words", "message"), [(["main", "none"], "no model 'none'"), (["mian", "--reset"], "Unknown server 'mian'")]
)
def test_names_that_do_not_exist_end_with_one(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["-c", configured(tmp_path), "config-switch", *words]) == 1
    said = capsys.readouterr()
    assert message in said.err and said.out == ""


@pytest.mark.parametrize("words", [["main"], ["main", "main:far", "--reset"]])
def test_either_a_model_or_reset(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["-c", configured(tmp_path), "config-switch", *words])
    assert ended.value.code == 2


def test_cron_with_nothing_to_do_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    for words in (["cron"], ["cron", "--keep-descriptors"]):
        assert main.main(["-c", path, *words]) == 0
        assert capsys.readouterr().err == ""


def test_cron_goes_on_past_a_server_and_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    assert main.main(["-c", path, "config-switch", "main", "main:far"]) == 0
    capsys.readouterr()
    Path(path).write_text(Path(path).read_text().replace("[main:far]", "[main:near]"))
    assert main.main(["-c", path, "cron"]) == 0
    assert capsys.readouterr().err.startswith("WARNING: main: the active model of main can't be applied")


def test_a_second_cron_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    with Session.open(path, Output()) as session:
        directory = local.lock_directory(session.configuration.common)
    lock = local.try_lock(local.lock_path(directory, "main", "cron"))
    assert lock is not None
    with lock:
        assert main.main(["-c", path, "cron"]) == 0
    assert capsys.readouterr().out == "Another cron process is already running on this machine\n"


@pytest.mark.parametrize(
    "command", [["cron"], ["config-switch", "main", "--reset"], ["list-servers"], ["put-wal", "x"]]
)
def test_barman_user_is_whom_all_commands_run_as(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(tmp_path, common="barman_user = nobody-here\n")
    assert main.main(["-c", path, *command]) == 1
    assert "conf:3: barman_user is 'nobody-here', and there is no such user" in capsys.readouterr().err


def test_root_becomes_barman_user_and_others_are_refused(tmp_path: Path) -> None:
    """Nobody comes back from that, so it is tried in a process of its own."""
    wanted = "nobody" if os.geteuid() == 0 else "root"
    common = load(configured(tmp_path, common=f"barman_user = {wanted}\n")).common
    pid = os.fork()
    if pid == 0:
        try:
            act_as_user(common)
            user = pwd.getpwnam(wanted)
            os._exit(11 if (os.getuid(), os.environ["HOME"]) == (user.pw_uid, user.pw_dir) else 12)
        except ConfigurationError as error:
            os._exit(13 if f"barman_user is '{wanted}', and this runs as '" in str(error) else 14)
        finally:
            os._exit(15)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (11 if os.geteuid() == 0 else 13)


def test_status_tells_the_last_and_the_next_scheduled_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path, "conninfo = host=127.0.0.1 port=1", "verify_schedule = 0 2 * * *")
    path_of = Path(path)
    path_of.write_text(path_of.read_text().replace("conninfo = host=a\n", ""))
    with Session.open(path, Output()) as session:
        server = session.server("main")
        begin = datetime(2026, 11, 27, 2, tzinfo=UTC)
        for job, code, message in (("verify", 2, "one page is damaged"), ("cleanup", 0, "")):
            history.record(server.wals.store, server.wals.layout, JobRun(job, begin, begin, code, message))
    main.main(["-c", path, "status", "main"])
    lines = capsys.readouterr().out.splitlines()
    failed = "\tScheduled verify: last 2026-11-27 02:00:00Z  failed (exit code 2): one page is damaged; next 20"
    assert any(line.startswith(failed) for line in lines)
    assert any(line.startswith("\tScheduled cleanup: last 2026-11-27 02:00:00Z  ok; next ") for line in lines)
    assert not any("Scheduled backup" in line for line in lines)
    main.main(["-c", path, "-f", "json", "status", "main"])
    found = json.loads(capsys.readouterr().out)["main"]
    assert found["scheduled_verify"]["message"].startswith("last 2026-11-27 02:00:00Z")


def receiver(path: str, *names: str) -> dict[str, object]:
    """What a receiver is told, of the arguments that are named."""
    with Session.open(path, Output()) as session:
        server = session.server("main")
        args = vars(server.plain("wal-receive", receiver_words(server)))
    return {name: args[name] for name in names}


STREAM = ("streaming_archiver = on", "streaming_conninfo = host=c", "create_slot = auto")


def test_a_receiver_spools_under_the_name_and_slot_of_barman(tmp_path: Path) -> None:
    expected = {
        "mode": "spool", "spool_dir": f"{tmp_path}/home/main/streaming", "slot": "barman", "create_slot": True,
        "dbname": "host=d", "streaming_conninfo": "host=c application_name=barman_receive_wal",
    }  # fmt: skip
    assert receiver(configured(tmp_path, *STREAM, "slot_name = barman", "wal_conninfo = host=d"), *expected) == expected


def test_without_a_slot_none_is_created(tmp_path: Path) -> None:
    assert receiver(configured(tmp_path, *STREAM), "create_slot") == {"create_slot": False}


def test_a_direct_receiver_has_no_spool_but_one_that_was_used_before(tmp_path: Path) -> None:
    path = configured(tmp_path, *STREAM, "wal_receiver = direct")
    assert receiver(path, "mode", "spool_dir") == {"mode": "direct", "spool_dir": None}
    spool = tmp_path / "home" / "main" / "streaming"
    spool.mkdir(parents=True)
    assert receiver(path, "mode", "spool_dir") == {"mode": "direct", "spool_dir": str(spool)}
