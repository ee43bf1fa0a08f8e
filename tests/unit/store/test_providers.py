"""The table of providers: everything that lists providers agrees with it, and it is all that a new one needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from barman_cloud.cli import options as cli_options
from barman_cloud.cli.plain import PlainParser
from barman_cloud.cli.wal_archive import COMMAND
from barman_cloud.errors import ConfigurationError
from barman_cloud.store import providers
from barman_cloud.store.base import StoreURL
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.url import parse_url
from barman_cloud.wal.spool import DECIDING_VARIABLES
from tests.support.postgres import command_environment
from tests.support.privileges import PROJECT
from tests.support.segments import Cluster

OURS = {name: entry for name, entry in providers.TABLE.items() if entry.module.startswith("barman_cloud.")}
COMMON_OPTIONS = {"deadline"}
"""Fields of ``StoreOptions`` that mean the same to every provider."""


def test_every_entry_is_the_provider_that_it_says() -> None:
    for name, entry in OURS.items():
        provider = providers.named(name)
        assert provider.name == name
        assert provider.url_form.partition("://")[0] in entry.schemes
        found = providers.inferred(provider.url_form)
        assert found is not None
        assert found.name == name
        assert parse_url(provider.url_form).provider == name


def test_spools_are_kept_apart_by_the_variables_that_decide() -> None:
    decided = sorted(name for known in OURS for name in providers.named(known).deciding_variables)
    assert sorted(DECIDING_VARIABLES) == decided


def test_every_option_of_a_store_belongs_to_a_provider_and_to_a_command() -> None:
    claimed = {name for known in OURS for name in providers.named(known).options}
    assert claimed | COMMON_OPTIONS == set(StoreOptions._fields)
    parser = PlainParser()
    COMMAND.add_arguments(parser)
    declared = {argument.destination for argument in parser._options.values()}
    assert claimed <= declared


def test_the_command_line_offers_what_can_be_selected() -> None:
    parser = PlainParser()
    cli_options.add_common(parser, "source_url")
    assert parser._options["--cloud-provider"].settings["choices"] == providers.selectable()
    assert providers.selectable() == ("aws-s3", "azure-blob-storage", "google-cloud-storage")


def test_the_documentation_shows_every_provider() -> None:
    text = (PROJECT / "docs" / "reference" / "stores.md").read_text()
    table = text.partition("## URLs")[2].partition("##")[0]
    for name in OURS:
        provider = providers.named(name)
        assert provider.url_form.lower() in table.lower(), name
        assert f"`{name}`" in table or not OURS[name].selectable


def test_an_unknown_provider_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="unknown cloud provider nimbus"):
        open_store("s3://bucket", "nimbus")
    with pytest.raises(ConfigurationError, match="unknown cloud provider nimbus"):
        open_store(StoreURL("nimbus", "bucket", "", "nimbus://bucket"))
    with pytest.raises(ConfigurationError, match="isn't a storage URL"):
        open_store("nimbus://bucket")


def test_no_command_opens_a_store_that_ends_with_the_process(tmp_path: Path) -> None:
    """``wal-archive memory://x`` once answered 0, and the WAL was gone."""
    path = Cluster(tmp_path / "data").add(1)
    program = "from barman_cloud.cli.wal_archive import main; import sys; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "memory://x", "main", str(path)],
        env=command_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert re.search(r"ERROR: memory://x isn't a storage URL that we know", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_a_new_provider_is_a_folder_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk of docs/explanation/new-store.md: a package of its own and one entry, and the commands use it."""
    from tests.unit.store.toy import provider as toy

    monkeypatch.setitem(providers.TABLE, "toy-storage", providers.Entry(("toy",), toy.__name__))
    (tmp_path / "shelf").mkdir()
    url = f"toy://{tmp_path}/shelf!prod"
    path = Cluster(tmp_path / "data").add(1)
    run = __import__("barman_cloud.cli.command", fromlist=("main",)).main
    restore = __import__("barman_cloud.cli.wal_restore", fromlist=("COMMAND",)).COMMAND
    assert run(COMMAND, [url, "main", str(path)]) == 0
    assert run(COMMAND, ["--cloud-provider", "toy-storage", url, "main", str(path)]) == 0
    destination = tmp_path / "restored"
    spool = ["--spool-dir", str(tmp_path / "spool")]
    assert run(restore, [*spool, url, "main", path.name, str(destination)]) == 0
    assert destination.read_bytes() == path.read_bytes()
    assert (tmp_path / "shelf" / "prod" / "main" / "wals").is_dir()
    with pytest.raises(SystemExit):
        run(COMMAND, ["--cloud-provider", "other-storage", url, "main", str(path)])
