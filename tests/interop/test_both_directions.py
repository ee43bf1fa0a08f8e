"""What one side stores, the other lists, shows, restores and starts: base backups and WAL, in every compression."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.interop.conftest import SERVER_NAME, Shop
from tests.support.peers import Commands
from tests.support.postgres import server_directory
from tests.support.privileges import server_account

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.xdist_group("interop")]

BACKUP_COMPRESSIONS = (None, "gzip", "bzip2", "snappy", "lz4", "zstd")
WAL_COMPRESSIONS = (None, "gzip", "bzip2", "xz", "snappy", "zstd", "lz4")

CLIENT_FIELDS = (
    *("backup_name", "backup_label", "begin_time", "end_time", "begin_time_iso", "end_time_iso", "begin_wal"),
    *("end_wal", "begin_xlog", "end_xlog", "systemid", "backup_id", "error", "timeline"),
)
"""What the Kubernetes client reads of a backup."""


def backup_compression(name: str | None) -> ParameterSet:
    """One of them is enough for ``make test``."""
    return pytest.param(name, marks=() if name == "gzip" else pytest.mark.long)


def needs_zstd(peer: Commands, compression: str | None) -> None:
    if compression == "zstd" and peer.version < (3, 20):
        pytest.skip("Barman before 3.20 knows no zstd for base backups")


def check_restored(shop: Shop, commands: Commands, backup: str, directory: Path) -> None:
    restored = shop.restore(commands, backup, directory)
    with restored:
        restored.wait_recovered()
        assert shop.fingerprint(restored) == shop.fingerprint(shop.server)
        restored.amcheck()


@pytest.mark.parametrize("compression", [backup_compression(name) for name in BACKUP_COMPRESSIONS])
def test_barman_restores_our_backup(
    shop: Shop, ours: Commands, barman_peer: Commands, compression: str | None, directories: Callable[[], Path]
) -> None:
    needs_zstd(barman_peer, compression)
    backup = shop.back_up(ours, f"ours-{compression}", compression)
    check_restored(shop, barman_peer, backup, directories())


@pytest.mark.parametrize("compression", [backup_compression(name) for name in BACKUP_COMPRESSIONS])
def test_we_restore_a_backup_of_barman(
    shop: Shop, ours: Commands, barman_peer: Commands, compression: str | None, directories: Callable[[], Path]
) -> None:
    needs_zstd(barman_peer, compression)
    backup = shop.back_up(barman_peer, f"theirs-{compression}", compression)
    check_restored(shop, ours, backup, directories())


@pytest.mark.long
@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
def test_we_verify_a_backup_of_barman(
    shop: Shop, ours: Commands, barman_peer: Commands, compression: str | None
) -> None:
    backup = shop.back_up(barman_peer, f"verified-{compression}", compression)
    done = ours.run("barman-cloud", "verify", *shop.options, shop.url, SERVER_NAME, backup, environ=shop.environ)
    assert f"of {backup} (" in done.stdout
    assert "have no recorded checksums, but can be read to their ends" in done.stdout


@pytest.mark.long
def test_we_restore_a_backup_of_barman_in_parts(
    shop: Shop, ours: Commands, barman_peer: Commands, directories: Callable[[], Path]
) -> None:
    backup = shop.back_up(barman_peer, "theirs-parts", None, "--max-archive-size", "8MB")
    check_restored(shop, ours, backup, directories())


@pytest.mark.long
def test_barman_restores_our_backup_in_parts(
    shop: Shop, ours: Commands, barman_peer: Commands, directories: Callable[[], Path]
) -> None:
    backup = shop.back_up(ours, "ours-parts", "lz4", "--max-archive-size", "8MB", "--jobs", "4")
    check_restored(shop, barman_peer, backup, directories())


@pytest.mark.long
def test_barman_restores_what_a_chain_was_consolidated_to(
    shop: Shop, ours: Commands, barman_peer: Commands, directories: Callable[[], Path]
) -> None:
    if shop.server.installation.major >= 17:
        shop.server.configure(summarize_wal="on")
    shop.server.query("CREATE TABLE changing AS SELECT g AS a, repeat('x', 100) FROM generate_series(1, 20000) g")
    full = shop.back_up(ours, "chain-full", "lz4")
    shop.server.query("UPDATE changing SET a = -a WHERE a % 50 = 0")
    increment = shop.back_up(ours, "chain-increment", "lz4", "--incremental", full)
    place = (*shop.options, shop.url, SERVER_NAME)
    done = ours.run("barman-cloud", "consolidate", "--gzip", "--name", "whole", *place, increment, environ=shop.environ)
    shop.server.query("UPDATE changing SET a = 0 WHERE a % 50 = 1")
    shop.server.wait_archived(shop.server.switch_wal())
    with shop.restore(barman_peer, done.stdout.strip(), directories()) as restored:
        restored.wait_recovered()
        expected = shop.server.query("SELECT sum(a), count(*) FROM changing")
        assert restored.query("SELECT sum(a), count(*) FROM changing") == expected
        assert shop.fingerprint(restored) == shop.fingerprint(shop.server)
        restored.amcheck()
    shop.server.query("DROP TABLE changing")


@pytest.mark.long
def test_both_list_and_show_the_same(shop: Shop, ours: Commands, barman_peer: Commands) -> None:
    for commands, name in ((ours, "listed-ours"), (barman_peer, "listed-theirs")):
        shop.back_up(commands, name, "gzip")
    place = (*shop.options, shop.url, SERVER_NAME)
    lists = {}
    for side, commands in (("ours", ours), ("theirs", barman_peer)):
        listed = commands.run("barman-cloud-backup-list", "--format", "json", *place, environ=shop.environ)
        lists[side] = json.loads(listed.stdout)["backups_list"]
    assert [backup["backup_id"] for backup in lists["ours"]] == [backup["backup_id"] for backup in lists["theirs"]]
    for mine, theirs in zip(lists["ours"], lists["theirs"], strict=True):
        assert {key: mine[key] for key in CLIENT_FIELDS} == {key: theirs[key] for key in CLIENT_FIELDS}
    for name in ("listed-ours", "listed-theirs"):
        shown = {}
        for side, commands in (("ours", ours), ("theirs", barman_peer)):
            answer = commands.run("barman-cloud-backup-show", "--format", "json", *place, name, environ=shop.environ)
            shown[side] = json.loads(answer.stdout)
        assert shown["ours"].keys() == shown["theirs"].keys() == {"cloud"}
        assert shown["ours"]["cloud"] == shown["theirs"]["cloud"]
    consoles = [c.run("barman-cloud-backup-list", *place, environ=shop.environ).stdout for c in (ours, barman_peer)]
    assert consoles[0] == consoles[1]


@pytest.fixture(scope="module")
def segment(shop: Shop) -> bytes:
    """The bytes of a finished WAL segment."""
    name = shop.server.switch_wal()
    return (shop.server.data / "pg_wal" / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("compression", WAL_COMPRESSIONS)
@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_wal_goes_both_ways(
    shop: Shop,
    ours: Commands,
    barman_peer: Commands,
    segment: bytes,
    compression: str | None,
    writer: str,
    directories: Callable[[], Path],
) -> None:
    writing, reading = (ours, barman_peer) if writer == "ours" else (barman_peer, ours)
    directory = server_directory(directories() / "pg_wal")
    # A server of its own, so that the segment's name is free for every compression.
    place = (*shop.options, shop.url, f"wal-{writer}-{compression}")
    name = shop.server.value("SELECT pg_walfile_name(pg_switch_wal() - 1)")
    files = {name: segment_of(shop, name)}
    if compression in (None, "gzip"):
        files["00000002.history"] = b"1\t0/3000000\tno recovery target specified\n"
        files[f"{name}.00000028.backup"] = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"
    flags = [f"--{compression}"] if compression else []
    for file, content in files.items():
        (directory / file).write_bytes(content)
    server_account().own(directory)
    for file in files:
        writing.run("barman-cloud-wal-archive", *flags, *place, directory / file, environ=shop.environ)
    for file in files:
        if file.endswith(".backup"):  # no tool hands these out: PostgreSQL never asks for them
            continue
        reading.run("barman-cloud-wal-restore", *place, file, directory / "fetched", environ=shop.environ)
        assert (directory / "fetched").read_bytes() == files[file]
        (directory / "fetched").unlink()
    missing = f"{name[:-2]}FF"
    answer = reading.run(
        "barman-cloud-wal-restore", *place, missing, directory / "none", environ=shop.environ, check=False
    )
    assert answer.returncode == 1
    assert not (directory / "none").exists()
    shutil.rmtree(directory)


def segment_of(shop: Shop, name: str) -> bytes:
    return (shop.server.data / "pg_wal" / name).read_bytes()
