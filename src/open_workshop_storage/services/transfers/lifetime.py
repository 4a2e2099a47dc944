"""The life of a worker: what it does for clients, and whether it is about to go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from open_workshop_storage.services.transfers.tasks import Tasks


class Lifetime:
    """One worker's, from its start to its stop.

    Attributes:
        stopping: Set once this worker is about to go and takes no more work.
        told_to_stop: Done from then on, to be awaited beside other things.
        open_sockets: How many progress sockets this worker holds.
        attended: How many requests and sockets a stop waits for.
    """

    def __init__(self, tasks: Tasks) -> None:
        self.stopping = asyncio.Event()
        self.told_to_stop = tasks.start(self.stopping.wait())
        self.open_sockets = 0
        self.attended = 0

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Have a stop wait for what is done for a client in the block."""
        self.attended += 1
        try:
            yield
        finally:
            self.attended -= 1

    @contextmanager
    def holding_socket(self) -> Iterator[None]:
        """Count a progress socket, and have a stop wait for it, during the block."""
        self.open_sockets += 1
        try:
            with self.attending():
                yield
        finally:
            self.open_sockets -= 1
