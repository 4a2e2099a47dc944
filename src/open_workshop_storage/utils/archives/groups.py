"""Tasks side by side, of which the first to fail ends the others and speaks for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NoReturn

from open_workshop_storage.utils.archives.seven_zip import SevenZipError

_PAUSE_SECONDS = 0.5
_SHARE = 0.02
"""The part of the time that checks may take."""


@contextlib.contextmanager
def without_group() -> Iterator[None]:
    """Let one error out of a task group as itself: what `7z` says is wrong, if it says something."""
    try:
        yield
    except ExceptionGroup as group:
        said_by_seven_zip = [error for error in group.exceptions if isinstance(error, SevenZipError)]
        error = (said_by_seven_zip or group.exceptions)[0]
        raise error from error.__cause__


@contextlib.asynccontextmanager
async def watched(check: Callable[[], None]) -> AsyncIterator[None]:
    """Run the body, and cancel it as soon as a check raises.

    Args:
        check: Called in a thread about twice a second, less often if it takes long.

    Raises:
        Exception: What the body or the check raises.
    """
    async with meanwhile(_watch(check)):
        yield


@contextlib.asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[None]:
    """Run the body, and something beside it that is cancelled with its end.

    Raises:
        Exception: What the body raises, or the work, which then cancels the body.
    """
    with without_group():
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            yield
            working.cancel()


async def _watch(check: Callable[[], None]) -> NoReturn:
    loop = asyncio.get_running_loop()
    pause = _PAUSE_SECONDS
    while True:
        await asyncio.sleep(pause)
        started = loop.time()
        await asyncio.to_thread(check)
        pause = max(_PAUSE_SECONDS, (loop.time() - started) / _SHARE)
