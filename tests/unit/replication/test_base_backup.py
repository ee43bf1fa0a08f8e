import pytest

from barman_cloud.replication.base_backup import BaseBackupOptions, command


def test_the_options_of_15_and_later_are_in_parentheses() -> None:
    options = BaseBackupOptions("it's mine", fast=True, include_wal=True, max_rate=10 << 20)
    assert command(options, 180000) == (
        "BASE_BACKUP (LABEL 'it''s mine', PROGRESS, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', CHECKPOINT 'fast',"
        " WAL, WAIT false, MAX_RATE 10240)"
    )


def test_those_of_13_and_14_are_words() -> None:
    options = BaseBackupOptions("it's mine", fast=True, include_wal=True, max_rate=10 << 20)
    assert command(options, 140023) == (
        "BASE_BACKUP LABEL 'it''s mine' PROGRESS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C' FAST"
        " WAL NOWAIT MAX_RATE 10240"
    )


def test_an_increment_is_asked_for_only_with_a_manifest() -> None:
    assert "INCREMENTAL" not in command(BaseBackupOptions("x"), 170000)
    assert "INCREMENTAL" in command(BaseBackupOptions("x", incremental_manifest=[b"{}"]), 170000)


@pytest.mark.parametrize(("version", "words"), [(140023, "NOVERIFY_CHECKSUMS"), (150000, "VERIFY_CHECKSUMS false")])
def test_pages_are_checked_unless_that_is_not_wanted(version: int, words: str) -> None:
    assert words in command(BaseBackupOptions("x", verify_checksums=False), version)
    assert "VERIFY" not in command(BaseBackupOptions("x"), version)


@pytest.mark.parametrize(("rate", "text"), [(1, "MAX_RATE 32"), (2**30, "MAX_RATE 1048576"), (2**30 + 2**11, "")])
def test_a_rate_that_the_server_does_not_take_is_moved_or_left_out(rate: int, text: str) -> None:
    found = command(BaseBackupOptions("x", max_rate=rate), 180000)
    assert (text in found) if text else ("MAX_RATE" not in found)
