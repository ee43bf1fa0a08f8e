"""Streamed backups go both ways: Barman's tools and its server read ours, and ours read those of its server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import SERVER_NAME, Shop
from tests.interop.test_both_directions import check_restored
from tests.support.barman_server import BarmanServer
from tests.support.peers import Commands
from tests.support.postgres import adopt, server_directory

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.xdist_group("interop")]

STREAM = ("--method", "stream")


def barman_server(shop: Shop, commands: Commands, home: Path, **settings: str) -> BarmanServer:
    return BarmanServer.create(commands, home, shop.server, SERVER_NAME, shop.url, shop.environ, **settings)


def folder(shop: Shop, backup: str) -> Path:
    assert shop.store.directory is not None
    return shop.store.directory / shop.url.removeprefix("s3://") / SERVER_NAME / "base" / backup


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
def test_barmans_tools_restore_our_streamed_backup(
    shop: Shop, ours: Commands, barman_peer: Commands, compression: str | None, directories: Callable[[], Path]
) -> None:
    backup = shop.back_up(ours, f"streamed-{compression}", compression, *STREAM, "--max-archive-size", "8MB")
    check_restored(shop, barman_peer, backup, directories())


def test_both_list_and_show_the_same(shop: Shop, ours: Commands, barman_peer: Commands) -> None:
    shop.back_up(ours, "streamed-listed", "gzip", *STREAM)
    place = (*shop.options, shop.url, SERVER_NAME)
    for arguments in (("barman-cloud-backup-list",), ("barman-cloud-backup-show", "streamed-listed")):
        name, *more = arguments
        for form in ("console", "json"):
            mine, theirs = (
                commands.run(name, "--format", form, *place, *more, environ=shop.environ).stdout
                for commands in (ours, barman_peer)
            )
            if form == "console":
                assert mine == theirs
            else:
                assert json.loads(mine) == json.loads(theirs)


def test_barmans_server_lists_shows_and_restores_our_streamed_backup(
    shop: Shop, ours: Commands, barman_peer: Commands, directories: Callable[[], Path]
) -> None:
    backup = shop.back_up(ours, "streamed-for-server", None, *STREAM)
    barman = barman_server(shop, barman_peer, directories())
    barman.learn(folder(shop, backup))
    assert f"{SERVER_NAME} {backup} 'streamed-for-server' - F - " in barman.run("list-backups", SERVER_NAME)
    shown = json.loads(barman.run("-f", "json", "show-backup", SERVER_NAME, backup))[SERVER_NAME]
    assert (shown["status"], shown["backup_type"]) == ("DONE", "full")
    assert shown["base_backup_information"]["backup_method"] == "postgres"
    assert [tablespace["name"] for tablespace in shown["tablespaces"]] == ["elsewhere"]
    directory = server_directory(directories())
    target = directory / "data"
    tablespace = f"elsewhere:{directory / 'elsewhere'}"
    barman.run("restore", SERVER_NAME, backup, str(target), "--tablespace", tablespace)
    restored = adopt(target, shop.server.installation)
    restored.environ.update(shop.environ)
    wal_restore = [ours.path("barman-cloud-wal-restore"), *shop.options, shop.url, SERVER_NAME, "%f", "%p"]
    restored.recover_with(" ".join(wal_restore))
    with restored:
        restored.wait_recovered()
        assert shop.fingerprint(restored) == shop.fingerprint(shop.server)
        restored.amcheck()


def test_we_list_show_and_restore_a_streamed_backup_of_barmans_server(
    shop: Shop, ours: Commands, barman_peer: Commands, directories: Callable[[], Path]
) -> None:
    # A server that archives nothing yet removes all older WAL with its first backup: not that of the shop.
    elsewhere = shop.store.new_bucket()
    barman = barman_server(shop, barman_peer, directories(), wals_directory=elsewhere)
    barman.archive_a_segment()
    barman.run("backup", SERVER_NAME, "--immediate-checkpoint", "--name", "of-barman")
    place = (*shop.options, shop.url, SERVER_NAME)
    listed = json.loads(ours.run("barman-cloud-backup-list", "--format", "json", *place, environ=shop.environ).stdout)
    (found,) = (backup for backup in listed["backups_list"] if backup["backup_name"] == "of-barman")
    shown = ours.run("barman-cloud-backup-show", "--format", "json", *place, "of-barman", environ=shop.environ).stdout
    assert json.loads(shown)[SERVER_NAME]["mode"] == "postgres"
    check_restored(shop, ours, found["backup_id"], directories())
