"""What takes the time of a lease or two, side by side: workers and Redis that go away while transfers run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest

from tests.conftest import ServiceStarter
from tests.e2e.outage_scenarios import redis_goes_away_and_comes_back
from tests.e2e.takeover_scenarios import (
    all_workers_sleep_and_no_job_is_taken,
    workers_are_killed_at_each_point,
    workers_sleep_at_each_point_while_another_host_goes_on,
)

Scenario = Callable[[ServiceStarter, Path], Coroutine[Any, Any, None]]
SCENARIOS: list[Scenario] = [
    workers_are_killed_at_each_point,
    workers_sleep_at_each_point_while_another_host_goes_on,
    all_workers_sleep_and_no_job_is_taken,
    redis_goes_away_and_comes_back,
]
Outcomes = dict[str, Exception | None]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStarter]:
    with ExitStack() as stack:
        yield ServiceStarter(tmp_path_factory, stack)


@pytest.fixture(scope="module")
def outcomes(started: ServiceStarter, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folders = [tmp_path_factory.mktemp(scenario.__name__) for scenario in SCENARIOS]

    def outcome_of(scenario: Scenario, folder: Path) -> Exception | None:
        # A loop of its own: none of them waits while another starts or stops a server.
        try:
            asyncio.run(scenario(started, folder))
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(len(SCENARIOS)) as threads:
        results = threads.map(outcome_of, SCENARIOS, folders)
        return {scenario.__name__: result for scenario, result in zip(SCENARIOS, results, strict=True)}


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_no_transfer_is_lost_when(scenario: str, outcomes: Outcomes, started: ServiceStarter) -> None:
    failure = outcomes[scenario]
    assert failure is None, "".join(format_exception(failure))
