"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest

from tests.support.services import Services


@pytest.fixture(scope="session")
def services(services_redis: Services) -> Services:
    """Both services, the loader with several workers: which store they have makes no difference to a client."""
    return services_redis
