"""Fixtures of the tests of stores."""

from __future__ import annotations

from typing import Any

import pytest

from barman_cloud.store.http import HttpClient


@pytest.fixture
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services on the machine itself are given up soon; those of a test may be slow, as the machine is busy."""
    plain = HttpClient.__init__

    def patient(self: HttpClient, base_url: str, *, timeout: float, **more: Any) -> None:
        plain(self, base_url, timeout=max(timeout, 60), **{**more, "connect_timeout": 60})

    monkeypatch.setattr(HttpClient, "__init__", patient)
