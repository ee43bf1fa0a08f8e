import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from crc32c import crc32c

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres import control_file


def control(size: int = 296, system: int = 7710966728863891090) -> bytes:
    data = struct.pack("=Q", system).ljust(size, b"\x07")
    return (data + struct.pack("=I", crc32c(data))).ljust(8192, b"\0")


@pytest.mark.parametrize("size", [200, 288, 296, 300, 508])
def test_a_whole_file_of_any_version_is_known(size: int) -> None:
    assert control_file.is_whole(control(size))
    assert control_file.parse_control_file(control(size)).system_identifier == "7710966728863891090"


@pytest.mark.parametrize(("state", "in_production"), [(1, False), (5, False), (6, True)])
def test_state_and_checkpoint_are_read(state: int, in_production: bool) -> None:
    data = struct.pack("=QIIi4xqQQ", 7, 1800, 202506291, state, 1795000000, 0x1000100, 0x2000028).ljust(8192, b"\0")
    assert control_file.parse_control_file(data) == ("7", in_production, 0x2000028)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, control()[:200], control().replace(b"\x07", b"\x08", 1)])
def test_a_damaged_file_is_known(data: bytes) -> None:
    assert not control_file.is_whole(data)


def test_a_file_that_is_cut_anywhere_is_damaged() -> None:
    """Also behind the last place of a checksum, and in the middle of it."""
    assert not any(control_file.is_whole(control(508)[:size]) for size in range(512))
    assert control_file.is_whole(control(508)[:512])


def test_a_reader_waits_until_the_writer_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pg_control"
    path.write_bytes(control()[:100])
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            path.write_bytes(control())

    monkeypatch.setattr(control_file, "time", SimpleNamespace(sleep=sleep))
    assert control_file.read_control_file(path) == control()
    assert 0.1 <= sum(pauses) <= 0.5


def test_a_file_that_stays_damaged_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_file, "_PAUSE", 0.001)
    path = tmp_path / "pg_control"
    path.write_bytes(b"\1" * 8192)
    with pytest.raises(IntegrityError, match="pg_control"):
        control_file.read_control_file(path)
