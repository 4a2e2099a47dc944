"""Steps that a thread does one after the other."""

from __future__ import annotations

import asyncio
import threading

import pytest

from open_workshop_storage.utils.processes import step_thread
from open_workshop_storage.utils.processes.step_thread import StepThread
from tests.support.transfers import eventually

pytestmark = pytest.mark.anyio


def is_there() -> bool:
    return any(thread.name == "steps" for thread in threading.enumerate())


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


async def test_the_next_series_goes_on_with_the_thread_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    await eventually(lambda: not step_thread._unused)
    monkeypatch.setattr(step_thread, "_IDLE_SECONDS", 600)
    threads = set[int]()
    for _ in range(3):
        series = StepThread()
        await series.submit(lambda: threads.add(threading.get_ident()))
        series.end()
        await eventually(lambda: step_thread._unused)
    assert len(threads) == 1
    step_thread._unused.pop().put(None)


async def test_the_thread_ends_when_nothing_comes_and_another_does_what_comes_later() -> None:
    thread = StepThread()
    for _ in range(2):
        await thread.submit(lambda: None)
        await eventually(lambda: not is_there())
    thread.end()
