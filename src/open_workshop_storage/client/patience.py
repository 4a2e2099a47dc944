"""When to try again, and for how long."""

from __future__ import annotations

import random
import time

import anyio

from open_workshop_storage.client.errors import StorageError

_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 10.0
_PASSING = (None, 429, 502, 503, 504)


class Patience:
    """Bears failures that pass by themselves, with growing pauses, until nothing has got ahead for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Begin afresh: something got ahead."""
        self._until = time.monotonic() + self._seconds
        self._pause = _FIRST_SECONDS

    async def bear(self, error: StorageError, *, is_passing: bool = False) -> None:
        """Wait before the next try; as long as the storage asks for, if it does.

        Args:
            is_passing: Whether the error passes by itself, whatever its status.

        Raises:
            StorageError: It does not pass by itself, or has lasted too long.
        """
        pause = max(random.uniform(self._pause / 2, self._pause), error.retry_after or 0)
        is_passing = is_passing or error.status in _PASSING
        if not is_passing or time.monotonic() + pause > self._until:
            raise error
        self._pause = min(self._pause * 2, _LONGEST_SECONDS)
        await anyio.sleep(pause)
