"""Resumable uploads while connections are cut and workers die or fall asleep."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.e2e.resumable_scenarios import upload_all
from tests.support.services import running_services

pytestmark = pytest.mark.anyio


async def test_each_upload_arrives_once_and_to_the_bit(tmp_path: Path, redis_url: str) -> None:
    seed = secrets.randbelow(10_000)
    print(f"seed {seed}")
    with running_services(tmp_path, redis_url, ("loader",)) as services:
        outcome = await upload_all(services, 6, 4_000_000, 3, seed=seed)
        assert outcome.cuts == 18
        assert list((services.main_dir / "temp").iterdir()) == []
