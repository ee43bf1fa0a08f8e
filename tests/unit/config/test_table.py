"""The table of keys: whole, without contradictions, and true to what a Barman server shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.config.barman_keys import BARMAN_KEYS
from barman_cloud.config.own_keys import OWN_KEYS
from barman_cloud.config.table import KEYS, nearest

SHOWN = (Path(__file__).parent / "show-servers.txt").read_text()
"""What a Barman 3.20.1 server shows with ``show-servers``: its effective values, and live ones of PostgreSQL."""

LIVE = """
    active_model archive_timeout checkpoint_timeout config_file connection_error current_lsn current_size
    current_xlog data_checksums data_directory disabled has_backup_privileges has_monitoring_privileges hba_file
    hot_standby ident_file included_files is_in_recovery is_superuser max_replication_slots max_wal_senders name
    passive_node pg_basebackup_bwlimit pg_basebackup_compatible pg_basebackup_installed pg_basebackup_path
    pg_basebackup_tbls_mapping pg_basebackup_version pg_receivexlog_compatible pg_receivexlog_installed
    pg_receivexlog_path pg_receivexlog_supports_slots pg_receivexlog_synchronous pg_receivexlog_version
    postgres_systemid replication_slot replication_slot_support server_txt_version streaming streaming_supported
    streaming_systemid synchronous_standby_names timeline version_supported wal_compression wal_keep_size
    wal_level xlog_segment_size xlogpos
"""
"""Lines of ``show-servers`` that aren't keys of the configuration."""


def test_no_key_is_declared_twice() -> None:
    assert len(KEYS) == len(BARMAN_KEYS) + len(OWN_KEYS)


def test_every_key_of_a_barman_server_is_known() -> None:
    shown = {line.strip().partition(":")[0] for line in SHOWN.splitlines()[1:]}
    assert shown - set(LIVE.split()) - set(KEYS) == set()


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_says_what_it_is_for_or_why_it_is_not_used(key) -> None:  # type: ignore[no-untyped-def]
    assert bool(key.meaning) != bool(key.unused)
    assert set(key.scope) <= set("GSM")
    if isinstance(key.default, str) and "{" not in key.default:
        assert key.kind(key.default) == key.default


def test_the_nearest_key_is_found() -> None:
    assert nearest("retention_policies") == "retention_policy"
    assert nearest("xyzzy") is None
