"""Steps that a thread does one after the other."""

from __future__ import annotations

import asyncio
import threading

import pytest

from open_workshop_storage.utils.processes.step_thread import StepThread
from tests.support.transfers import eventually

pytestmark = pytest.mark.anyio

NAME = "steps of a test"


def is_there() -> bool:
    return any(thread.name == NAME for thread in threading.enumerate())


async def test_steps_are_done_in_their_order_and_tell_what_they_raise() -> None:
    thread, done = StepThread(NAME), list[int]()
    steps = [thread.submit(lambda number=number: done.append(number)) for number in range(100)]  # type: ignore[misc]
    failing = thread.submit(lambda: done.index(100))
    await asyncio.gather(*steps)
    assert done == list(range(100))
    with pytest.raises(ValueError, match="100 is not in list"):
        await failing
    thread.end()


async def test_a_step_is_done_though_its_caller_is_cancelled() -> None:
    thread, go_on, done = StepThread(NAME), threading.Event(), list[str]()
    thread.submit(go_on.wait)
    waiting = asyncio.ensure_future(thread.submit(lambda: done.append("first")))
    waiting.cancel()
    last = thread.submit(lambda: done.append("last"))
    thread.end()
    go_on.set()
    await last
    assert done == ["first", "last"]


async def test_the_thread_ends_when_nothing_comes_and_another_does_what_comes_later() -> None:
    thread = StepThread(NAME)
    for _ in range(2):
        await thread.submit(lambda: None)
        await eventually(lambda: not is_there())
    thread.end()
