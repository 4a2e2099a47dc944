"""Names that wait, in an order, for what the memory store gives them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count


class MemoryQueue:
    """A queue that any may leave; to join, to leave and to find the first take hardly longer in a long one."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[float, int]] = {}
        # With places that were left, which go once they are the first.
        self._heap: list[tuple[tuple[float, int], str]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, name: str, since: float) -> None:
        """Wait, unless the name waits already.

        Args:
            since: Decides over the place; of equal ones the first that joined is first.
        """
        if name not in self._places:
            self._places[name] = since, next(self._numbers)
            heapq.heappush(self._heap, (self._places[name], name))

    def leave(self, name: str) -> None:
        """Wait no more."""
        self._places.pop(name, None)

    def move(self, name: str, since: float) -> None:
        """Wait at another place, if the name waits."""
        if name in self._places:
            self.leave(name)
            self.join(name, since)

    def since(self, name: str) -> float | None:
        """Return what decides over a name's place; `None` if it does not wait."""
        return self._places[name][0] if name in self._places else None

    def first(self) -> tuple[float, str] | None:
        """Return the first name, after its `since`; `None` if none waits."""
        while self._heap:
            place, name = self._heap[0]
            if self._places.get(name) == place:
                return place[0], name
            heapq.heappop(self._heap)
        return None

    def names(self, limit: int) -> Sequence[str]:
        """Return the first names, in their order."""
        return heapq.nsmallest(limit, self._places, key=self._places.__getitem__)
