"""How a worker ends: when it is told to, or when the server that started it is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.utils.processes import granian

_logger = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_LAST_ANSWERS_SECONDS = 5.0


async def stop_in_order(runs: Runs, grace_seconds: float) -> None:
    """Wait for SIGTERM, end this worker's runs, and then have the server end the worker.

    Args:
        grace_seconds: How long uploads may still come in.
    """
    told = asyncio.Event()
    granian.take_stop_signal(told.set)
    await told.wait()
    _logger.info("stopping: jobs are handed over, uploads may take another %g seconds", grace_seconds)
    await runs.stop(grace_seconds)
    granian.stop_worker(_LAST_ANSWERS_SECONDS)


async def follow_server() -> None:
    """Send this process SIGTERM once the server's main process is gone, which may have been killed."""
    server = granian.main_process_id()
    while os.getppid() == server:
        await asyncio.sleep(_WATCH_SECONDS)
    _logger.warning("the server's main process is gone")
    signal.raise_signal(signal.SIGTERM)
