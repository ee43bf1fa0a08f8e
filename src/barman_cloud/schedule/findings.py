"""What ``check`` says of a server's configuration and maintenance, beside its backups and its WAL."""

from __future__ import annotations

from collections.abc import Container, Iterator

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.server import Server
from barman_cloud.schedule.overview import JobStatus, overview
from barman_cloud.schedule.plan import waiting_files
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify.findings import Finding, critical, ok, warning

_PROMISES = {
    "encryption": "backups are not encrypted by this key: set aws_encryption, or the key of the provider",
    "worm_mode": "backups are not made immutable by this key: set an object lock on the bucket",
}
"""Keys that have no effect here, and that somebody relies on for safety; what to do instead."""
_OFF = (None, False, "", "none", "off")


def findings(store: ObjectStore, layout: Layout, server: Server, commands: Container[str]) -> tuple[Finding, ...]:
    """Return the findings, from the server's values and one or two listings; errors of the store are raised."""
    return tuple(_findings(store, layout, server, commands))


def _findings(store: ObjectStore, layout: Layout, server: Server, commands: Container[str]) -> Iterator[Finding]:
    yield from configuration_findings(server, commands)
    if server["backup_method"] == "snapshot":
        from barman_cloud.schedule.snapshot_findings import snapshot_finding

        yield snapshot_finding(server)
    status = overview(store, layout, server, commands)
    if status.receiver:
        yield ok("receiver", f"WAL is received by {status.receiver}")
    elif status.wants_receiver:
        yield critical(
            "receiver",
            "WAL is not received, although streaming_archiver is on",
            f"run barman-cloud cron every minute, or barman-cloud wal-receive {server.name}; its log tells why it ends",
        )
    if not status.exclusive and any(job.last_start for job in status.jobs):
        yield warning(
            "maintenance", "this store can't keep the jobs of two hosts apart", "run barman-cloud cron on one host only"
        )
    for job in status.jobs:
        yield from _job_finding(job)


def configuration_findings(server: Server, commands: Container[str]) -> Iterator[Finding]:
    """Judge the values alone: what is set and has no effect, and what can't work."""
    for name, reason in server.unused():
        place = str(server.places[name])
        if name in _PROMISES and server[name] not in _OFF:
            yield critical("configuration", f"{name} has no effect here: {reason}", _PROMISES[name], place)
        else:
            yield ok("configuration", f"{name} is not used here: {reason}", place)
    if server["drill_schedule"] and "drill" not in commands:
        yield warning("configuration", "drill_schedule has no effect: there is no drill command", "remove the line")
    if not server["archiver"] and not server["streaming_archiver"] and server["backup_method"] != "local-to-cloud":
        yield warning(
            "configuration",
            "neither archiver nor streaming_archiver is on: nothing here sees that WAL gets to the archive",
            "set streaming_archiver = on, or archiver = on if archive_command stores it",
        )
    if server["backup_method"] in ("rsync", "local-rsync"):
        yield critical(
            "configuration",
            f"backup_method {server['backup_method']} can't store backups in a bucket",
            "set backup_method = postgres, local-to-cloud or snapshot",
        )
    if server["streaming_archiver"] and not server["slot_name"]:
        yield warning(
            "configuration",
            "streaming_archiver is on without slot_name: the server may recycle WAL that was not received",
            "set slot_name, and create_slot = auto",
        )
    waiting, most = len(waiting_files(server)), server["max_incoming_wals_queue"]
    if most is not None and waiting > most:
        yield warning(
            "incoming",
            f"{waiting} WAL files wait in {server['incoming_wals_directory']}, more than {most}",
            "run barman-cloud cron every minute; its log tells why they wait",
        )


def _job_finding(job: JobStatus) -> Iterator[Finding]:
    if job.result.startswith("failed"):
        yield warning(
            "maintenance",
            f"the last run of {job.job} {job.result}" + (f": {job.message}" if job.message else ""),
            "repair it; cron runs it at its next time, or run the command by hand",
        )
    elif job.result == "lost":
        yield warning(
            "maintenance", f"the last run of {job.job} was lost with its process", "see that machine's log for why"
        )
    elif job.last_start is not None:
        yield ok("maintenance", f"{job.job}: {job.result}, started {job.last_start:%Y-%m-%d %H:%M:%S}Z")
