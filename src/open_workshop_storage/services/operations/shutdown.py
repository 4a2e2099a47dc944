"""How a worker ends: when it is told to, or when the server that started it is gone."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal

from open_workshop_storage.services.transfers.runs import Runs

_logger = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 5.0


async def stop_in_order(runs: Runs, grace_seconds: float) -> None:
    """Wait for SIGTERM, end this worker's runs, and then have the server end the worker.

    granian takes SIGTERM and SIGINT alike as the word to stop: it closes all sockets at once and waits for requests
    without a limit. So SIGTERM is kept from it until the jobs are handed over, and then handed on as SIGINT.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A handler of the loop's would miss the word while granian has the loop stand still, after the lifespan has begun.
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(told.set))
    await told.wait()
    _logger.info("stopping: jobs are handed over, uploads may take another %g seconds", grace_seconds)
    await runs.stop(grace_seconds)
    # The server waits for its last clients without a limit; nobody handles this signal, so the kernel ends the wait.
    signal.setitimer(signal.ITIMER_REAL, _LAST_ANSWERS_SECONDS)
    signal.raise_signal(signal.SIGINT)


async def follow_server() -> None:
    """Send this process SIGTERM once the one that started it is gone, killed maybe, and nobody else would."""
    # granian starts its workers with this module, which knows the parent from before the start: it may be gone by now.
    started_by = multiprocessing.parent_process()
    server = os.getppid() if started_by is None else started_by.pid
    while os.getppid() == server:
        await asyncio.sleep(_WATCH_SECONDS)
    _logger.warning("the server's main process is gone")
    signal.raise_signal(signal.SIGTERM)
