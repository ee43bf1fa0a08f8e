"""Configuration files are read as PostgreSQL reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.postgres.config_file import entries, quoted
from tests.support.postgres import PostgresServer
from tests.support.privileges import server_account

LINES = [
    "work_mem = 1MB",
    "work_mem=2MB",
    "work_mem 3MB",
    "  Work_Mem\t=\t'4MB'  # comment",
    "work_mem'5MB'",
    "#work_mem = 6MB",
    "",
    "search_path = '\"$user\", public'",
    "application_name = 'it''s'",
    r"application_name = 'a\\b'",
    r"application_name = 'tab\there'",
    r"application_name = '\141bc'",
    "application_name = 'x # y'#z",
    "custom.setting = 'v'",
    "application_name = caf\u00e9",
    "application_name = ''",
    "work_mem = 7MB # it's",
    "seq_page_cost = 1.5e0",
    "seq_page_cost=-1",
    "hba_file = '/etc/postgresql/18/main/pg_hba.conf'\t# with a tab",
]


def test_as_pg_file_settings_does(postgres: PostgresServer, server_dir: Path) -> None:
    """PostgreSQL's own view of the file, line by line."""
    path = postgres.data / "postgresql.conf"
    before = path.read_bytes()
    first = before.count(b"\n") + 1
    try:
        path.write_bytes(before + "\n".join([*LINES, ""]).encode())
        server_account().own(path)
        rows = postgres.query(
            f"SELECT sourceline, name, setting FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.conf' "
            f"AND sourceline >= {first} ORDER BY seqno"
        )
    finally:
        path.write_bytes(before)
        server_account().own(path)
    found = [(entry.line - 1 + first, entry.name, entry.value) for entry in entries("\n".join(LINES).encode())]
    assert [(line, name.lower(), value) for line, name, value in rows] == found
    assert len(found) == len(LINES) - 2


@pytest.mark.parametrize("line", ["= 1", "work_mem = 'open", "1x = 2", "a.b.c = 1", "name = 'x' y", "\0", "include"])
def test_what_is_no_setting_is_passed_over(line: str) -> None:
    assert list(entries(f"{line}\nport = 1".encode()))[-1] == (2, "port", "1")
    assert len(list(entries(f"{line}\n".encode()))) == 0


@pytest.mark.parametrize("value", ["", "it's", "a\\b", "/a path/with # signs", "caf\u00e9"])
def test_what_is_quoted_is_read_back(value: str) -> None:
    assert [entry.value for entry in entries(f"name = {quoted(value)}".encode())] == [value]
