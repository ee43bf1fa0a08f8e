"""What is said to whoever names a server that isn't there."""

from __future__ import annotations

import pytest

from barman_cloud.catalog import servers
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli import backup_delete, backup_keep, backup_list, backup_show, cleanup
from barman_cloud.errors import AccessDeniedError, NotFoundError, SelectionError
from tests.support.faulty_store import FaultyStore
from tests.unit.catalog.builders import backup, fill, memory_catalog, run, segment, where

ID = "20260101T000000"


def url_with(*names: str, path: str = "prod") -> Catalog:
    """A URL with these servers, one that only has WAL, and a folder that is none."""
    catalog = memory_catalog("main", path)
    for name in names:
        fill(Catalog(catalog.store, Layout.of(catalog.store.url, name)), [backup(ID, segment(1))])
    only_wal = Layout.of(catalog.store.url, "just-wal")
    catalog.store.put(only_wal.wal(segment(1)), b"x")
    catalog.store.put(f"{only_wal.root[: -len('just-wal/')]}papers/a.txt", b"x")
    return catalog


def said(catalog: Catalog, server: str, *, path: str | None = None) -> str | None:
    layout = Layout(catalog.layout.prefix if path is None else path, server)
    return servers.describe_unknown(Catalog(catalog.store, layout))


@pytest.mark.parametrize("path", ["prod", "", "a/b"])
def test_the_servers_that_do_exist_are_named_and_the_closest_is_offered(path: str) -> None:
    text = said(url_with("main", "other", path=path), "mian")
    assert text is not None
    assert "no server 'mian'" in text
    assert "there are: just-wal, main, other; is it 'main'?" in text


def test_nothing_is_said_of_a_server_that_exists_without_backups() -> None:
    assert said(url_with("main"), "just-wal") is None


def test_a_url_that_is_a_servers_own_folder_is_told() -> None:
    text = said(url_with("main"), "main", path="prod/main")
    assert text is not None
    assert "is the folder of server 'main' itself" in text
    assert text.endswith("/prod main")


def test_names_of_several_levels_are_looked_for_where_they_would_be() -> None:
    catalog = memory_catalog("x", "prod")
    fill(Catalog(catalog.store, Layout("prod", "team/main")), [backup(ID, segment(1))])
    assert "there are: team/main; is it 'team/main'?" in (said(catalog, "team/mian") or "")
    assert "nor any other" in (said(catalog, "nothing") or "")


def test_many_servers_are_not_all_named() -> None:
    assert "and 11 more" in (said(url_with(*(f"s{n:02}" for n in range(20))), "zzz") or "")


def test_credentials_that_may_not_look_say_nothing() -> None:
    catalog = url_with("main")
    store = FaultyStore(catalog.store)
    store.fail("list_level", times=9, error=lambda: AccessDeniedError("no"))
    assert servers.describe_unknown(Catalog(store, Layout("prod", "mian"))) is None


def test_a_cleanup_of_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """ "Nothing is left over" would be taken for an answer about the server that was meant."""
    catalog = url_with("main")
    url, _ = where(catalog)
    with pytest.raises(NotFoundError, match="is it 'main'"):
        run(cleanup, catalog, url, "mian", is_umbrella=True)
    assert capsys.readouterr().out == ""
    assert run(cleanup, catalog, url, "main", is_umbrella=True) == 0
    assert run(cleanup, catalog, url, "just-wal", is_umbrella=True) == 0


def test_every_command_that_finds_nothing_says_so(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    url = where(url_with("main"))[0]
    for module, arguments, fails in (
        (backup_list, [url, "mian"], False),
        (backup_list, ["--format", "json", url, "mian"], False),
        (backup_delete, ["-r", "REDUNDANCY 1", url, "mian"], False),
        (backup_show, [url, "mian", "last"], True),
        (backup_keep, ["--status", url, "mian", "nightly"], True),
    ):
        caplog.clear()
        catalog = url_with()
        if fails:
            with pytest.raises(SelectionError):
                run(module, catalog, *arguments)
        else:
            assert run(module, catalog, *arguments) == 0
        assert "is it 'main'?" in caplog.text, module
    assert capsys.readouterr().out.count("\n") == 2, "the header and the empty document"
