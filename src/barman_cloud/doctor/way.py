"""The way to the bucket: credentials, name service, connection, TLS, the store's clock, the region."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from barman_cloud.deadline import Deadline
from barman_cloud.doctor.probes import Unreachable
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.facts import Facts
from barman_cloud.store.failures import Failure, RequestFailedError, to_error
from barman_cloud.store.http import HttpClient, Response, proxy_for, tls_context
from barman_cloud.verify.check import duration
from barman_cloud.verify.findings import Finding, critical, ok, warning

TIMEOUT = 10.0
"""Seconds for the first connection, and for its answer."""
_REFUSED_SKEW = timedelta(minutes=15)
"""From here on S3 and Azure refuse requests (S3: RequestTimeTooSkewed)."""
_ODD_SKEW = timedelta(minutes=1)
_SOON = timedelta(days=14)


def examine_way(facts: Facts, deadline: Deadline, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield what is found on the way; ``Unreachable`` where it ends."""
    yield _credentials(facts)
    began, moment = time.monotonic(), datetime.now(UTC)
    answer = _ask(facts, deadline, environ)
    took = time.monotonic() - began
    proxy = _proxy(facts.address, environ)
    yield ok(
        "endpoint", f"{facts.address} answers in {took * 1000:.0f} ms{f' through the proxy {proxy}' if proxy else ''}"
    )
    if facts.address.startswith("https://") and not proxy:
        yield from _certificate(facts)
    elif facts.address.startswith("http://"):
        yield _plain(facts.address)
    yield _clock(answer, moment + timedelta(seconds=took / 2))


def examine_region(facts: Facts) -> Finding | None:
    """Compare the region that is configured with the bucket's."""
    found = facts.regions()
    if found is None:
        return None
    configured, actual = found
    if actual and actual != configured:
        return warning(
            "region",
            f"the bucket is in {actual}, and {configured} is configured: each new process asks in the wrong one first",
            f"export AWS_DEFAULT_REGION={actual}",
        )
    return ok(
        "region", f"{configured} is right" if actual else f"{configured} is used; the store doesn't name the bucket's"
    )


def _credentials(facts: Facts) -> Finding:
    try:
        found = facts.credentials()
    except BarmanCloudError as error:
        hint = error.hint or "set the variables or the file that docs/reference/stores.md names"
        raise Unreachable(critical("credentials", str(error), hint)) from error
    origin = f"found in {found.origin}" if not found.origin.startswith(("none", "the ")) else found.origin
    if found.renewed:
        return ok("credentials", f"{origin}; renewed by themselves")
    if found.expires is None:
        if not found.temporary:
            return ok("credentials", f"{origin}; they don't expire")
        return warning(
            "credentials",
            f"{origin}: temporary ones, and nothing says until when",
            "give the host a role, or a profile with credential_process, so that they are renewed",
        )
    left = found.expires - datetime.now(UTC)
    until = f"{found.expires.astimezone(UTC):%Y-%m-%d %H:%M}Z"
    if left <= timedelta(0):
        return critical("credentials", f"{origin}; they expired at {until}", "get new ones")
    if left < _SOON:
        return warning("credentials", f"{origin}; valid until {until}, {duration(left)}", "replace them before that")
    return ok("credentials", f"{origin}; valid until {until}")


def _ask(facts: Facts, deadline: Deadline, environ: Mapping[str, str]) -> Response:
    """Make one request without credentials: whatever the answer is, it came from there and has a date."""
    client = HttpClient(
        facts.address,
        ca_file=facts.ca_file,
        timeout=TIMEOUT,
        environ=environ,
        connect_timeout=TIMEOUT,
        answer_timeout=TIMEOUT,
        deadline=deadline,
    )
    try:
        answer = client.request("GET", "/", {})
    except RequestFailedError as error:
        reason = to_error(error.failure, facts.address, None)
        raise Unreachable(critical("endpoint", str(reason), _to_type(facts, error, environ))) from error
    finally:
        client.close()
    if answer.status == 407:
        reason = to_error(Failure(407), facts.address, None)
        raise Unreachable(critical("endpoint", str(reason), reason.hint or "check the proxy's URL"))
    return answer


def _to_type(facts: Facts, error: RequestFailedError, environ: Mapping[str, str]) -> str:
    """Return the line that shows more about a connection that failed."""
    parts = urlsplit(facts.address)
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    if error.failure.certificate:
        return (
            f"openssl s_client -connect {host}:{port} -showcerts </dev/null shows who signed it; "
            "name that CA's PEM file: export AWS_CA_BUNDLE=/path/ca.pem (Azure and Google: REQUESTS_CA_BUNDLE)"
        )
    if error.failure.status == 407:
        return "set user and password in the proxy's URL: export https_proxy=http://USER:PASSWORD@HOST:PORT"
    if proxy := _proxy(facts.address, environ):
        return f"requests go through the proxy {proxy}: try curl -v {facts.address}, or set no_proxy={host}"
    if "name or service" in error.failure.message or "resolution" in error.failure.message:
        return f"getent hosts {host} asks for the name; check the endpoint's spelling and the DNS of this machine"
    return f"curl -v {facts.address} shows more; check the endpoint, its port and the firewall"


def _proxy(address: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that requests go through, without its password."""
    parts = urlsplit(address)
    found = proxy_for(parts.scheme, parts.hostname or "", environ)
    return f"{found.host}:{found.port}" if found else None


def _certificate(facts: Facts) -> Iterator[Finding]:
    """Look at the certificate of a server that was found to be trusted."""
    import socket

    parts = urlsplit(facts.address)
    with suppress(OSError, ssl.SSLError):
        place = (parts.hostname or "", parts.port or 443)
        with (
            socket.create_connection(place, TIMEOUT) as plain,
            tls_context(facts.ca_file).wrap_socket(plain, server_hostname=parts.hostname) as secured,
        ):
            found, version = secured.getpeercert() or {}, secured.version()
        end = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)
        issuer = ", ".join(_names(found.get("issuer", ())))
        text = f"{version}; the certificate by {issuer or 'an unnamed authority'} is valid until {end:%Y-%m-%d}"
        if end - datetime.now(UTC) < _SOON:
            yield warning("tls", text, "renew the certificate of the store")
        else:
            yield ok("tls", text)


def _names(distinguished: Any) -> list[str]:
    """Return the names of an authority that tell it from others."""
    wanted = ("organizationName", "commonName")
    return [str(value) for pairs in distinguished for name, value in pairs if name in wanted]


def _plain(address: str) -> Finding:
    host = urlsplit(address).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return ok("tls", "none, on this machine")
    return warning(
        "tls", f"{address} isn't encrypted: others on the network read the backups", "use an https:// endpoint"
    )


def _clock(answer: Response, moment: datetime) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return ok("clock", "the store doesn't tell its time")
    skew = abs(moment - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)))
    if skew < _ODD_SKEW:
        return ok("clock", f"it differs from the store's by {skew.total_seconds():.0f} s")
    text = f"the clock of this host and that of the store differ by {duration(skew)}"
    line = "timedatectl set-ntp true, and look at timedatectl timesync-status"
    if skew >= _REFUSED_SKEW:
        return critical("clock", f"{text}; from 15 min on requests are refused", line)
    return warning("clock", text, line)
