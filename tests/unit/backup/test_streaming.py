import pytest

from barman_cloud.backup.streaming import check_label
from barman_cloud.errors import IntegrityError, OperationError

LABEL = (
    "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nCHECKPOINT LOCATION: 0/4000060\n"
    "BACKUP METHOD: streamed\nBACKUP FROM: {role}\nSTART TIME: 2026-11-28 13:45:43 UTC\nLABEL: x\nSTART TIMELINE: 1\n"
)


@pytest.mark.parametrize(("role", "in_recovery"), [("primary", False), ("master", False), ("standby", True)])
def test_a_label_names_the_server_in_the_words_of_every_version(role: str, in_recovery: bool) -> None:
    """13 calls a primary a master."""
    check_label(LABEL.format(role=role), 0x4000028, 1, in_recovery=in_recovery)
    with pytest.raises(OperationError, match="leads to another server"):
        check_label(LABEL.format(role=role), 0x4000028, 1, in_recovery=not in_recovery)


@pytest.mark.parametrize(("lsn", "timeline"), [(0x4000029, 1), (0x4000028, 2)])
def test_a_label_of_another_backup_is_refused(lsn: int, timeline: int) -> None:
    with pytest.raises(IntegrityError, match="of another backup"):
        check_label(LABEL.format(role="primary"), lsn, timeline, in_recovery=False)
