"""What is offered at the end of a command line, and the shells themselves asking for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from scripts import completions

from barman_cloud.cli import completion
from barman_cloud.cli.commands import PROGRAMS, SUMMARIES
from barman_cloud.cli.main import main
from tests.support.commands import program
from tests.support.postgres import command_environment
from tests.support.terminals import Terminal

BIN = Path(program("backup")).parent


def offered(line: str) -> list[str]:
    return [candidate.word for candidate in completion.candidates(line)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for server in ("main", "mirror", "other", "bad;name", "$(touch x)"):
        for backup in ("20261126T030000", "20261127T030000"):
            (tmp_path / "store" / server / "base" / backup).mkdir(parents=True)
            (tmp_path / "store" / server / "base" / backup / "backup.info").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    return f"file://{tmp_path}/store"


CASES = [
    ("barman-cloud ", [*SUMMARIES, "server", "completion"]),
    ("barman-cloud back", ["backup", "backup-delete", "backup-keep", "backup-list", "backup-show"]),
    ("/opt/bin/barman-cloud completion z", ["zsh"]),
    ("barman-cloud -c /etc/f.conf veri", ["verify"]),
    ("barman-cloud -c ", [":files"]),
    ("barman-cloud nonsense ", []),
    ("barman-cloud server list-", ["list-servers", "list-backups", "list-files", "list-processes"]),
    ("barman-cloud server -f json -c /etc/f.conf show-b", ["show-backup"]),
    ("barman-cloud server -c ", [":files"]),
    ("barman-cloud server sync", []),
    ("barman-cloud server nonsense ", []),
    ("barman-cloud server backup --inc", ["--incremental"]),
    ("barman-cloud-backup-list --form", ["--format"]),
    ("barman-cloud-backup-list --format ", ["console", "json", "wide", "csv"]),
    ("barman-cloud-backup-list --format=j", ["--format=json"]),
    ("barman-cloud-backup-list --format json --form", []),
    ("barman-cloud verify --jobs ", []),
    ("barman-cloud 'unfinished", []),
]


@pytest.mark.parametrize(("line", "words"), CASES)
def test_commands_options_and_values(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_every_option_of_every_command_is_offered() -> None:
    for name in SUMMARIES:
        words = offered(f"barman-cloud {name} --")
        assert {"--help", "--version", "--verbose"} <= set(words)
    assert "--zstd" in offered("barman-cloud-wal-archive --z")


def test_servers_and_backups_out_of_the_bucket(store: str) -> None:
    assert offered(f"barman-cloud-backup-show {store} m") == ["main", "mirror"]
    ids = ["20261127T030000", "20261126T030000"]
    assert offered(f"barman-cloud-backup-show {store} main 2") == ids
    assert offered(f"barman-cloud-backup-show -v {store} main ") == [*ids, "latest", "oldest", "last-full"]
    assert offered(f"barman-cloud-backup-delete {store} main -b 20261126") == ids[1:]
    assert offered(f"barman-cloud-restore {store} main latest ") == [":files"]
    assert offered(f"barman-cloud-backup-list {store} main ") == []


def test_servers_of_the_configuration(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"basebackups_directory = {store}\nwals_directory = {store}\n"
    (tmp_path / ".barman.conf").write_text(f"[main]\n{place}[mirror]\n{place}")
    assert offered("barman-cloud backup-show m") == ["main", "mirror"]
    assert offered("barman-cloud backup-show main 20261127") == ["20261127T030000"]
    assert offered("barman-cloud server show-backup mi") == ["mirror"]
    assert offered("barman-cloud server -q recover main 20261127") == ["20261127T030000"]
    assert offered("barman-cloud server restore main latest ") == [":files"]
    monkeypatch.setenv("BARMAN_CLOUD_URL", store)
    assert offered("barman-cloud backup-show mir") == ["mirror"]


def test_what_a_shell_would_act_on_is_not_offered(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "$(touch x)" in offered(f"barman-cloud-backup-list {store} ")
    assert main(["__complete", f"barman-cloud-backup-list {store} "]) == 0
    assert capsys.readouterr().out.splitlines() == ["main", "mirror", "other"]


def test_a_store_that_does_not_answer_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr(completion, "_SECONDS", 1)
    began = time.monotonic()
    assert main(["__complete", "barman-cloud-backup-list --endpoint-url http://127.0.0.1:9 s3://b m"]) == 0
    assert time.monotonic() - began < 60
    assert capfd.readouterr() == ("", "")


def test_the_scripts_name_every_program(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in completion.SHELLS:
        assert main(["completion", shell]) == 0
        text = capsys.readouterr().out
        assert "@" not in text.replace('"$@"', "").replace("[@]", "")
        assert all(f"barman-cloud-{name}" in text for name in PROGRAMS)
    assert main(["completion", "powershell"]) == 3


def bash(line: str, environ: dict[str, str]) -> list[str]:
    """Return what bash itself would offer at the end of ``line``, its words broken as it breaks them."""
    script = """
    source <(barman-cloud completion bash)
    COMP_LINE=$1 COMP_POINT=${#1}
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _barman_cloud
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    import re

    words = [word for word in re.split(r"(:+)|\s+", line) if word]
    if line.endswith(" "):
        words.append("")
    variables = {**command_environment(environ), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", line, *words],
        capture_output=True,
        text=True,
        env=variables,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_real_bash(store: str) -> None:
    assert bash("barman-cloud ver", {}) == ["verify"]
    assert bash("barman-cloud-backup-list --format ", {}) == ["console", "json", "wide", "csv"]
    assert bash(f"barman-cloud-backup-list {store} ", {}) == ["main", "mirror", "other"]
    assert bash(f"{BIN}/barman-cloud-backup-show {store} main 20261126", {}) == ["20261126T030000"]
    registered = "source <(barman-cloud completion bash); complete -p barman-cloud-wal-restore"
    variables = {**command_environment({}), "PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(["bash", "--norc", "-c", registered], check=True, env=variables, capture_output=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish isn't installed")
def test_real_fish_finds_the_installed_script() -> None:
    place = completions.DIRECTORY / completions.FISH
    command = f"set PATH {BIN} $PATH; set fish_complete_path {place}; complete -C '%s'"
    for line, word in (("barman-cloud ver", "verify"), ("barman-cloud-backup-list --format w", "wide")):
        done = subprocess.run(["fish", "--no-config", "-c", command % line], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == word


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh isn't installed")
def test_real_zsh_finds_the_installed_script(tmp_path: Path) -> None:
    script = completions.DIRECTORY / completions.ZSH / "_barman_cloud"
    subprocess.run(["zsh", "-n", script], check=True)
    (tmp_path / ".zshrc").write_text(
        f"path=({BIN} $path); fpath=({script.parent} $fpath); PS1='ready> '\nautoload -Uz compinit; compinit -u -D\n"
    )
    variables = {**command_environment({}), "ZDOTDIR": str(tmp_path), "TERM": "xterm"}
    with Terminal.run(["zsh", "-i"], 100, environ=variables) as terminal:
        terminal.until(lambda: terminal.lines[-1:] == ["ready>"])
        # The first time that anything is completed: the file is loaded by that.
        os.write(terminal.descriptor, b"barman-cloud ver\t")
        terminal.until(lambda: "".join(terminal.lines[-1:]).startswith("ready> barman-cloud verify"))
        os.write(terminal.descriptor, b"\x15barman-cloud-backup-list --format w\t")
        terminal.until(lambda: "".join(terminal.lines[-1:]).startswith("ready> barman-cloud-backup-list --format wide"))


def test_the_installed_scripts_are_up_to_date_and_load_each_other() -> None:
    made = completions.scripts()
    there = [path for path in completions.DIRECTORY.rglob("*") if path.is_file()]
    assert {str(path.relative_to(completions.DIRECTORY)): path.read_text() for path in there} == made
    for name in PROGRAMS:
        script = completions.DIRECTORY / completions.BASH / f"barman-cloud-{name}"
        command = f"source {script}; complete -p {script.name}"
        done = subprocess.run(["bash", "--norc", "-c", command], capture_output=True, text=True, check=True)
        assert "-F _barman_cloud" in done.stdout
