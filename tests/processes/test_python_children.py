"""Calls in child processes: what comes back, and what ends them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from tests.processes import called
from tests.support.processes import children, kill

pytestmark = pytest.mark.anyio

Call = Callable[..., object]


@pytest.fixture
async def pool() -> AsyncIterator[PythonChildren]:
    async with aclosing(PythonChildren(2, 200_000_000, [called.Refused])) as opened:
        yield opened


async def call(pool: PythonChildren, function: Call, *arguments: str | float) -> object:
    return await pool.call(function, *arguments, seconds=30, cpu_seconds=10)


async def test_what_a_function_returns_comes_back(pool: PythonChildren) -> None:
    assert await call(pool, called.add, 1, 2) == 3


async def test_an_idle_child_is_used_again(pool: PythonChildren) -> None:
    first = await call(pool, called.process_id)
    assert first != os.getpid()
    assert await call(pool, called.process_id) == first


async def test_no_more_children_than_allowed_run_at_once(pool: PythonChildren) -> None:
    before = children(os.getpid())
    found = await asyncio.gather(*[call(pool, called.process_id) for _ in range(20)])
    assert len(set(found)) <= 2
    assert len(children(os.getpid())) - len(before) <= 2


async def test_open_files_are_handed_over_with_their_position(pool: PythonChildren, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("left right")
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "xb") as target:
        source.seek(5)
        assert await pool.call(called.copy, files=[source, target], seconds=30, cpu_seconds=10) == 5
    assert (tmp_path / "target").read_text() == "right"


async def test_a_pipe_is_read_as_it_fills(pool: PythonChildren) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as source, open(write_end, "wb", buffering=0) as entrance:
        task = asyncio.create_task(pool.call(called.first_half, 6, files=[source], seconds=30, cpu_seconds=10))
        entrance.write(b"abc")
        await asyncio.sleep(0)
        entrance.write(b"def")
        assert await task == "abcdef"


async def test_a_call_with_a_folder_has_a_child_of_its_own_that_runs_there(
    pool: PythonChildren, tmp_path: Path
) -> None:
    usual, before = await call(pool, called.process_id), children(os.getpid())
    await pool.call(called.write_here, "made", "text", folder=tmp_path, seconds=30, cpu_seconds=10)
    assert (tmp_path / "made").read_text() == "text"
    assert children(os.getpid()) == before
    assert await call(pool, called.process_id) == usual


async def test_an_expected_exception_is_raised_again(pool: PythonChildren) -> None:
    child = await call(pool, called.process_id)
    with pytest.raises(called.Refused, match="^no such thing$"):
        await call(pool, called.refuse, "no such thing")
    assert await call(pool, called.process_id) == child


async def test_any_other_exception_is_a_failure_that_names_it(pool: PythonChildren) -> None:
    with pytest.raises(ChildFailed, match="ZeroDivisionError") as caught:
        await call(pool, called.divide_by_zero)
    assert caught.value.errno is None


async def test_the_operating_systems_error_number_comes_back(pool: PythonChildren) -> None:
    with pytest.raises(ChildFailed, match="disk full") as caught:
        await call(pool, called.fill_disk)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("function", "arguments", "seconds", "cpu_seconds"),
    [
        pytest.param(called.sleep, [60], 0.2, 10, id="wall time"),
        pytest.param(called.spin, [], 60, 1, id="CPU time"),
        pytest.param(called.use_memory, [400_000_000], 60, 10, id="memory"),
        pytest.param(called.say, [2_000_000], 60, 10, id="answer"),
        pytest.param(called.crash, [], 60, 10, id="crash"),
    ],
)
async def test_a_call_beyond_a_limit_fails_and_the_next_one_does_not(
    function: Call, arguments: list[float], seconds: float, cpu_seconds: float, pool: PythonChildren
) -> None:
    await call(pool, called.add, 1, 2)
    with pytest.raises(ChildFailed):
        await pool.call(function, *arguments, seconds=seconds, cpu_seconds=cpu_seconds)
    assert await call(pool, called.add, 1, 2) == 3


async def test_cpu_time_is_counted_for_each_call_anew(pool: PythonChildren) -> None:
    used_by = {await pool.call(called.work, 0.5, seconds=60, cpu_seconds=1) for _ in range(5)}
    assert len(used_by) == 1


async def test_a_child_is_killed_with_its_cancelled_call(pool: PythonChildren) -> None:
    before = children(os.getpid())
    for moment in (0.0, 0.001, 0.01, 0.1):
        task = asyncio.create_task(call(pool, called.sleep, 60))
        # Whenever it comes: while the process starts, too.
        await asyncio.wait([task], timeout=moment)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert children(os.getpid()) == before


async def test_a_child_that_died_while_it_was_idle_is_replaced(pool: PythonChildren) -> None:
    child = await call(pool, called.process_id)
    assert isinstance(child, int)
    await asyncio.to_thread(partial(kill, [child]))
    assert await call(pool, called.process_id) != child


async def test_no_child_is_left_after_closing() -> None:
    before = children(os.getpid())
    pool = PythonChildren(1, 200_000_000, [])
    await call(pool, called.add, 1, 2)
    await pool.aclose()
    assert children(os.getpid()) == before
