"""Fixtures of the fetch tests."""

from __future__ import annotations

import pytest

from tests.support.origins import CERTIFICATE


@pytest.fixture(autouse=True)
def only_origins_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the origins' certificate alone; loading all the usual ones takes a while, and each fetcher does it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
