"""A Redis that goes away and comes back, as a test says."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import redis

from tests.support.servers import Server, free_port, redis_server


class RestartableRedis:
    """One Redis after the other at the same address, each with the data of the one before.

    Attributes:
        url: Where it is.
    """

    def __init__(self, folder: Path, stack: ExitStack | AsyncExitStack) -> None:
        self._folder = folder
        self._port = free_port()
        self._running = stack.enter_context(ExitStack())
        self._server: Server | None = None
        self.url = f"redis://127.0.0.1:{self._port}"
        self.start()

    def client(self) -> redis.Redis:
        """Return a client of it."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        """Start it, and return when it answers."""
        server = redis_server(self._folder, port=self._port, keeps_data=True)
        self._server = self._running.enter_context(server)

    def stop(self) -> None:
        """End it; connections are refused from now on."""
        self._running.close()

    def lose_data(self) -> None:
        """Let the next start begin with nothing; it must have been stopped."""
        shutil.rmtree(self._folder / "appendonlydir")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let it answer nothing within the block, as if its host could not be reached."""
        assert self._server is not None
        os.kill(self._server.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.process.pid, signal.SIGCONT)
