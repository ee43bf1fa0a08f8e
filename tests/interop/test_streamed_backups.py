"""Streamed backups go both ways: Barman's tools and its server read ours, and ours read those of its server."""

from __future__ import annotations

import json
import pwd
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import SERVER_NAME, Shop
from tests.interop.test_both_directions import check_restored
from tests.support.peers import Commands
from tests.support.postgres import adopt, server_directory
from tests.support.privileges import server_account

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.xdist_group("interop")]

STREAM = ("--method", "stream")


@dataclass
class BarmanServer:
    """Barman's server with a catalogue of its own, on the shop's bucket."""

    shop: Shop
    commands: Commands
    home: Path

    @classmethod
    def create(cls, shop: Shop, commands: Commands, home: Path, **settings: str) -> BarmanServer:
        lines = {
            "description": '"streamed"',
            "conninfo": shop.server.conninfo,
            "backup_method": "postgres",
            "archiver": "on",
            "path_prefix": str(shop.server.installation.bin),
            "basebackups_directory": shop.url,
            "wals_directory": shop.url,
            "cloud_staging_directory": str(server_directory(home / "staging")),
            **settings,
        }
        user = pwd.getpwuid(server_account().uid).pw_name
        (home / "barman.conf").write_text(
            f"[barman]\nbarman_user = {user}\nbarman_home = {home}\nlog_file = {home}/barman.log\n"
            f"configuration_files_directory = {server_directory(home / 'conf.d')}\n[{SERVER_NAME}]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        return cls(shop, commands, server_account().own(home))

    def run(self, *arguments: str) -> str:
        environ = {**self.shop.environ, **self.shop.server.installation.environ}
        return self.commands.run("barman", "-c", str(self.home / "barman.conf"), *arguments, environ=environ).stdout

    def learn(self, backup: str) -> None:
        """Put ``backup.info`` and manifest of a backup in the bucket where Barman looks for them."""
        directory = folder(self.shop, backup)
        meta = server_directory(server_directory(self.home / SERVER_NAME) / "meta")
        for name in ("backup.info", "backup_manifest"):
            shutil.copy(directory / name, meta / f"{backup}-{name}")
        server_account().own(meta)


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
    barman = BarmanServer.create(shop, barman_peer, directories())
    barman.learn(backup)
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
    barman = BarmanServer.create(shop, barman_peer, directories(), wals_directory=elsewhere)
    # Its check wants to see some archived WAL, as if a host had sent it.
    segment = shop.server.switch_wal()
    incoming = server_directory(server_directory(barman.home / SERVER_NAME) / "incoming")
    shutil.copy(shop.server.data / "pg_wal" / segment, incoming / segment)
    server_account().own(incoming)
    barman.run("archive-wal", SERVER_NAME)
    barman.run("backup", SERVER_NAME, "--immediate-checkpoint", "--name", "of-barman")
    place = (*shop.options, shop.url, SERVER_NAME)
    listed = json.loads(ours.run("barman-cloud-backup-list", "--format", "json", *place, environ=shop.environ).stdout)
    (found,) = (backup for backup in listed["backups_list"] if backup["backup_name"] == "of-barman")
    shown = ours.run("barman-cloud-backup-show", "--format", "json", *place, "of-barman", environ=shop.environ).stdout
    assert json.loads(shown)[SERVER_NAME]["mode"] == "postgres"
    check_restored(shop, ours, found["backup_id"], directories())
