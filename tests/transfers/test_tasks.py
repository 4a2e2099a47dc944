"""Tasks that outlive the request which started them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.services.transfers.tasks import Tasks, keep_doing

pytestmark = pytest.mark.anyio


async def test_the_end_of_the_block_cancels_what_still_runs_and_waits_for_it() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async with Tasks() as tasks:
        task = tasks.start(work())
        await asyncio.sleep(0)
    assert ended.is_set() and task.cancelled()


async def test_what_a_cancelled_task_starts_ends_with_the_block_too() -> None:
    started: list[asyncio.Task[bool]] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            started.append(tasks.start(asyncio.Event().wait()))

    async with Tasks() as tasks:
        tasks.start(work())
        await asyncio.sleep(0)
    assert [task.done() for task in started] == [True]


async def test_one_that_fails_leaves_the_others_alone_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async with Tasks() as tasks:
        failing = [tasks.start(fail(ValueError("unforeseen"))), tasks.start(fail(StorageError()))]
        sound = tasks.start(answer())
        await asyncio.wait([*failing, sound])
        assert sound.result() == 7
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[0] for record in logged if record.exc_info] == [ValueError]


async def test_work_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("open_workshop_storage.services.transfers.tasks._PAUSE_SECONDS", 0)
    failures = [ValueError("unforeseen")]

    async def work() -> None:
        if failures:
            raise failures.pop()

    await keep_doing(work)
    assert not failures and "begins again" in caplog.text
