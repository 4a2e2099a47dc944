"""Resumable uploads while connections are cut and workers die or fall asleep."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from tests.e2e.resumable_scenarios import upload_all
from tests.support.client import PATIENCE_SECONDS
from tests.support.services import running_services

pytestmark = pytest.mark.anyio


async def test_each_upload_arrives_once_and_to_the_bit(tmp_path: Path, redis_url: str) -> None:
    seed = secrets.randbelow(10_000)
    print(f"seed {seed}")
    with running_services(tmp_path, redis_url, ("loader",), JOB_TTL_SECONDS=20, CLEANUP_INTERVAL_SECONDS=1) as services:
        outcome = await upload_all(services, 6, 4_000_000, 3, seed=seed)
        assert outcome.cuts == 18
        async with asyncio.timeout(PATIENCE_SECONDS):
            # A worker may have died between a move and the removal of what it left.
            while list((services.main_dir / "temp").iterdir()):
                await asyncio.sleep(0.1)
