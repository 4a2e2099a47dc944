"""One piece of work for several callers."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.utils.processes.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        return await asyncio.shield(self.result)


async def started(flights: SingleFlight[str, str], work: Work, key: str = "key") -> asyncio.Task[str]:
    task = asyncio.create_task(flights.run(key, work))
    await asyncio.sleep(0)
    return task


async def test_callers_at_the_same_time_share_a_result_and_later_ones_do_not() -> None:
    flights, work = SingleFlight[str, str](), Work()
    tasks = [await started(flights, work) for _ in range(3)]
    work.result.set_result("done")
    assert await asyncio.gather(*tasks) == ["done"] * 3
    assert work.begun == 1
    await flights.run("key", work)
    assert work.begun == 2


async def test_another_key_is_other_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    tasks = [await started(flights, work, key) for key in ("one", "two")]
    work.result.set_result("done")
    await asyncio.gather(*tasks)
    assert work.begun == 2


async def test_of_callers_whose_first_one_is_cancelled_another_does_the_work() -> None:
    flights, work = SingleFlight[str, str](), Work()
    first, *others = [await started(flights, work) for _ in range(3)]
    first.cancel()
    await asyncio.wait([first])
    work.result.set_result("done")
    assert await asyncio.gather(*others) == ["done"] * 2
    assert work.begun == 2


async def test_an_error_is_raised_to_the_caller_that_met_it() -> None:
    flights, failing, working = SingleFlight[str, str](), Work(), Work()
    first, second = await started(flights, failing), await started(flights, working)
    working.result.set_result("done")
    failing.result.set_exception(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await first
    assert await second == "done"
