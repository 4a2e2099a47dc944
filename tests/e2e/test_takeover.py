"""What takes the time of a lease or two, side by side: workers and Redis that go away while transfers run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import ServiceStarter
from tests.e2e.outage_scenarios import redis_goes_away_and_comes_back
from tests.e2e.takeover_scenarios import (
    workers_are_killed_at_each_point,
    workers_sleep_at_each_point_while_another_host_goes_on,
)

pytestmark = pytest.mark.anyio

SCENARIOS = [
    workers_are_killed_at_each_point,
    workers_sleep_at_each_point_while_another_host_goes_on,
    redis_goes_away_and_comes_back,
]
Outcomes = dict[str, BaseException | None]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStarter]:
    with ExitStack() as stack:
        yield ServiceStarter(tmp_path_factory, stack)


@pytest.fixture(scope="module")
async def outcomes(started: ServiceStarter, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    running = [scenario(started, tmp_path_factory.mktemp(scenario.__name__)) for scenario in SCENARIOS]
    results = await asyncio.gather(*running, return_exceptions=True)
    return {scenario.__name__: result for scenario, result in zip(SCENARIOS, results, strict=True)}


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
async def test_no_transfer_is_lost_when(scenario: str, outcomes: Outcomes, started: ServiceStarter) -> None:
    outcome = outcomes[scenario]
    if outcome is not None:
        raise outcome
