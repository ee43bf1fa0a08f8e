"""Requests for credentials: to metadata services of hosts and containers, and to login services.

Their answers are small and come at once, so they are bounded more narrowly than those of a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from barman_cloud.deadline import Deadline
from barman_cloud.errors import AccessDeniedError
from barman_cloud.store.failures import RequestFailedError, TransientError
from barman_cloud.store.http import HttpClient, Response
from barman_cloud.store.retry import Retry

LARGEST_ANSWER = 1 << 20
"""Bytes."""
ANSWER_TIMEOUT = 30.0
"""Seconds for a whole answer."""


def ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    what: str,
    hint: str,
    timeout: float,
    budget: float,
    attempts: int,
    ca_file: str | None = None,
    environ: Mapping[str, str],
    transient: tuple[int, ...] = (429,),
) -> Response:
    """Return the answer of status 200; ``what`` names the service in messages.

    ``timeout``: seconds between bytes; ``budget``: seconds for all attempts; ``transient``: statuses besides 5xx to try
    again after. Raises ``TransientError`` when no answer comes, ``AccessDeniedError`` for a refusal.
    """
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    client = HttpClient(
        url,
        ca_file=ca_file,
        timeout=timeout,
        connect_timeout=timeout,
        environ=environ,
        answer_timeout=ANSWER_TIMEOUT,
        largest_answer=LARGEST_ANSWER,
    )

    def once() -> Response:
        try:
            answer = client.request(method, target, headers, body)
        except RequestFailedError as error:
            raise TransientError(f"{what}: no answer from {parts.hostname} ({error})") from error
        if answer.status >= 500 or answer.status in transient:
            raise TransientError(f"{what}: {parts.hostname} answered {answer.status}")
        if answer.status != 200:
            raise AccessDeniedError(f"{what}: refused by {parts.hostname} with status {answer.status}", hint=hint)
        return answer

    try:
        return Retry(Deadline(budget), attempts).call(once)
    finally:
        client.close()
