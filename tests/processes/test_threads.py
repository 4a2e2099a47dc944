"""Work in threads that ends before its caller goes on."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

pytestmark = pytest.mark.anyio


async def test_the_result_and_the_exception_reach_the_caller() -> None:
    assert await run_to_end(os.path.join, "a", "b") == "a/b"
    assert await run_until_stopped(lambda stop: stop.is_set()) is False
    with pytest.raises(KeyError):
        await run_to_end(os.environ.__getitem__, "OW_MISSING")


async def test_a_cancelled_caller_waits_for_work_that_looks_at_the_event() -> None:
    ended = []

    def work(stop: threading.Event) -> None:
        stop.wait()
        ended.append(True)

    task = asyncio.create_task(run_until_stopped(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_cancelled_caller_waits_for_work_that_cannot_be_stopped() -> None:
    go_on = threading.Event()
    task = asyncio.create_task(run_to_end(go_on.wait))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
