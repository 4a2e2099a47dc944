"""Fixtures of the download tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.services import Services, running_services


@pytest.fixture(scope="session")
def distributing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A distributor alone; it has no use for a job store."""
    with running_services(tmp_path_factory.mktemp("distributor"), apps=("distributor",)) as running:
        yield running
