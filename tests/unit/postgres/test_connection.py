import logging
from types import SimpleNamespace
from typing import Any

import pytest

from barman_cloud.errors import ConfigurationError, OperationError
from barman_cloud.postgres.backup_mode import label_start, label_timeline
from barman_cloud.postgres.connection import ConnectionParameters, _arguments, _settle, connect, first_line

LABEL = "START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\nLABEL: START TIMELINE: 9\nSTART TIMELINE: 3\n"


def test_a_database_name_goes_with_the_other_options() -> None:
    given = ConnectionParameters("my db", host="/run/pg", port="5433", user="back'up")
    assert _arguments(given) == {"dbname": "my db", "host": "/run/pg", "port": "5433", "user": "back'up"}
    assert _arguments(ConnectionParameters("postgres")) == {"dbname": "postgres"}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("host=h dbname=d", {"host": "h", "dbname": "d"}),
        ("host='a b' password='it\\'s'", {"host": "a b", "password": "it's"}),
        ("postgresql://u@h:1/d", {"user": "u", "host": "h", "port": "1", "dbname": "d"}),
        ("postgres://h/d?sslmode=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("service=prod application_name=mine", {"service": "prod", "application_name": "mine"}),
    ],
)
def test_a_connection_string_stands_alone(text: str, arguments: dict[str, str]) -> None:
    assert _arguments(ConnectionParameters(text, host="ignored", user="ignored")) == arguments


@pytest.mark.parametrize(
    "text",
    [
        "host=h password=a secret",
        "nonsense=1",
        "postgresql://h:1:2/d?x",
        'postgresql://u:a"secret b@h/d',
        "postgresql://u:a@secret@h/d",
        "postgresql://u:a@secret@h:1,other:2/d",
    ],
)
def test_a_string_that_makes_no_sense_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _arguments(ConnectionParameters(text))
    assert "secret" not in str(caught.value)
    assert caught.value.hint is not None


def test_a_refused_connection_is_one_line() -> None:
    with pytest.raises(OperationError) as caught:
        connect(ConnectionParameters("host=127.0.0.1 port=1 user=u dbname=d"))
    assert str(caught.value).startswith("cannot connect to PostgreSQL: ")
    assert "\n" not in str(caught.value)


def test_the_first_line_of_an_error_is_told_without_its_prefix() -> None:
    assert first_line(ValueError("FATAL:  no\nDETAIL: more")) == "no"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("location", ["0/5000028", "0/05000028"])
def test_the_location_of_a_label_as_any_version_writes_it(location: str) -> None:
    assert label_start(LABEL.replace("0/5000028", location)) == 0x5000028
    with pytest.raises(OperationError):
        label_start("LABEL: START WAL LOCATION: 0/5000028 (file x)\n")


def test_the_timeline_of_a_label() -> None:
    assert label_timeline(LABEL) == 3
    with pytest.raises(OperationError):
        label_timeline("LABEL: x\n")


@pytest.mark.parametrize(("version", "lines"), [(180006, 0), (190000, 0), (200001, 1), (310000, 1)])
def test_a_server_that_nobody_tried_is_told_of_once_and_not_refused(
    version: int, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []
    connection: Any = SimpleNamespace(
        info=SimpleNamespace(server_version=version), execute=lambda *words: asked.append(words)
    )
    with caplog.at_level(logging.INFO):
        _settle(connection)
    assert len(caplog.records) == lines
    assert asked
