"""The short run; `make chaos` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.plan import SHORT, make_plan
from tests.chaos.run import run

pytestmark = pytest.mark.anyio


async def test_whatever_dies_each_transfer_ends_once_and_nothing_is_left(tmp_path: Path) -> None:
    plan = make_plan(random.randrange(10**6), SHORT)
    summary = await run(plan, tmp_path)
    assert summary.startswith(f"{len(plan.transfers)} transfers")
    print(summary)
