"""What leaves a group of tasks."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.utils.processes.task_groups import without_group, work_on_each

pytestmark = pytest.mark.anyio


async def test_an_error_that_leaves_a_group_still_tells_its_cause() -> None:
    async def fail() -> None:
        raise ValueError from KeyError()

    with pytest.raises(ValueError) as failure:
        with without_group():
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
    assert isinstance(failure.value.__cause__, KeyError)


async def test_some_items_are_worked_on_at_once_and_told_in_their_order() -> None:
    working: set[int] = set()
    most = 0

    async def work(item: int) -> int:
        nonlocal most
        working.add(item)
        most = max(most, len(working))
        for _ in range(10 - item):
            await asyncio.sleep(0)
        working.remove(item)
        return item * item

    assert await work_on_each(work, range(9), 3) == [item * item for item in range(9)]
    assert most == 3


async def test_the_first_failure_ends_the_work_for_all_items() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise ValueError(item)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="1"):
        await work_on_each(work, range(5), 2)
    assert 0 in ended and 4 not in ended
