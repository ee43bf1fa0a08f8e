"""Real Barman and we on each other's EBS snapshot backups."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.integration.snapshots.test_snapshot_backup import SERVER, Bench
from tests.support.commands import run_command
from tests.support.peers import Commands
from tests.support.postgres import PostgresServer
from tests.support.servers import StoreServer
from tests.support.snapshot_clouds import DISKS, AwsCloud

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.fixture
def bench(aws: AwsCloud, moto: StoreServer, postgres: PostgresServer, tmp_path: Path) -> Bench:
    """A bench whose metadata is in a real bucket."""
    made = Bench(aws, postgres, tmp_path)
    url = f"{moto.new_bucket()}/prod"
    store = open_store(url, "aws-s3", StoreOptions(endpoint_url=moto.endpoint), moto.environ)
    made.store = store  # type: ignore[assignment]
    made.layout = Layout.of(store.url, SERVER)
    made.catalog = Catalog(store, made.layout)
    return made


def test_barman_shows_and_deletes_our_backup(bench: Bench, moto: StoreServer, barman_peer: Commands) -> None:
    info = bench.backup()
    url = bench.store.url.text
    for form in ("console", "json"):
        arguments = ["--format", form, *moto.options, url, SERVER, info.backup_id]
        real = barman_peer.run("barman-cloud-backup-show", *arguments, environ=moto.environ)
        assert run_command("backup-show", *arguments, environ=moto.environ).stdout == real.stdout
    barman_peer.run(
        "barman-cloud-backup-delete", *moto.options, "-b", info.backup_id, url, SERVER, environ=moto.environ
    )
    assert bench.cloud.snapshot_names() == []
    stored = bench.keys()
    assert not [key for key in stored if key.endswith(("backup.info", "backup_label"))]


def test_we_delete_what_barman_would_have_made(bench: Bench, moto: StoreServer) -> None:
    info = bench.backup()
    assert len(bench.cloud.snapshot_names()) == len(DISKS)
    url = bench.store.url.text
    # Straight at moto, which doesn't know the calls about locks: the deletion must not depend on them.
    done = run_command("backup-delete", *moto.options, "-b", info.backup_id, url, SERVER, environ=moto.environ)
    assert done.returncode == 0, done.stderr
    assert bench.cloud.snapshot_names() == []
    assert bench.keys() == []
