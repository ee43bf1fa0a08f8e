"""What the retention policy of a server says of its backups, in Barman's words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from barman_cloud.catalog import keep
from barman_cloud.catalog.retention import RecoveryWindow, Status, judge, parse_policy

if TYPE_CHECKING:
    from barman_cloud.cli.server.session import OneServer

NOT_ENFORCED = "not enforced"


def statuses(server: OneServer) -> dict[str, str]:
    """Return what the policy says of each DONE backup: nothing without a policy, as Barman."""
    backups = server.view.backups
    policy = server["retention_policy"]
    if policy is None:
        return {}
    keeps = keep.read_all(server.base.catalog)
    now = datetime.now().astimezone()
    verdicts = judge(backups, keeps, parse_policy(policy), server["minimum_redundancy"], now)
    return {name: str(verdict.status) for name, verdict in verdicts.items() if verdict.status is not Status.NONE}


def describe(server: OneServer) -> str:
    """Return how the policy is enforced, as ``status`` shows it."""
    policy = server["retention_policy"]
    if policy is None:
        return NOT_ENFORCED
    parsed = parse_policy(policy)
    words = f"RECOVERY WINDOW OF {parsed.days} DAYS" if isinstance(parsed, RecoveryWindow) else ""
    shown = words if words and "DAY" in policy.upper() else " ".join(policy.upper().split())
    return f"enforced (mode: {server['retention_policy_mode']}, retention: {shown}, WAL retention: MAIN)"
