"""What an administrator puts in place once, as text: nothing here changes anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from shlex import quote

from barman_cloud.doctor.bucket import aws_rule, google_rule
from barman_cloud.doctor.rights import aws_policy, azure_letters, google_permissions
from barman_cloud.postgres.rights import quoted, rights_of_backups, rights_of_streams, statement
from barman_cloud.store.base import StoreURL
from barman_cloud.store.providers import AWS, AZURE, GOOGLE

_VARIABLES = {
    AWS: ("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_DEFAULT_REGION="),
    AZURE: ("AZURE_STORAGE_SAS_TOKEN=",),
    GOOGLE: ("GOOGLE_APPLICATION_CREDENTIALS=/etc/barman-cloud/service-account.json",),
}
_KEYS = "/etc/barman-cloud/keys"
_DELETION_KEYS = "/etc/barman-cloud/keys-for-deletion"


@dataclass(frozen=True, slots=True)
class SetUp:
    """What the text is for."""

    url: StoreURL
    server: str
    program: str
    """Path of ``barman-cloud``; its kin are beside it."""
    role: str = "barman_cloud"
    user: str = "postgres"
    """Who PostgreSQL runs as, and so who runs the timers."""
    service: str = "postgresql"
    """systemd's name of the server, without ``.service``."""
    major: int = 17
    streamed: bool = False
    options: tuple[str, ...] = ()
    """Options that reach the store, such as ``--endpoint-url``."""
    retention: str = "RECOVERY WINDOW OF 14 DAYS"

    def line(self, command: str, *words: str) -> str:
        """Return a command line of ours with its whole path; ``words`` come before URL and server."""
        program = (
            f"{self.program}-{command}" if command in ("wal-archive", "wal-restore") else f"{self.program} {command}"
        )
        parts = [*words, *self.options, self.url.text, self.server]
        return " ".join([program, *map(quote, parts)])


def roles(plan: SetUp) -> str:
    """Return the SQL that makes the role of backups."""
    version = plan.major * 10000
    rights = list(rights_of_streams() if plan.streamed else rights_of_backups(version))
    role = quoted(plan.role)
    lines = [f"CREATE ROLE {role} LOGIN;", *(statement(right, role) for right in rights)]
    if plan.streamed:
        notes = [f"-- pg_hba.conf: host replication {role} ADDRESS/32 scram-sha-256, and the same for postgres"]
    else:
        notes = [
            f"-- pg_hba.conf: local postgres {role} peer map=barman_cloud",
            f"-- pg_ident.conf: barman_cloud {plan.user} {role}",
        ]
    return "\n".join([f"-- as a superuser: psql -U postgres -d postgres (PostgreSQL {plan.major})", *lines, *notes])


def configuration(plan: SetUp) -> str:
    """Return the lines of ``postgresql.conf``."""
    command = plan.line("wal-archive", "--zstd").replace("%", "%%")
    return "\n".join(
        [
            "wal_level = replica",
            "archive_mode = on                # needs a restart of the server",
            f"archive_command = {_setting(f'{command} %p')}",
            "archive_timeout = 5min           # at most so much is lost with the server's disk",
            *(["max_wal_senders = 10"] if plan.streamed else []),
        ]
    )


def keys(plan: SetUp) -> str:
    """Return where the keys of the store go: a file that the service reads, and nobody else."""
    variables = _VARIABLES.get(plan.url.provider, ())
    if not variables:
        return "# a directory needs no keys; it must belong to " + plan.user
    content = "\\n".join(variables)
    what = "this key can't delete; the nightly deletion reads another one, of the third policy, from"
    return "\n".join(
        [
            f"# 1. the keys, readable for root alone: systemd reads them before it becomes {plan.user}",
            "#    install -d -m 700 /etc/barman-cloud",
            f"#    (umask 077; printf '{content}\\n' > {_KEYS}); then write the values into it with an editor",
            f"#    {what} {_DELETION_KEYS}",
            f"# 2. this as /etc/systemd/system/{plan.service}.service.d/barman-cloud.conf;",
            "#    leave it out where the host has a role of the cloud",
            "[Service]",
            f"EnvironmentFile={_KEYS}",
            "# 3. systemctl daemon-reload; systemctl restart " + plan.service,
        ]
    )


def timers(plan: SetUp) -> str:
    """Return units: a backup and a deletion each night, a check each hour, and each Sunday what a reader finds."""
    connection = ("--user", plan.role, "--dbname", "postgres")
    how = ("--method", "stream") if plan.streamed else ()
    backup = plan.line("backup", "--zstd", "--jobs", "2", *how, *connection)
    delete = plan.line("backup-delete", "--retention-policy", plan.retention, "--minimum-redundancy", "2")
    check = plan.line("check", "--max-backup-age", "26h", "--max-wal-age", "15min", *connection)
    units = (
        ("backup", "A base backup", backup, "*-*-* 01:30"),
        ("delete", "Delete what the policy calls obsolete", delete, "*-*-* 05:30"),
        ("check", "Are backups and WAL whole and fresh?", check, "*-*-* *:17"),
        ("verify", "Read the newest backup and its WAL", plan.line("verify", "--max-age", "30d"), "Sun 04:00"),
    )
    return "\n\n".join(_unit(plan, *unit) for unit in units)


def _unit(plan: SetUp, name: str, what: str, line: str, when: str) -> str:
    base = f"/etc/systemd/system/barman-cloud-{name}-{_file_name(plan.server)}"
    start = line.replace("%", "%%").replace("$", "$$")
    keys_file = _DELETION_KEYS if name == "delete" else f"-{_KEYS}"
    return "\n".join(
        [
            f"# {base}.service",
            "[Unit]",
            f"Description={what} ({plan.server.replace(chr(37), chr(37) * 2)})",
            "After=network-online.target",
            "Wants=network-online.target",
            "[Service]",
            "Type=oneshot",
            f"User={plan.user}",
            *([f"EnvironmentFile={keys_file}"] if plan.url.provider in _VARIABLES else []),
            f"ExecStart={start}",
            "Nice=10",
            "IOSchedulingClass=idle",
            "NoNewPrivileges=yes",
            f"# {base}.timer",
            "[Timer]",
            f"OnCalendar={when}",
            "RandomizedDelaySec=10min",
            "Persistent=yes",
            "[Install]",
            "WantedBy=timers.target",
        ]
    )


def policy(plan: SetUp) -> str:
    """Return the least rights: for the server, for who only restores, and for who deletes as well."""
    return {AWS: _aws, AZURE: _azure, GOOGLE: _google}.get(plan.url.provider, _directory)(plan)


def _aws(plan: SetUp) -> str:
    parts = [
        f"# {what}\n{aws_policy(plan.url, role)}"
        for role, what in (
            ("archive", "the server: backup and wal-archive (its key can delete nothing)"),
            ("restore", "a standby, or a host that restores and checks"),
            ("everything", "who deletes by policy, and wal-receive"),
        )
    ]
    bucket = plan.url.bucket
    rule = (
        "# parts of uploads that were killed are removed after a week (this replaces other rules of the bucket)\n"
        f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration "
        f"'{aws_rule(plan.url, 'unfinished')}'"
    )
    return "\n\n".join([*parts, rule])


def _azure(plan: SetUp) -> str:
    scope = (
        f"/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts/{plan.url.account}"
        f"/blobServices/default/containers/{plan.url.bucket}"
    )
    lines = []
    for role, name, what in (
        ("everything", "Storage Blob Data Contributor", "the server, and who deletes by policy"),
        ("restore", "Storage Blob Data Reader", "a standby, or a host that restores and checks"),
    ):
        lines += [
            f"# {what}: a role, or a shared access signature",
            f'az role assignment create --assignee IDENTITY --role "{name}" --scope {scope}',
            f"az storage container generate-sas --account-name {plan.url.account} --name {plan.url.bucket} "
            f"--permissions {azure_letters(role)} --expiry YYYY-MM-DD --auth-mode key",
        ]
    lines += [
        "# the server alone, which deletes nothing:",
        f"az storage container generate-sas --account-name {plan.url.account} --name {plan.url.bucket} "
        f"--permissions {azure_letters('archive')} --expiry YYYY-MM-DD --auth-mode key",
    ]
    return "\n".join(lines)


def _google(plan: SetUp) -> str:
    lines = []
    for role, what in (
        ("everything", "the server (to overwrite backup.info is to delete), and who deletes by policy"),
        ("restore", "a standby, or a host that restores and checks"),
    ):
        name = f"barmanCloud{role.capitalize()}"
        lines += [
            f"# {what}",
            f"gcloud iam roles create {name} --project PROJECT --permissions {','.join(google_permissions(role))}",
            f"gcloud storage buckets add-iam-policy-binding gs://{plan.url.bucket} --member serviceAccount:ACCOUNT "
            f"--role projects/PROJECT/roles/{name}",
        ]
    lines += [
        "# parts of uploads that were killed are removed after a week (this replaces other rules of the bucket)",
        f"gcloud storage buckets update gs://{plan.url.bucket} --lifecycle-file=<(echo '{google_rule('unfinished')}')",
    ]
    return "\n".join(lines)


def _directory(plan: SetUp) -> str:
    return f"install -d -m 750 -o {plan.user} -g {plan.user} {quote(plan.url.bucket)}"


PARTS: dict[str, tuple[str, Callable[[SetUp], str]]] = {
    "policy": ("Rights on the bucket", policy),
    "roles": ("Role in PostgreSQL", roles),
    "keys": ("Keys of the store, by systemd", keys),
    "postgresql.conf": ("postgresql.conf", configuration),
    "timers": ("Timers", timers),
}
"""Every part by its name: a title, and what writes it; in the order in which they are put in place."""


def write(plan: SetUp, parts: tuple[str, ...] = ()) -> str:
    """Return these parts, or all; one alone comes without a title, so that it can be piped."""
    if len(parts) == 1:
        return PARTS[parts[0]][1](plan)
    chosen = [PARTS[name] for name in parts or PARTS]
    return "\n\n".join(f"#### {number}. {title}\n\n{make(plan)}" for number, (title, make) in enumerate(chosen, 1))


def _setting(value: str) -> str:
    """Return a value as ``postgresql.conf`` takes it."""
    return "'" + value.replace("'", "''") + "'"


def _file_name(server: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", server)
