"""What leaves a group of tasks."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.utils.processes.task_groups import without_group

pytestmark = pytest.mark.anyio


async def test_an_error_that_leaves_a_group_still_tells_its_cause() -> None:
    async def fail() -> None:
        raise ValueError from KeyError()

    with pytest.raises(ValueError) as failure:
        with without_group():
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
    assert isinstance(failure.value.__cause__, KeyError)
