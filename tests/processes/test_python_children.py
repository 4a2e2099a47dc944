"""Calls in child processes: what comes back, and what ends them.

Children import nothing of the tests, so that `eval` and functions of the standard library stand for ours.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from socket import create_server

import pytest

from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from tests.support.processes import children, kill

pytestmark = pytest.mark.anyio

PROCESS_ID = "__import__('os').getpid()"
SPIN = "sum(range(10**12))"


@pytest.fixture
async def pool() -> AsyncIterator[PythonChildren]:
    async with aclosing(PythonChildren(2, 200_000_000, [LookupError])) as opened:
        yield opened


async def evaluate(pool: PythonChildren, expression: str, seconds: float = 30, cpu_seconds: float = 10) -> object:
    return await pool.call(eval, expression, seconds=seconds, cpu_seconds=cpu_seconds)


async def test_what_a_function_returns_comes_back(pool: PythonChildren) -> None:
    assert await pool.call(pow, 2, 3, seconds=30, cpu_seconds=10) == 8


async def test_an_idle_child_is_used_again(pool: PythonChildren) -> None:
    first = await evaluate(pool, PROCESS_ID)
    assert first != os.getpid()
    assert await evaluate(pool, PROCESS_ID) == first


async def test_no_more_children_than_allowed_run_at_once(pool: PythonChildren) -> None:
    before = children(os.getpid())
    found = await asyncio.gather(*[evaluate(pool, PROCESS_ID) for _ in range(20)])
    assert len(set(found)) <= 2
    assert len(children(os.getpid())) - len(before) <= 2


async def test_open_files_are_handed_over_with_their_position(pool: PythonChildren, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("left right")
    with open(tmp_path / "source", "rb") as source, open(tmp_path / "target", "xb") as target:
        source.seek(5)
        await pool.call(shutil.copyfileobj, files=[source, target], seconds=30, cpu_seconds=10)
    assert (tmp_path / "target").read_text() == "right"


async def test_a_pipe_is_read_as_it_fills(pool: PythonChildren, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with (
        open(tmp_path / "target", "xb") as target,
        open(read_end, "rb") as source,
        open(write_end, "wb", 0) as entrance,
    ):
        task = asyncio.create_task(pool.call(shutil.copyfileobj, files=[source, target], seconds=30, cpu_seconds=10))
        entrance.write(b"abc")
        await asyncio.sleep(0)
        entrance.write(b"def")
        entrance.close()
        await task
    assert (tmp_path / "target").read_text() == "abcdef"


async def test_a_call_with_a_folder_has_a_child_of_its_own_that_writes_there(
    pool: PythonChildren, tmp_path: Path
) -> None:
    usual, before = await evaluate(pool, PROCESS_ID), children(os.getpid())
    write = "open('made', 'w').write('text')"
    await pool.call(eval, write, folder=tmp_path, seconds=30, cpu_seconds=10)
    assert (tmp_path / "made").read_text() == "text"
    assert children(os.getpid()) == before
    assert await evaluate(pool, PROCESS_ID) == usual


@pytest.mark.parametrize(
    "path", [pytest.param("{tmp_path}/file", id="a file"), *(f"/proc/{{parent}}/{name}" for name in ("environ", "mem"))]
)
async def test_no_path_can_be_opened(path: str, pool: PythonChildren, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("TRANSFER_JWT_SECRET")
    path = path.format(tmp_path=tmp_path, parent=os.getpid())
    with pytest.raises(ChildFailed, match="PermissionError") as caught:
        await pool.call(os.open, path, os.O_RDONLY, seconds=30, cpu_seconds=10)
    assert caught.value.errno == errno.EACCES


async def test_no_connection_can_be_made(pool: PythonChildren) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        connect = f"__import__('socket').create_connection({server.getsockname()})"
        with pytest.raises(ChildFailed, match="PermissionError"):
            await evaluate(pool, connect)


async def test_an_expected_exception_is_raised_again(pool: PythonChildren) -> None:
    child = await evaluate(pool, PROCESS_ID)
    with pytest.raises(LookupError, match="^unknown encoding: no such thing$"):
        await evaluate(pool, "'text'.encode('no such thing')")
    assert await evaluate(pool, PROCESS_ID) == child


async def test_any_other_exception_is_a_failure_that_names_it(pool: PythonChildren) -> None:
    with pytest.raises(ChildFailed, match="ZeroDivisionError") as caught:
        await evaluate(pool, "1 / 0")
    assert caught.value.errno is None


async def test_the_operating_systems_error_number_comes_back(pool: PythonChildren) -> None:
    with pytest.raises(ChildFailed) as caught:
        await evaluate(pool, "open('/usr/missing')")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("expression", "seconds", "cpu_seconds"),
    [
        pytest.param("__import__('time').sleep(60)", 0.2, 10, id="wall time"),
        pytest.param(SPIN, 60, 1, id="CPU time"),
        pytest.param("len(bytes(400_000_000))", 60, 10, id="memory"),
        pytest.param("'x' * 2_000_000", 60, 10, id="answer"),
        pytest.param("__import__('os').abort()", 60, 10, id="crash"),
    ],
)
async def test_a_call_beyond_a_limit_fails_and_the_next_one_does_not(
    expression: str, seconds: float, cpu_seconds: float, pool: PythonChildren
) -> None:
    await evaluate(pool, "1 + 2")
    with pytest.raises(ChildFailed):
        await evaluate(pool, expression, seconds, cpu_seconds)
    assert await evaluate(pool, "1 + 2") == 3


async def test_what_is_printed_is_no_answer(pool: PythonChildren) -> None:
    assert await evaluate(pool, "print('{}') or 3") == 3


async def test_cpu_time_is_counted_for_each_call_anew(pool: PythonChildren) -> None:
    child = await evaluate(pool, PROCESS_ID)
    while not await evaluate(pool, "__import__('time').process_time() > 2.5", cpu_seconds=1):
        # A few tenths of a second.
        await evaluate(pool, "sum(range(10**7))", cpu_seconds=1)
    assert await evaluate(pool, PROCESS_ID) == child


async def test_a_child_is_killed_with_its_cancelled_call(pool: PythonChildren) -> None:
    before = children(os.getpid())
    for moment in (0.0, 0.001, 0.01, 0.1):
        task = asyncio.create_task(evaluate(pool, "__import__('time').sleep(60)"))
        # Whenever it comes: while the process starts, too.
        await asyncio.wait([task], timeout=moment)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert children(os.getpid()) == before


async def test_a_child_that_died_while_it_was_idle_is_replaced(pool: PythonChildren) -> None:
    child = await evaluate(pool, PROCESS_ID)
    assert isinstance(child, int)
    await asyncio.to_thread(partial(kill, [child]))
    assert await evaluate(pool, PROCESS_ID) != child


async def test_children_stand_back_as_they_are_told() -> None:
    before = os.nice(0)
    async with aclosing(PythonChildren(1, 200_000_000, [], niceness=7)) as pool:
        assert await evaluate(pool, "__import__('os').nice(0)") == min(before + 7, 19)
    assert os.nice(0) == before


async def test_no_child_is_left_after_closing() -> None:
    before = children(os.getpid())
    pool = PythonChildren(1, 200_000_000, [])
    await evaluate(pool, "1 + 2")
    await pool.aclose()
    assert children(os.getpid()) == before
