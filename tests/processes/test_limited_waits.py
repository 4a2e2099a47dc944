"""Many waits of one task, each with a time limit."""

from __future__ import annotations

import asyncio
import math

import pytest

from open_workshop_storage.utils.processes.limited_waits import LimitedWaits

pytestmark = pytest.mark.anyio


async def wait(waits: LimitedWaits, limit: float, seconds: float = 3600) -> None:
    try:
        waits.begin(limit)
        await asyncio.sleep(seconds)
    finally:
        waits.end()


@pytest.mark.parametrize("before", [(), (3600.0,), (0.01,), (math.inf,)], ids=["the first", "long", "short", "any"])
async def test_a_wait_is_cut_off_at_its_limit_whatever_the_ones_before_had(before: tuple[float, ...]) -> None:
    done = 0
    with pytest.raises(TimeoutError):
        async with LimitedWaits() as waits:
            for limit in before:
                await wait(waits, limit, 0)
                done += 1
            await wait(waits, 0.02)
    assert done == len(before) and not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_no_time_at_all_cuts_off_even_a_wait_for_the_next_turn_of_the_loop() -> None:
    with pytest.raises(TimeoutError):
        async with LimitedWaits() as waits:
            while True:
                await wait(waits, 0, 0)


async def test_a_limit_holds_for_each_wait_alone_and_not_between_them() -> None:
    async with LimitedWaits() as waits:
        for _ in range(3):
            await wait(waits, 3600, 0.01)
        await wait(waits, 0.01, 0)
        await asyncio.sleep(0.05)
        await wait(waits, math.inf, 0.05)


async def test_a_wait_that_goes_on_may_be_given_less_time() -> None:
    with pytest.raises(TimeoutError):
        async with LimitedWaits() as waits:
            asyncio.get_running_loop().call_later(0.01, waits.hurry, 0.01)
            await wait(waits, math.inf)


async def test_nothing_is_hurried_between_waits() -> None:
    async with LimitedWaits() as waits:
        await wait(waits, 3600, 0)
        waits.hurry(0)
        await asyncio.sleep(0.05)


async def test_a_wait_that_ends_when_its_time_is_just_over_is_not_cut_off() -> None:
    async with LimitedWaits() as waits:
        waits.begin(0)
        waits.end()
        await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def waiting() -> None:
        async with LimitedWaits() as waits:
            await wait(waits, 3600)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
