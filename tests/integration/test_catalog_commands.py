"""The commands on the catalog as installed programs: on real object stores, and beside real Barman."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.commands import run_command
from tests.support.peers import Commands
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, StoreServer
from tests.unit.catalog.builders import GOLDEN, backup, catalog_a, fill, keys, memory_catalog, segment


@pytest.fixture(params=["moto", "rclone_s3", "azurite"])
def server(request: pytest.FixtureRequest) -> StoreServer:
    """Each store that the commands can write to."""
    found: StoreServer = request.getfixturevalue(request.param)
    return found


def opened(server: StoreServer, url: str) -> ObjectStore:
    endpoint = server.endpoint if server.provider == "aws-s3" else None
    return open_store(url, server.provider, StoreOptions(endpoint_url=endpoint), server.environ)


def copied(catalog: Catalog, server: StoreServer, bucket: str) -> tuple[ObjectStore, str]:
    """Copy what a catalog in memory holds, key by key, and return the store and the URL of the same path."""
    url = f"{bucket}/{catalog.layout.prefix}"
    store = opened(server, url)
    for key in keys(catalog):
        store.put(key, catalog.store.get(key))
    return store, url


def all_keys(store: ObjectStore) -> list[str]:
    return [item.key for item in store.list("")]


def options_of(server: StoreServer) -> list[str]:
    return [*server.options]


def test_a_dry_run_says_why(rclone_s3: StoreServer) -> None:
    """Reasons for each backup on stderr, unless -q; stdout is for scripts."""
    _, url = copied(catalog_a(), rclone_s3, rclone_s3.new_bucket())
    words = [*options_of(rclone_s3), "-r", "REDUNDANCY 2", "--dry-run", url, "a"]
    talking = run_command("backup-delete", *words, environ=rclone_s3.environ)
    quiet = run_command("backup-delete", "-q", *words, environ=rclone_s3.environ)
    assert talking.returncode == quiet.returncode == 0
    assert talking.stdout == quiet.stdout
    assert quiet.stderr == ""
    for number in range(1, 5):
        assert f"2026010{number}T000000" in talking.stderr


def test_more_v_say_more(rclone_s3: StoreServer) -> None:
    _, url = copied(catalog_a(), rclone_s3, rclone_s3.new_bucket())
    for name, arguments in (("backup-list", []), ("backup-show", ["gold"]), ("backup-delete", ["-r", "REDUNDANCY 2"])):
        words = [*options_of(rclone_s3), url, "a", *arguments, *["--dry-run"] * (name == "backup-delete")]
        said = [run_command(name, *more, *words, environ=rclone_s3.environ) for more in ([], ["-v"], ["-vv"])]
        assert {done.returncode for done in said} == {0}
        assert len({done.stdout for done in said}) == 1
        assert len(said[1].stderr.splitlines()) < len(said[2].stderr.splitlines())
        assert re.search(r"DEBUG: list_level del/a/base/: 0 objects, 4 folders, \d+ ms", said[2].stderr)
        assert re.search(r"DEBUG: get del/a/base/20260103T000000/backup.info: \d+ bytes, \d+ ms", said[2].stderr)


def test_the_life_of_a_catalog(server: StoreServer) -> None:
    """List, show, keep, refuse, release, delete, until nothing is left but history."""
    store, url = copied(catalog_a(), server, server.new_bucket())

    def run(name: str, *arguments: str, expect: int = 0) -> str:
        done = run_command(name, *options_of(server), *arguments, environ=server.environ)
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    listed = json.loads(run("backup-list", "--format", "json", url, "a"))
    assert [entry["backup_id"] for entry in listed["backups_list"]] == [f"2026010{n}T000000" for n in range(1, 5)]
    shown = json.loads(run("backup-show", "--format", "json", url, "a", "gold"))
    assert shown["cloud"]["backup_id"] == "20260103T000000"

    assert run("backup-keep", "--status", url, "a", "first") == "Keep: nokeep\n"
    run("backup-keep", "--target", "standalone", url, "a", "first")
    assert run("backup-keep", "--status", url, "a", "first") == "Keep: standalone\n"
    assert "KEEP:STANDALONE" in run("backup-list", url, "a")
    run("backup-delete", "-b", "first", url, "a", expect=1)
    run("backup-keep", "--release", url, "a", "first")
    run("backup-keep", "--release", url, "a", "first")

    run("check-wal-archive", url, "a", expect=1)
    run("check-wal-archive", "--timeline", "3", url, "a")
    printed = run("backup-delete", "-r", "REDUNDANCY 1", "--dry-run", url, "a")
    assert printed.count("backup.info") == 3
    run("backup-delete", "-r", "REDUNDANCY 1", "--batch-size", "2", url, "a")
    assert [key.split("/")[-1] for key in all_keys(store)] == [
        "16384.tar",
        "backup.info",
        "data.tar",
        f"{segment(2, 2)}.gz",
        "00000002.history",
        segment(0, 1, 2),
    ]
    run("backup-delete", "-b", "last", url, "a")
    assert run("backup-list", url, "a").count("\n") == 1
    run("backup-show", url, "a", "20260104T000000", expect=1)
    run("backup-show", url, "a", "last", expect=4)


def test_an_unreadable_catalog_is_never_a_shorter_one(server: StoreServer) -> None:
    store, url = copied(catalog_a(), server, server.new_bucket())
    store.put(Layout("del", "a").backup_info("20260102T000000"), b"no equals sign")
    before = all_keys(store)
    listed = run_command("backup-list", *options_of(server), "--format", "json", url, "a", environ=server.environ)
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)["backups_list"]) == 4
    assert "20260102T000000/backup.info" in listed.stderr
    for name, arguments in (
        ("backup-delete", ["-r", "REDUNDANCY 1", url, "a"]),
        ("backup-delete", ["-b", "20260104T000000", url, "a"]),
    ):
        done = run_command(name, *options_of(server), *arguments, environ=server.environ)
        assert (done.returncode, done.stdout) == (1, "")
        assert "20260102T000000/backup.info" in done.stderr
    assert all_keys(store) == before


def test_a_missing_bucket(moto: StoreServer) -> None:
    url = "s3://nobody-made-this/p"
    expected = {
        ("backup-list", "a"): 4,
        ("backup-show", "a", "last"): 4,
        ("backup-keep", "a", "last", "-s"): 4,
        ("backup-delete", "a", "-b", "last"): 4,
        ("backup-list", "a", "-t"): 1,
        ("check-wal-archive", "a", "-t"): 0,
    }
    for (name, *rest), code in expected.items():
        done = run_command(name, *options_of(moto), url, *rest, environ=moto.environ)
        assert done.returncode == code, f"{name} {rest}: {done.stderr}"
        assert done.stdout == ""


@pytest.mark.long
@pytest.mark.parametrize("arguments", [[], ["-t"]])
def test_an_endpoint_that_is_down(arguments: list[str], moto: StoreServer) -> None:
    command = ["--endpoint-url", "http://127.0.0.1:1", *arguments, "s3://b/p", "a"]
    done = run_command("check-wal-archive", *command, environ=moto.environ)
    assert done.returncode == 2, done.stderr


def test_check_wal_archive_creates_the_bucket(moto: StoreServer) -> None:
    url = "s3://created-by-check/p"
    assert run_command("check-wal-archive", *options_of(moto), url, "a", environ=moto.environ).returncode == 0
    opened(moto, url).check()


@pytest.mark.parametrize("protection", ["retention", "legal hold"])
def test_object_lock_is_checked_before_anything_goes(moto: StoreServer, protection: str) -> None:
    bucket = moto.new_bucket(object_lock=True)
    store, url = copied(catalog_a(), moto, bucket)
    s3 = boto3.client(
        "s3",
        endpoint_url=moto.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    place = {"Bucket": bucket.removeprefix("s3://"), "Key": "del/a/base/20260102T000000/16384.tar"}
    if protection == "retention":
        until = datetime.now(UTC) + timedelta(days=1)
        s3.put_object_retention(**place, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    else:
        s3.put_object_legal_hold(**place, LegalHold={"Status": "ON"})
    before = all_keys(store)

    def delete(*arguments: str) -> tuple[int, str]:
        done = run_command("backup-delete", *options_of(moto), *arguments, url, "a", environ=moto.environ)
        return done.returncode, done.stderr

    code, said = delete("--check-object-lock", "-b", "20260102T000000")
    assert code == 1
    assert "16384.tar" in said
    assert all_keys(store) == before
    assert delete("--check-object-lock", "-b", "20260103T000000")[0] == 0
    assert delete("-b", "20260102T000000")[0] == 0, "without the option Barman deletes, which puts delete markers"


def kept_full() -> Catalog:
    infos = [backup(f"2026010{n}T000000", segment(n)) for n in (1, 2, 3)]
    return fill(memory_catalog("kf"), infos, [segment(n) for n in range(4)], keeps={"20260101T000000": "full"})


def kept_standalone() -> Catalog:
    infos = [backup(f"2026010{n}T000000", segment(3 * n), end_wal=segment(3 * n + 1)) for n in (1, 2, 3)]
    names = [f"{segment(n)}.gz" for n in range(10)] + [f"{segment(3)}.00000028.backup.gz", f"{segment(1)}.partial.gz"]
    return fill(memory_catalog("k"), infos, names, keeps={"20260101T000000": "standalone"})


def timelines() -> Catalog:
    infos = [
        backup("20260101T000000", segment(2)),
        backup("20260102T000000", segment(4, timeline=2)),
        backup("20260103T000000", segment(6, timeline=2)),
    ]
    names = [segment(n, timeline=t) for t in (1, 2, 3) for n in range(8)]
    return fill(memory_catalog("tl"), infos, [*names, "00000002.history", "00000003.history"])


def failed_then_done() -> Catalog:
    infos = [backup("20260101T000000", status="FAILED"), backup("20260102T000000", segment(4))]
    return fill(memory_catalog("fb"), infos, [segment(n) for n in range(6)])


def snapshots() -> Catalog:
    text = (GOLDEN / "backup-info/snapshot-aws.info").read_text()
    return fill(memory_catalog("sn"), [backup_info.parse(text, "20261122T123131")])


def golden_backups() -> Catalog:
    catalog = memory_catalog("all")
    for number, path in enumerate(sorted((GOLDEN / "backup-info").glob("*.info")), 1):
        catalog.store.put(catalog.layout.backup_info(f"202611{number:02}T000000"), path.read_bytes())
    catalog.store.put(catalog.layout.keep("20261101T000000"), b"full")
    return catalog


def odd_backups() -> Catalog:
    catalog = memory_catalog("bi")
    texts = {
        "20260101T000000": "status=DONE\n",
        "20260102T000000": "# note\n\nbackup_id=20260102T000000\nend_time=2026-01-02 03:04Z\nstatus=EMPTY\n",
        "20260103T000000": "status=EMPTY\n",
        "customid": "status=FAILED\nerror=a=b\n",
    }
    for backup_id, text in texts.items():
        catalog.store.put(catalog.layout.backup_info(backup_id), text.encode())
    return catalog


def policies(*texts: str) -> list[list[str]]:
    return [["-r", text] for text in texts]


def names(*texts: str) -> list[list[str]]:
    return [["-b", text] for text in texts]


DELETIONS: list[tuple[Callable[[], Catalog], list[list[str]]]] = [
    (catalog_a, names("oldest", "20260102T000000", "gold", "last", "20200101T000000")),
    (catalog_a, policies("REDUNDANCY 0", "redundancy 2", "REDUNDANCY 9", "recovery  window of 0 days")),
    (catalog_a, policies("RECOVERY WINDOW OF 9 MONTHS", "RECOVERY WINDOW OF 99999999 DAYS")),
    (catalog_a, [["-r", "REDUNDANCY 1", "-m", "3"], ["-b", "gold", "-m", "4"]]),
    (kept_full, policies("REDUNDANCY 1") + names("20260101T000000", "20260102T000000")),
    (kept_standalone, policies("REDUNDANCY 1", "REDUNDANCY 2") + names("20260101T000000", "20260102T000000")),
    (timelines, policies("REDUNDANCY 1", "REDUNDANCY 2") + names("first", "last")),
    (failed_then_done, policies("REDUNDANCY 1") + names("first", "last")),
    (snapshots, [["-b", "snap1", "--dry-run"]]),
]
RUNS: list[tuple[Callable[[], Catalog], str, list[str]]] = [
    *((make, "backup-delete", arguments) for make, which in DELETIONS for arguments in which),
    *((make, "backup-list", []) for make in (golden_backups, odd_backups, catalog_a, kept_standalone)),
    *((make, "backup-list", ["--format", "json"]) for make in (catalog_a, snapshots)),
    *((catalog_a, "check-wal-archive", arguments) for arguments in ([], ["--timeline", "2"], ["--timeline", "3"])),
]


@pytest.mark.interop
@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "name", "arguments"), RUNS, ids=[f"{m.__name__} {name} {' '.join(a)}" for m, name, a in RUNS]
)
def test_ours_does_what_barman_does(
    make: Callable[[], Catalog], name: str, arguments: list[str], moto: StoreServer, barman_peer: Commands
) -> None:
    """Same stdout, same exit code, and the same objects left, dry run and real."""
    rounds = [["--dry-run"], []] if name == "backup-delete" and "--dry-run" not in arguments else [[]]
    filled = make()
    ours, our_url = copied(filled, moto, moto.new_bucket())
    theirs, their_url = copied(filled, moto, moto.new_bucket())
    for extra in rounds:
        command = [*moto.options, *arguments, *extra]
        mine = run_command(name, *command, our_url, filled.layout.server, environ=moto.environ)
        real = barman_peer.run(
            f"barman-cloud-{name}", *command, their_url, filled.layout.server, environ=moto.environ, check=False
        )
        assert mine.returncode == real.returncode, f"{mine.stderr}\n{real.stderr}"
        assert mine.stdout == real.stdout
        assert all_keys(ours) == all_keys(theirs)


@pytest.mark.interop
@pytest.mark.long
def test_barman_sees_a_marked_backup_as_failed_and_can_delete_it(rclone_s3: StoreServer, barman_peer: Commands) -> None:
    """Both steps of the mark, as a deletion that was killed leaves them."""
    _, url = copied(catalog_a(), rclone_s3, rclone_s3.new_bucket())
    store = opened(rclone_s3, url)
    catalog = Catalog(store, Layout.of(store.url, "a"))
    for backup_id, steps in (("20260101T000000", ["announce", "begin"]), ("20260102T000000", ["announce"])):
        mark = DeletionMark(catalog, backup_id)
        for step in steps:
            getattr(mark, step)()

    def barman(name: str, *arguments: str) -> str:
        done = barman_peer.run(f"barman-cloud-{name}", *rclone_s3.options, *arguments, environ=rclone_s3.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {row.split()[0]: row for row in barman("backup-list", url, "a").splitlines()[1:]}
    assert [" FAILED " in row for row in listed.values()] == [True, True, False, False]
    entries = json.loads(barman("backup-list", "--format", "json", url, "a"))["backups_list"]
    assert [entry["end_time"] is None for entry in entries] == [True, True, False, False]
    assert "being deleted" in barman("backup-show", url, "a", "20260101T000000")
    barman("backup-delete", "-r", "REDUNDANCY 2", url, "a")
    assert len(json.loads(barman("backup-list", "--format", "json", url, "a"))["backups_list"]) == 4
    barman("backup-delete", "-b", "20260101T000000", url, "a")
    assert catalog.layout.backup_info("20260101T000000") not in all_keys(store)


@pytest.mark.interop
@pytest.mark.long
@pytest.mark.parametrize("form", ["console", "json"])
def test_ours_shows_what_barman_shows(form: str, moto: StoreServer, barman_peer: Commands) -> None:
    filled = golden_backups()
    _, url = copied(filled, moto, moto.new_bucket())
    for backup_id, info in filled.load().backups.items():
        if form == "json" and info.status != "DONE" and info.end_time:
            continue
        command = ["--format", form, *moto.options, url, filled.layout.server, backup_id]
        mine = run_command("backup-show", *command, environ=moto.environ)
        real = barman_peer.run("barman-cloud-backup-show", *command, environ=moto.environ)
        ours = f"  Stored As Server       : {filled.layout.server}\n"
        assert (mine.returncode, mine.stdout.replace(ours, "")) == (0, real.stdout)
