"""Hands the events of a worker's jobs to the sockets that this worker holds."""

from __future__ import annotations

from collections.abc import Callable

from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.store import JobEvents


class Watcher:
    """One client's view of a job: the present state, then the events that it has not taken yet, in order.

    Only the latest of several progress events in a row is kept, so a reader that falls behind costs no more than
    one event for each stage.

    Attributes:
        waiting: The events; the reader takes them out.
        on_event: Called when there is one.
    """

    __slots__ = ("waiting", "on_event", "_started", "_latest")

    def __init__(self) -> None:
        self.waiting: list[Event] = []
        self.on_event: Callable[[], object] = _nothing
        self._started = False
        self._latest = -1

    def start(self, snapshot: Event) -> None:
        """Put the present state in front, and drop events that are older."""
        self.waiting = [snapshot, *(event for event in self.waiting if event.version > snapshot.version)]
        self._latest = self.waiting[-1].version
        self._started = True
        self.on_event()

    def push(self, event: Event) -> None:
        """Add an event, unless the watcher has heard of it."""
        if event.version <= self._latest:
            return
        self._latest = event.version
        if event.kind is EventKind.PROGRESS and self.waiting and self.waiting[-1].kind is EventKind.PROGRESS:
            self.waiting.pop()
        self.waiting.append(event)
        if self._started:
            self.on_event()

    def catch_up(self, snapshot: Event) -> None:
        """Add the present state, and go on from it if it is older than what the watcher has heard of.

        A Redis that takes over from another may lack the last changes; those that follow have their numbers again.
        """
        if snapshot.version < self._latest:
            self.waiting.clear()
            self.start(snapshot)
        else:
            self.push(snapshot)


def _nothing() -> None:
    """Stand in until there is a reader."""


class Fanout:
    """The watchers of this process, by job id."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}

    @property
    def job_ids(self) -> list[str]:
        """The jobs that have watchers."""
        return list(self._watchers)

    def add(self, job_id: str) -> Watcher:
        """Return a new watcher of a job, which hears of events from now on."""
        watcher = Watcher()
        self._watchers.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove(self, job_id: str, watcher: JobEvents) -> None:
        """Forget a watcher."""
        assert isinstance(watcher, Watcher)
        watchers = self._watchers[job_id]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[job_id]

    def publish(self, job_id: str, event: Event) -> None:
        """Hand an event to all watchers of the job."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.push(event)

    def catch_up(self, job_id: str, snapshot: Event) -> None:
        """Hand the job's present state to all its watchers, after a break in which they heard nothing."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.catch_up(snapshot)
