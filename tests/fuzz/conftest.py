"""What fuzzing leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.services import Services


@pytest.fixture(scope="module")
def unshaken(services: Services) -> Iterator[Services]:
    """Services that must log no exception while they are used."""
    before = {name: server.output().count("Traceback") for name, server in services.servers.items()}
    yield services
    assert {name: server.output().count("Traceback") for name, server in services.servers.items()} == before
