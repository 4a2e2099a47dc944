"""The life of a worker: what it does for clients, and whether it is about to go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from open_workshop_storage.core.settings import Settings


class Lifetime:
    """One worker's, from its start to its stop.

    Attributes:
        stopping: Set once this worker is about to go and takes no more work.
        when_stopping: Each of them is called by then; sockets put in what ends them, and take it out again.
        attended: How many requests and sockets a stop waits for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stopping = asyncio.Event()
        self.when_stopping: set[Callable[[], object]] = set()
        self._sockets: Counter[str] = Counter()
        self.attended = 0

    def stop(self) -> None:
        """Take no more work, and say so."""
        self.stopping.set()
        for tell in list(self.when_stopping):
            tell()

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Have a stop wait for what is done for a client in the block."""
        self.attended += 1
        try:
            yield
        finally:
            self.attended -= 1

    @property
    def open_sockets(self) -> int:
        """How many progress sockets this worker holds."""
        return self._sockets.total()

    def sockets_are_full(self, job_id: str) -> bool:
        """Tell whether this worker holds as many progress sockets as it may, of this job or in all."""
        most, most_per_job = self._settings.transfer_max_sockets, self._settings.transfer_max_sockets_per_job
        return 0 < most <= self.open_sockets or 0 < most_per_job <= self._sockets[job_id]

    @contextmanager
    def holding_socket(self, job_id: str) -> Iterator[None]:
        """Count a progress socket of a job, and have a stop wait for it, during the block."""
        self._sockets[job_id] += 1
        self.attended += 1
        try:
            yield
        finally:
            self.attended -= 1
            self._sockets[job_id] -= 1
            if not self._sockets[job_id]:
                del self._sockets[job_id]
