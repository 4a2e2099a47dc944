"""What a worker does for clients and beside requests, and whether it is about to go."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.services.transfers.lifetime import Lifetime, keep_doing
from tests.support.configs import Secrets
from tests.support.in_process import make_settings


def test_requests_and_sockets_are_counted_until_they_end(tmp_path: Path) -> None:
    lifetime = Lifetime(make_settings(tmp_path, Secrets()))
    with lifetime.attending():
        with pytest.raises(ConnectionError), lifetime.holding_socket("job"):
            assert (lifetime.attended, lifetime.open_sockets) == (2, 1)
            raise ConnectionError
        assert (lifetime.attended, lifetime.open_sockets) == (1, 0)
    assert lifetime.attended == 0


@pytest.mark.parametrize(("most", "most_per_job", "full"), [(2, 0, "another"), (0, 2, "job"), (0, 0, None)])
def test_sockets_are_limited_for_the_worker_and_for_each_job(
    most: int, most_per_job: int, full: str | None, tmp_path: Path
) -> None:
    limits = {"transfer_max_sockets": most, "transfer_max_sockets_per_job": most_per_job}
    lifetime = Lifetime(make_settings(tmp_path, Secrets(), **limits))
    with lifetime.holding_socket("job"):
        assert not lifetime.sockets_are_full("job")
        with lifetime.holding_socket("job"):
            assert lifetime.sockets_are_full("job") == (full is not None)
            assert lifetime.sockets_are_full("another") == (full == "another")
    assert not lifetime.sockets_are_full("job")


def test_a_stop_tells_sockets_of_which_each_may_end_in_that_call(tmp_path: Path) -> None:
    lifetime, told = Lifetime(make_settings(tmp_path, Secrets())), list[str]()

    def end(name: str) -> None:
        told.append(name)
        lifetime.when_stopping.discard(ends[name])

    ends = {name: partial(end, name) for name in ("first", "second")}
    lifetime.when_stopping |= set(ends.values())
    lifetime.stop()
    assert lifetime.stopping.is_set() and sorted(told) == ["first", "second"]


@pytest.mark.anyio
async def test_the_end_of_the_block_cancels_what_still_runs_and_waits_for_it(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async with Lifetime(make_settings(tmp_path, Secrets())) as lifetime:
        task = lifetime.start(work())
        await asyncio.sleep(0)
    assert ended.is_set() and task.cancelled()


@pytest.mark.anyio
async def test_what_a_cancelled_task_starts_ends_with_the_block_too(tmp_path: Path) -> None:
    started: list[asyncio.Task[bool]] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            started.append(lifetime.start(asyncio.Event().wait()))

    async with Lifetime(make_settings(tmp_path, Secrets())) as lifetime:
        lifetime.start(work())
        await asyncio.sleep(0)
    assert [task.done() for task in started] == [True]


@pytest.mark.anyio
async def test_one_that_fails_leaves_the_others_alone_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async with Lifetime(make_settings(tmp_path, Secrets())) as lifetime:
        failing = [lifetime.start(fail(ValueError("unforeseen"))), lifetime.start(fail(StorageError()))]
        sound = lifetime.start(answer())
        await asyncio.wait([*failing, sound])
        assert sound.result() == 7
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[0] for record in logged if record.exc_info] == [ValueError]


@pytest.mark.anyio
async def test_work_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("open_workshop_storage.services.transfers.lifetime._PAUSE_SECONDS", 0)
    failures = [ValueError("unforeseen")]

    async def work() -> None:
        if failures:
            raise failures.pop()

    await keep_doing(work)
    assert not failures and "begins again" in caplog.text
