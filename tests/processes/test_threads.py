"""Work in threads that ends before its caller goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from open_workshop_storage.utils.processes.threads import StepThread, run_to_end, run_until_stopped
from tests.support.client import eventually

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


async def test_steps_are_done_in_their_order_and_tell_what_they_raise() -> None:
    thread, done = StepThread(), list[int]()
    steps = [thread.submit(lambda number=number: done.append(number)) for number in range(100)]  # type: ignore[misc]
    failing = thread.submit(lambda: done.index(100))
    await asyncio.gather(*steps)
    assert done == list(range(100))
    with pytest.raises(ValueError, match="100 is not in list"):
        await failing
    thread.end()


async def test_a_step_is_done_though_its_caller_is_cancelled() -> None:
    thread, go_on, done = StepThread(), threading.Event(), list[str]()
    thread.submit(go_on.wait)
    waiting = asyncio.ensure_future(thread.submit(lambda: done.append("first")))
    waiting.cancel()
    last = thread.submit(lambda: done.append("last"))
    thread.end()
    go_on.set()
    await last
    assert done == ["first", "last"]


async def test_the_thread_ends_when_nothing_comes_and_another_does_what_comes_later() -> None:
    thread, ids = StepThread(), list[int]()
    for _ in range(2):
        await thread.submit(lambda: ids.append(threading.get_native_id()))
        await eventually(lambda: not Path(f"/proc/self/task/{ids[-1]}").exists())
    thread.end()


async def test_a_step_without_a_thread_fails_and_a_later_one_gets_one() -> None:
    thread, done = StepThread(), list[bool]()
    usual = threading.stack_size(2**50)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            thread.submit(lambda: done.append(False))
    finally:
        threading.stack_size(usual)
    async with asyncio.timeout(60):
        await thread.submit(lambda: done.append(True))
    assert done == [True]
    thread.end()
