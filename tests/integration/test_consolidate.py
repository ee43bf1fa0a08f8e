"""``barman-cloud consolidate`` on chains of real servers: the same files as a restore of the chain, by all who look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_restore_chain import WITH_INCREMENTALS, Changes, manifest, restore, tree
from tests.support.commands import program
from tests.support.incrementals import SUMMARIZED, Chain
from tests.support.installations import Installation
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Completed, Repository
from tests.support.schemas import require_valid

pytestmark = pytest.mark.skipif(not WITH_INCREMENTALS, reason="no PostgreSQL 17 or later was found")
UMBRELLA = program("backup").removesuffix("-backup")
NEWEST = WITH_INCREMENTALS[:1]


def run(name: str, *arguments: object) -> Completed:
    return subprocess.run(
        [UMBRELLA, name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=command_environment(),
        timeout=280,
    )


def consolidated(repository: Repository, *arguments: str) -> str:
    """Consolidate the newest backup, verify the new one, and return its id."""
    summary = repository.directory.with_name("summary.json")
    before = repository.ids[-1]
    done = run("consolidate", "--json-summary", summary, *arguments, repository.url, SERVER_NAME, "last")
    assert done.returncode == 0, done.stderr
    backup_id = done.stdout.strip()
    told = json.loads(summary.read_text())
    require_valid(told, "summary")
    assert (told["backup"]["backup_id"], told["backup"]["type"]) == (backup_id, "full")
    assert told["backup"]["made_of"][-1] == before
    assert told["data_bytes"] > told["stored_bytes"] > 0
    verified = run("verify", "--format", "json", repository.url, SERVER_NAME, backup_id)
    findings = json.loads(verified.stdout)["servers"][0]["findings"]
    assert not [finding for finding in findings if finding["subject"].startswith(("archive", "manifest", "page"))
                and finding["level"] != "ok"], findings  # fmt: skip
    return backup_id


@pytest.fixture(params=[*NEWEST, *(pytest.param(found, marks=pytest.mark.long) for found in WITH_INCREMENTALS[1:])],
                ids=lambda found: str(found.major))  # fmt: skip
def installation(request: pytest.FixtureRequest) -> Installation:
    found: Installation = request.param
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_server_directory() as directory:
        yield directory


@pytest.mark.long
def test_a_chain_of_pg_basebackup_becomes_what_pg_combinebackup_makes(
    installation: Installation, new_postgres: Callable[..., PostgresServer], place: Path
) -> None:
    (place / "store").mkdir()
    chain = Chain(Repository(place / "store"), new_postgres(installation, settings=SUMMARIZED), place)
    chain.compression = "lz4"
    chain.server.create_tablespace("fast")
    changes = Changes(chain.server, 7)
    chain.take()
    for _ in range(2):
        changes.make(5)
        chain.take(chain.ids[-1])
    ours, theirs = place / "ours", place / "theirs"
    backup_id = consolidated(chain.repository, "--zstd", "--name", "whole", "--jobs", "3")
    info, newest = chain.repository.info(backup_id), chain.repository.info(chain.ids[-1])
    assert (info.backup_name, info.status, info.parent_backup_id) == ("whole", "DONE", None)
    assert (info.begin_xlog, info.end_xlog, info.end_time) == (newest.begin_xlog, newest.end_xlog, newest.end_time)
    # The chain may go now: the new backup needs nothing of it.
    run("backup-delete", "-b", chain.ids[0], "--with-children", chain.repository.url, SERVER_NAME)
    assert chain.repository.ids == [backup_id]
    done = restore(chain, backup_id, ours)
    assert done.returncode == 0, done.stderr
    server_account().own(place)
    chain.combine(chain.ids, theirs)
    mine, expected = tree(ours), tree(theirs)
    assert mine.keys() == expected.keys()
    assert [path for path in mine if mine[path] != expected[path]] == []
    assert manifest(ours / "backup_manifest") == manifest(theirs / "backup_manifest")
    chain.verify(ours)


@pytest.mark.long
def test_our_own_chain_of_both_methods_is_recovered_from_it_and_goes_on(
    new_postgres: Callable[..., PostgresServer], place: Path
) -> None:
    server = new_postgres(NEWEST[0], settings=SUMMARIZED)
    (place / "store").mkdir()
    repository = Repository(place / "store")
    repository.archive_from(server)
    server.create_tablespace("fast")
    changes = Changes(server, 3)
    for method in ((), ("--incremental", "last"), ("--method", "stream", "--incremental", "last")):
        done = repository.backup(server, *method, "--lz4")
        assert done.returncode == 0, done.stderr
        changes.make(3)
    chain = repository.ids
    backup_id = consolidated(repository)
    assert repository.ids == sorted([*chain, backup_id])
    refused = run("consolidate", repository.url, SERVER_NAME, backup_id)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is a full backup already" in refused.stderr
    # A new increment builds on it.
    done = repository.backup(server, "--incremental", backup_id)
    assert done.returncode == 0, done.stderr
    assert repository.info().parent_backup_id == backup_id
    server.wait_archived(server.switch_wal())
    with repository.restored(place, server, as_server=True) as copy:
        assert copy.query("SELECT * FROM t ORDER BY id, text") == server.query("SELECT * FROM t ORDER BY id, text")
        copy.amcheck()
