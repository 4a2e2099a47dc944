"""Fixtures for archives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.archives.archives import Archives
from tests.archives.workbench import Workbench
from tests.support.configs import cheap_hash

ArchivesMaker = Callable[..., Archives]


def settings_with(**settings: object) -> Settings:
    """Return settings of the test's own."""
    token = cheap_hash("token")
    values: dict[str, object] = {
        "manager_url": "http://manager",
        "access_service_url": "http://access",
        "transfer_jwt_secret": "s" * 32,
        "delete_file": token,
        "upload_file": token,
        "storage_manage_token": token,
        "storage_reserve_bytes": 0,
    }
    return Settings.model_validate(values | settings)


def archives_with(**settings: object) -> Archives:
    """Return `Archives` with settings of the test's own."""
    return Archives(settings_with(**settings))


@pytest.fixture
async def make_archives() -> AsyncIterator[ArchivesMaker]:
    """Makes `Archives` with settings of the test's own."""
    async with AsyncExitStack() as stack:

        def make(**settings: object) -> Archives:
            archives = archives_with(**settings)
            stack.push_async_callback(archives.aclose)
            return archives

        yield make


@pytest.fixture(scope="package")
async def usual_archives() -> AsyncIterator[Archives]:
    """`Archives` with their usual settings, whose children serve one test after the other."""
    async with aclosing(archives_with()) as archives:
        yield archives


@pytest.fixture
def workbench(usual_archives: Archives, tmp_path: Path) -> Workbench:
    """Takes an archive through all steps."""
    return Workbench(usual_archives, tmp_path)
