"""All examinations in their order; each goes on where the one before it lets it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.doctor import machine
from barman_cloud.doctor.bucket import judge_settings
from barman_cloud.doctor.database import Judge, examine_command, examine_rights, examine_settings, switch_and_wait
from barman_cloud.doctor.probes import Probes, Unreachable
from barman_cloud.doctor.way import examine_region, examine_way
from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.connection import ConnectionParameters, ServerMetadata, connect, first_line, read_metadata
from barman_cloud.report import progress
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify.findings import Finding, Report, critical, unknown
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.server_state import look_at_server


class Doctor:
    """One run. ``parameters`` is None without a connection; ``judge`` knows the command line of ``wal-archive``."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        judge: Judge,
        *,
        parameters: ConnectionParameters | None = None,
        switch_wal: float | None = None,
        store_options: str = "",
        deadline: Deadline | None = None,
    ) -> None:
        """``switch_wal``: seconds to wait for one segment, None to switch none.

        ``store_options``: what reaches the store, for lines to type.
        """
        self._store = store
        self._layout = layout
        self._judge = judge
        self._parameters = parameters
        self._switch_wal = switch_wal
        self._store_options = store_options
        self._deadline = deadline or Deadline()

    def examine(self) -> Report:
        """Run everything and return what was found; only what isn't our business is raised."""
        work = progress.current()
        work.phase("looking at PostgreSQL" if self._parameters else "looking at this machine")
        server, metadata = self._server()
        findings = [*self._machine(metadata), *self._bucket(), *server]
        if self._switch_wal is not None and metadata is not None:
            findings.append(self._switch(metadata, self._switch_wal))
        return Report("doctor", self._store.url.text, self._layout.server, datetime.now(UTC), tuple(findings))

    def _machine(self, metadata: ServerMetadata | None) -> Iterator[Finding]:
        process = machine.find_server(metadata.data_directory if metadata else None)
        yield machine.examine_user(process)
        yield from machine.examine_programs(process)
        yield from machine.examine_variables(process)

    def _bucket(self) -> Iterator[Finding]:
        facts = self._store.facts()
        work = progress.current()
        work.phase("looking at the way to the store")
        try:
            if facts is not None:
                yield from examine_way(facts, self._deadline)
            work.phase("trying what these credentials may do")
            with Probes(self._store, self._layout) as probes:
                yield from probes.run()
                if facts is not None:
                    if region := examine_region(facts):
                        yield region
                    yield from judge_settings(facts.settings(probes.key), self._store.url, self._store_options)
                if left := probes.clean():
                    yield left
        except Unreachable as error:
            yield error.finding
        except BarmanCloudError as error:
            yield critical("bucket", str(error), error.hint or "see docs/how-to/troubleshooting.md")

    def _server(self) -> tuple[list[Finding], ServerMetadata | None]:
        if self._parameters is None:
            return [], None
        try:
            connection = connect(self._parameters, "barman_cloud_doctor")
        except BarmanCloudError as error:
            return [critical("server", str(error), error.hint or "check the connection")], None
        findings: list[Finding] = []
        metadata = None
        with connection:
            try:
                metadata = read_metadata(connection)
                findings += examine_rights(connection, metadata)
                findings += examine_settings(connection)
                process = machine.find_server(metadata.data_directory)
                url = self._store.url.text
                findings += examine_command(metadata, process, url, self._layout, self._judge)
            except (BarmanCloudError, psycopg.Error) as error:
                reason = first_line(error) if isinstance(error, psycopg.Error) else str(error)
                findings.append(unknown("server", f"the server doesn't tell: {reason}"))
        return [*findings, *look_at_server(self._parameters, Limits())], metadata

    def _switch(self, metadata: ServerMetadata, seconds: float) -> Finding:
        assert self._parameters is not None
        progress.current().phase("waiting for WAL in the archive")
        try:
            with connect(self._parameters, "barman_cloud_doctor") as connection:
                return switch_and_wait(connection, metadata, self._store, self._layout, seconds)
        except (BarmanCloudError, psycopg.Error) as error:
            reason = first_line(error) if isinstance(error, psycopg.Error) else str(error)
            return unknown("one-segment", f"not tried: {reason}")
