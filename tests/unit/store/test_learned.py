"""What is remembered of stores between commands: of use when it is there, and no harm when it isn't."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from barman_cloud.store.learned import TRUSTED_SECONDS, can_remember, recall, remember

ADDRESS = "us-east-1@http://127.0.0.1:9000/bucket with blank"


def test_what_is_remembered_is_recalled_by_kind_and_address(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert recall("region", ADDRESS, environ) is None
    assert not list(tmp_path.iterdir()), "looking makes nothing"
    remember("region", ADDRESS, "eu-central-1", environ)
    remember("region", "other", "mars-1", environ)
    assert recall("region", ADDRESS, environ) == "eu-central-1"
    assert recall("region", "unknown", environ) is None
    assert recall("if-none-match", ADDRESS, environ) is None
    remember("region", ADDRESS, "eu-west-1", environ)
    assert recall("region", ADDRESS, environ) == "eu-west-1"
    folder = tmp_path / ".cache" / "barman-cloud"
    assert [file.name for file in folder.iterdir()] == ["region"]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"1 eu-west-1", b"\x00\xff", b"soon eu-west-1 " + ADDRESS.encode()]
)
def test_a_memory_that_cannot_be_read_holds_nothing(content: bytes, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    remember("region", ADDRESS, "eu-west-1", environ)
    (tmp_path / "barman-cloud" / "region").write_bytes(content)
    assert recall("region", ADDRESS, environ) is None
    remember("region", ADDRESS, "eu-west-1", environ)
    assert recall("region", ADDRESS, environ) == "eu-west-1"


def test_an_old_memory_counts_for_nothing(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    remember("region", ADDRESS, "eu-west-1", environ)
    (tmp_path / ".cache/barman-cloud/region").write_text(
        f"{time.time() - TRUSTED_SECONDS - 1:.0f} eu-west-1 {ADDRESS}\n"
    )
    assert recall("region", ADDRESS, environ) is None


@pytest.mark.parametrize("environ", [{}, {"HOME": "relative"}, {"HOME": "/nonexistent/home"}, {"XDG_CACHE_HOME": "x"}])
def test_no_home_means_no_memory_and_none_is_made(environ: dict[str, str]) -> None:
    assert not can_remember(environ)
    remember("region", ADDRESS, "eu-west-1", environ)
    assert recall("region", ADDRESS, environ) is None
    assert not Path("/nonexistent").exists()


def test_a_place_that_others_can_write_to_is_none(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    remember("region", ADDRESS, "eu-west-1", environ)
    (tmp_path / "barman-cloud").chmod(0o770)
    assert recall("region", ADDRESS, environ) is None
    assert not can_remember(environ)


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    remember("region", ADDRESS, "eu-west-1", environ)
    memory = tmp_path / "barman-cloud" / "region"
    memory.unlink()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    memory.symlink_to(victim)
    remember("region", ADDRESS, "eu-west-1", environ)
    assert victim.read_text() == "mine"
