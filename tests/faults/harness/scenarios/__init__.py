"""Every scenario, by name."""

from __future__ import annotations

from tests.faults.harness.scenarios import backups, receive, tell, upkeep, wal
from tests.faults.harness.scenarios.base import Scenario

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.name: scenario
    for scenario in (
        wal.Archiving,
        wal.ArchivingAhead,
        wal.Restoring,
        wal.RestoringAhead,
        backups.BackingUp,
        backups.RestoringBackup,
        backups.RestoringWithSettings,
        backups.Deleting,
        backups.DeletingByPolicy,
        backups.Keeping,
        backups.Listing,
        backups.Showing,
        backups.CheckingArchive,
        tell.VerifyingDamage,
        tell.CheckingGap,
        upkeep.CleaningUp,
        upkeep.Consolidating,
        upkeep.Drilling,
        receive.Receiving,
        receive.ReceivingDirectly,
    )
}
