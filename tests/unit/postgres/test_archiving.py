import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from barman_cloud.postgres.archiving import problem_of_settings
from barman_cloud.postgres.connection import name_of
from tests.unit.postgres.metadata import SERVER


@pytest.mark.parametrize(
    "command",
    ["true", "/bin/true", "/usr/bin/true", " /bin/true ", ":", "exit 0", "echo %p", "/bin/echo archived %f", "true %p"],
)
def test_a_command_that_archives_nothing(command: str) -> None:
    problem = problem_of_settings(replace(SERVER, archive_command=command))
    assert problem == f"archive_command is '{command.strip()}', which archives nothing"


@pytest.mark.parametrize(
    "command",
    [
        "barman-cloud-wal-archive s3://b main %p",
        "true && cp %p /a/%f",
        "echo %p >> list",
        "trueness",
        "test ! -f /a/%f && cp %p /a",
        "echo `cp %p /a`",
        "echo $(cp %p /a)",
        "/opt/true/archive %p",
    ],
)
def test_a_command_that_may_archive(command: str) -> None:
    assert problem_of_settings(replace(SERVER, archive_command=command)) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"archive_mode": "off"}, "archive_mode is off"),
        ({"archive_command": ""}, "archive_command is empty: .* will wait"),
        ({"archive_command": "", "archive_library": "basic_archive"}, None),
        ({"archive_command": None}, None),
        ({"in_recovery": True}, "standby that doesn't archive"),
        ({"in_recovery": True, "archive_mode": "always"}, None),
    ],
)
def test_what_the_settings_say(changes: dict[str, Any], words: str | None) -> None:
    problem = problem_of_settings(replace(SERVER, **changes))
    assert problem is None if words is None else re.search(words, str(problem))


@pytest.mark.parametrize(
    ("encoding", "value", "name"),
    [
        ("UTF8", "é".encode(), "é"),
        ("UTF8", b"\xe9", "\udce9"),
        ("LATIN1", b"\xe9", "é"),
        ("WIN1251", b"\xe9", "й"),
        ("KOI8R", b"\xca", "й"),
        ("EUC_JP", b"\xc6\xfc", "日"),
        ("SQL_ASCII", b"sp\xe9", "sp\udce9"),
        ("MULE_INTERNAL", b"\xe9", "\udce9"),
    ],
)
def test_names_are_read_in_the_encoding_of_the_database(encoding: str, value: bytes, name: str) -> None:
    connection: Any = SimpleNamespace(info=SimpleNamespace(parameter_status=lambda _: encoding))
    assert name_of(value, connection) == name
