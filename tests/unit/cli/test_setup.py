"""What ``barman-cloud setup`` prints fits: its policies the documentation, its lines our parsers."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from barman_cloud.cli.command import main
from barman_cloud.cli.lines import judge
from barman_cloud.cli.setup import COMMAND, PARTS
from barman_cloud.doctor import rights
from barman_cloud.doctor.setup import PARTS as WRITTEN
from barman_cloud.store.url import parse_url
from tests.support.privileges import PROJECT

URLS = {
    "aws": "s3://backups/prod",
    "azure": "https://account.blob.core.windows.net/container/prod",
    "google": "gs://backups/prod",
    "file": "file:///srv/backups",
}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(COMMAND, list(words)) == 0
    return capsys.readouterr().out


def section(name: str) -> str:
    page = (PROJECT / "docs" / "reference" / "permissions.md").read_text()
    return page.split(f"## {name}")[1].split("\n## ")[0]


def test_every_part_can_be_asked_for() -> None:
    assert set(PARTS) == set(WRITTEN)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_all_parts_of_every_provider(capsys: pytest.CaptureFixture[str], url: str) -> None:
    text = printed(capsys, url, "main")
    assert re.findall(r"^#### (\d)", text, re.MULTILINE) == ["1", "2", "3", "4", "5"]


def test_lines_of_units_and_settings_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--endpoint-url", "https://s3.example.org", "--role", "back up", "--streamed"]
    text = printed(capsys, *options, "s3://backups/100%/it's", "main", "--part", "timers")
    lines = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        program, command, *words = shlex.split(line.replace("%%", "%"))
        assert program.endswith("/barman-cloud")
        wrong, args = judge(command, words)
        assert wrong is None
        assert args.endpoint_url == "https://s3.example.org"
        assert (args.server_name, "100%/it's" in str(vars(args))) == ("main", True)
    for unit in text.split("# /etc/systemd/system/")[1:]:
        parser = configparser.ConfigParser(strict=True, interpolation=None)
        parser.read_string(unit.partition("\n")[2])
        assert parser.sections() in (["Unit", "Service"], ["Timer", "Install"])
    settings = printed(capsys, *options, "s3://backups/100%/it's", "main", "--part", "postgresql.conf")
    value = re.search(r"^archive_command = '(.*)'$", settings, re.MULTILINE)
    assert value is not None
    command = value[1].replace("''", "'").replace("%%", "%")
    program, *words = shlex.split(command)
    assert program.startswith("/")
    wrong, args = judge("wal-archive", words)
    assert (wrong, args.destination_url, args.wal_path) == (None, "s3://backups/100%/it's", "%p")


def test_a_policy_that_is_no_policy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND, ["s3://b/p", "main", "-r", "FOR EVER"]) == 3
    assert main(COMMAND, ["s3://b/p", "../main"]) == 3


def test_aws_policies_are_those_of_the_documentation() -> None:
    block = re.search(r"```json\n(.*?)```", section("S3"), re.DOTALL)
    assert block is not None
    documented = json.loads(block[1])["Statement"]
    ours = json.loads(rights.aws_policy(parse_url("s3://BUCKET/PATH"), "everything"))["Statement"]
    assert set(ours[0]["Action"]) == set(documented[0]["Action"])
    assert set(ours[1]["Action"]) == set(documented[1]["Action"])
    assert [statement["Resource"] for statement in ours] == [statement["Resource"] for statement in documented]


COMMANDS_OF = {
    "archive": ("backup", "wal-archive"),
    "restore": ("restore", "wal-restore", "backup-list", "check"),
    "everything": ("backup", "backup-delete", "wal-receive", "check", "cleanup"),
}


@pytest.mark.parametrize("role", COMMANDS_OF)
def test_a_role_may_do_what_its_commands_need(role: str) -> None:
    aws = json.loads(rights.aws_policy(parse_url("s3://B/P"), role))["Statement"]
    allowed = {action for statement in aws for action in statement["Action"]}
    letters = set(rights.azure_letters(role))
    for command in COMMANDS_OF[role]:
        row = next(
            line for line in section("S3").splitlines() if line[:1] == "|" and f"`{command}`" in line.split("|")[1]
        )
        assert set(re.findall(r"s3:\w+", row)) <= allowed, command
        row = next(line for line in section("Azure Blob Storage").splitlines() if f"`{command}`" in line)
        needed = re.search(r"SAS `(\w+)`", row)
        assert needed is not None
        assert set(needed[1]) - {"a"} <= letters, command
    if role == "restore":
        reading = ["storage.multipartUploads.list", "storage.objects.get", "storage.objects.list"]
        assert rights.google_permissions(role) == reading


def test_systemd_takes_the_units(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd isn't installed")
    text = printed(capsys, "s3://backups/100%/it's", "main", "--os-user", "root", "--part", "timers")
    for part in text.split("# /etc/systemd/system/")[1:]:
        name, _, body = part.partition("\n")
        (tmp_path / name).write_text(body.partition("\n# /etc")[0])
    timers = sorted(tmp_path.glob("*.timer"))
    assert len(timers) == 4
    done = subprocess.run([program, "verify", *timers], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
