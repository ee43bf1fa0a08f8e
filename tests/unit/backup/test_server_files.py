import os
from dataclasses import replace
from pathlib import Path

import pytest

from barman_cloud.backup.server_files import configuration_files, external_files
from barman_cloud.errors import OperationError
from tests.unit.postgres.metadata import SERVER


@pytest.mark.parametrize("setting", ["config_file", "hba_file", "ident_file", "hosts_file"])
def test_a_configuration_file_outside_pgdata_belongs_into_the_backup(tmp_path: Path, setting: str) -> None:
    """``hosts_file`` is new in PostgreSQL 19."""
    path = tmp_path / "etc" / setting
    path.parent.mkdir()
    path.touch()
    metadata = replace(SERVER, **{setting: str(path)})  # type: ignore[arg-type]
    assert external_files(str(tmp_path / "data"), metadata) == (str(path),)
    assert configuration_files(metadata) == (str(path),)
    inside = replace(SERVER, **{setting: f"{tmp_path}/data/{setting}"})  # type: ignore[arg-type]
    assert external_files(str(tmp_path / "data"), inside) == ()


@pytest.mark.parametrize("setting", ["ident_file", "hosts_file"])
def test_a_file_that_the_server_can_do_without_may_be_missing(tmp_path: Path, setting: str) -> None:
    metadata = replace(SERVER, **{setting: "/nonexistent/file"})  # type: ignore[arg-type]
    assert external_files(str(tmp_path), metadata) == ()


def test_a_file_that_the_server_needs_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="/nonexistent/file"):
        external_files(str(tmp_path), replace(SERVER, hba_file="/nonexistent/file"))


def test_a_file_behind_a_closed_directory_is_named_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(OperationError, match=r"can't read /etc/pg/pg_hba.conf \(in a directory") as caught:
        external_files(str(tmp_path), replace(SERVER, hba_file="/etc/pg/pg_hba.conf"))
    assert "run the backup as the user" in str(caught.value.hint)
