"""List and show, against what Barman printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import DONE, BackupInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.cli import backup_keep, backup_list, backup_show
from barman_cloud.errors import NotFoundError, OperationError, SelectionError
from tests.unit.catalog.builders import GOLDEN, backup, fill, golden_output, memory_catalog, run, segment, where


def from_golden(name: str, backup_id: str) -> BackupInfo:
    return backup_info.parse((GOLDEN / f"backup-info/{name}.info").read_text(), backup_id)


def from_json(data: dict[str, Any]) -> BackupInfo:
    """Rebuild a backup from its JSON form."""
    lines = [
        f"{key}={data.get(f'{key}_iso', value)}"
        for key, value in data.items()
        if key not in ("backup_id", "begin_time_iso", "end_time_iso")
    ]
    return backup_info.parse("\n".join(lines), data["backup_id"])


def catalog_of_the_list(keeps: dict[str, str] | None = None) -> Catalog:
    data = json.loads((GOLDEN / "console/backup-list.json").read_text())
    backups = [from_json(entry) for entry in data["backups_list"]]
    return fill(memory_catalog("main", "prod"), backups, keeps=keeps)


def test_console_list(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = catalog_of_the_list()
    assert run(backup_list, catalog, *where(catalog)) == 0
    assert capsys.readouterr().out == golden_output("console/backup-list.txt", "s3://backups/prod main")


def test_console_list_with_kept_backups(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = catalog_of_the_list({"20261122T121102": "standalone", "20261122T121138": "full"})
    run(backup_list, catalog, *where(catalog))
    golden = (GOLDEN / "console/backup-list.txt").read_text().splitlines()
    kept = [row for row in capsys.readouterr().out.splitlines() if "KEEP:" in row]
    assert kept == [row for row in golden if "KEEP:STANDALONE" in row or "KEEP:FULL" in row]
    assert len(kept) == 2


def test_console_list_of_an_empty_server(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("nosuchserver", "prod")
    run(backup_list, catalog, *where(catalog))
    assert capsys.readouterr().out == golden_output("console/backup-list.txt", "s3://backups/prod nosuchserver")


def test_json_list_of_an_empty_server(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("nosuchserver", "prod")
    run(backup_list, catalog, "--format", "json", *where(catalog))
    assert capsys.readouterr().out == '{"backups_list": []}\n'


def test_json_list_is_barmans_byte_for_byte_but_for_the_end_of_what_is_not_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalog = catalog_of_the_list()
    run(backup_list, catalog, "--format", "json", *where(catalog))
    expected = json.loads((GOLDEN / "console/backup-list.json").read_text())
    for entry in expected["backups_list"]:
        if entry["status"] != DONE:
            entry["end_time"] = None
            entry.pop("end_time_iso", None)
    assert capsys.readouterr().out == json.dumps(expected) + "\n"


@pytest.mark.parametrize(
    ("golden", "server", "text"),
    [
        ("backup-list-minimal-info.json", "min", "status=DONE\n"),
        ("backup-list-other-timezone.json", "main", None),
    ],
)
def test_other_json_lists(golden: str, server: str, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    expected = (GOLDEN / "console" / golden).read_text()
    catalog = memory_catalog(server)
    text = (GOLDEN / "backup-info/done-other-timezone.info").read_text() if text is None else text
    backup_id = json.loads(expected)["backups_list"][0]["backup_id"]
    catalog.store.put(catalog.layout.backup_info(backup_id), text.encode())
    run(backup_list, catalog, "--format", "json", *where(catalog))
    assert capsys.readouterr().out == expected.removesuffix("\n") + "\n"


@pytest.mark.parametrize(
    ("server", "name", "text"),
    [
        ("dirs", "customid", None),
        ("empty", "20261122T121102", "status=EMPTY\n"),
    ],
)
def test_odd_catalogs(server: str, name: str, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog(server, "bi")
    text = (GOLDEN / "backup-info/done-plain.info").read_text() if text is None else text
    catalog.store.put(catalog.layout.backup_info(name), text.encode())
    catalog.store.put(f"{catalog.layout.base_dir}20200101T000000/data.tar", b"")
    catalog.store.put(f"{catalog.layout.base_dir}stray", b"")
    run(backup_list, catalog, *where(catalog))
    assert capsys.readouterr().out == golden_output("console/backup-list.txt", f"s3://backups/bi {server}")


def test_an_annotation_of_several_lines_does_not_break_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(
        memory_catalog("kw"), [backup("20260101T000000", segment(3))], keeps={"20260101T000000": "garbage\n"}
    )
    run(backup_list, catalog, *where(catalog))
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert rows[1].rstrip().endswith("KEEP:GARBAGE")


@pytest.mark.parametrize(
    "content", [b"", b"no equals sign", b"\xff\xfe", b"begin_time=yesterday-ish", bytes(backup_info.MAX_SIZE + 1)]
)
def test_a_backup_that_can_not_be_read_is_listed_by_what_its_key_tells(
    content: bytes, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    catalog = fill(memory_catalog("bad", "bi"), [backup("20260101T000000", segment(3))])
    catalog.store.put(catalog.layout.backup_info("20251231T000000"), content)
    assert run(backup_list, catalog, "--format", "json", *where(catalog)) == 0
    first, second = json.loads(capsys.readouterr().out)["backups_list"]
    url = catalog.store.object_url(catalog.layout.backup_info("20251231T000000"))
    assert url in caplog.text
    assert first.pop("backup_id") == "20251231T000000"
    assert first.pop("status") == "UNREADABLE"
    assert url in first.pop("error")
    assert set(first.values()) == {None}
    assert {*first, "backup_id", "status", "error"} == second.keys() - {"end_time_iso", "begin_time_iso"}
    assert run(backup_list, catalog, *where(catalog)) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["20251231T000000", "20260101T000000"]
    assert "UNREADABLE" in rows[1]


def test_an_unknown_key_fails_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("unk", "bi")
    catalog.store.put(catalog.layout.backup_info("20251231T000000"), b"status=DONE\ncolour=red\n")
    with pytest.raises(OperationError, match="colour") as caught:
        run(backup_list, catalog, *where(catalog))
    assert caught.value.exit_code == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("source", "backup_id", "words"),
    [
        ("done-gzip-name-tags", "20261122T121138", "s3://backups/prod main 20261122T121138"),
        ("failed-interrupted-after-stop", "20261122T121312", "s3://backups/prod main 20261122T121312"),
        ("started", "20261122T121226", "s3://backups/prod main 20261122T121226"),
        ("snapshot-aws", "20261122T123131", "s3://backups/snap main snap1"),
        ("snapshot-gcp-constructed", "20261122T123131", "s3://backups/snp gcp last"),
        ("snapshot-azure-constructed", "20261122T123131", "s3://backups/snp azure last"),
    ],
)
def test_console_show(source: str, backup_id: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("main")
    catalog.save(from_golden(source, backup_id))
    assert run(backup_show, catalog, *where(catalog), words.split()[-1]) == 0
    assert without_our_line(capsys.readouterr().out, "main") == golden_output("console/backup-show.txt", words)


def without_our_line(page: str, server: str) -> str:
    """Return a page without the line that Barman doesn't have, which must be there unless the name is right."""
    ours = f"  Stored As Server       : {server}\n"
    assert (ours in page) is (f"  Server Name            : {server}\n" not in page)
    return page.replace(ours, "")


def test_names_neither_steer_the_terminal_nor_break_lines(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07\u202egpj.exe\x9b31m"
    catalog = fill(
        memory_catalog("main"),
        [
            backup(
                "20260101T000000",
                segment(3),
                backup_name=f"n{evil}",
                pgdata=evil,
                tablespaces=[Tablespace(f"a\n{evil}", 1, f"/x\ny{evil}")],
            ),
            backup("20260102T000000", segment(4), "FAILED", error=evil),
        ],
        keeps={"20260101T000000": evil},
    )
    run(backup_list, catalog, *where(catalog))
    for backup_id in ("20260101T000000", "20260102T000000"):
        run(backup_show, catalog, *where(catalog), backup_id)
    run(backup_keep, catalog, "--status", *where(catalog), "20260101T000000")
    out = capsys.readouterr().out
    assert r"\x1b]0;owned\x07\u202egpj.exe" in out
    assert r"Keep: \x1b]0" in out
    assert all(character == "\n" or character.isprintable() for character in out)


def test_backups_of_several_clusters_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(memory_catalog("main"), [backup("20260101T000000", segment(1), systemid="1")])
    run(backup_list, catalog, *where(catalog))
    assert caplog.text == ""
    fill(catalog, [backup("20260102T000000", segment(1), systemid="2"), backup("20260103T000000", segment(1))])
    run(backup_list, catalog, *where(catalog))
    assert "3 clusters: with system identifier 1: 20260101T000000; with system identifier 2: 20260102" in caplog.text


def test_console_show_of_next_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("min", "bi")
    catalog.save(BackupInfo("20261122T121102", status=DONE))
    run(backup_show, catalog, *where(catalog), "20261122T121102")
    golden = golden_output("console/backup-show.txt", "s3://backups/bi min 20261122T121102")
    assert without_our_line(capsys.readouterr().out, "min") == golden


@pytest.mark.parametrize(
    ("source", "golden", "backup_id"),
    [
        ("done-gzip-name-tags", "backup-show-done.json", "20261122T121138"),
        ("snapshot-aws", "backup-show-snapshot-aws.json", "20261122T123131"),
    ],
)
def test_json_show(source: str, golden: str, backup_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = memory_catalog("main")
    catalog.save(from_golden(source, backup_id))
    run(backup_show, catalog, "--format", "json", *where(catalog), backup_id)
    assert capsys.readouterr().out == (GOLDEN / "console" / golden).read_text().removesuffix("\n") + "\n"


def test_show_finds_names_and_tells_what_is_missing() -> None:
    catalog = fill(memory_catalog("main"), [backup("20260101T000000", segment(1), backup_name="n")])
    assert run(backup_show, catalog, *where(catalog), "n") == 0
    with pytest.raises(NotFoundError) as missing:
        run(backup_show, catalog, *where(catalog), "20200101T000000")
    assert missing.value.exit_code == 1
    with pytest.raises(SelectionError) as unknown:
        run(backup_show, catalog, *where(catalog), "nosuch")
    assert unknown.value.exit_code == 4


def test_an_id_is_shown_without_a_listing() -> None:
    catalog = fill(memory_catalog("main"), [backup("20260101T000000", segment(1))])
    catalog.store.put(catalog.layout.backup_info("20260102T000000"), b"unreadable")
    assert run(backup_show, catalog, *where(catalog), "20260101T000000") == 0


def test_copy_time_with_a_long_start(capsys: pytest.CaptureFixture[str]) -> None:
    stats = {"copy_time": 93784.9, "analysis_time": 61}
    catalog = fill(memory_catalog("main"), [backup("20260101T000000", segment(1), copy_stats=stats)])
    run(backup_show, catalog, *where(catalog), "last")
    assert (
        "    Copy time            : 1 day, 2 hours, 3 minutes, 4 seconds + 1 minute, 1 second startup\n"
        in capsys.readouterr().out
    )


def test_a_server_backup_shows_its_method(capsys: pytest.CaptureFixture[str]) -> None:
    info = backup("20260101T000000", segment(1), mode="postgres", compression="gzip", deduplicated_size=1536)
    catalog = fill(memory_catalog("main"), [info])
    run(backup_show, catalog, *where(catalog), "last")
    out = capsys.readouterr().out
    assert "    Backup Method        : postgres\n" in out
    assert "    Backup Size          : 1.5 KiB\n" in out
    assert "    Backup Compression   : gzip\n" in out


def test_views_name_every_unreadable_backup() -> None:
    catalog = memory_catalog("bad")
    for number in (1, 2):
        catalog.store.put(catalog.layout.backup_info(f"2026010{number}T000000"), b"\xff\xfe")
    view = catalog.load()
    assert isinstance(view, CatalogView)
    with pytest.raises(OperationError, match="20260101T000000, 20260102T000000"):
        view.require_readable("a test")
