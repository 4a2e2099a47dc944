"""Events of a worker's jobs on their way to its sockets."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.stores.fanout import Fanout, Watcher


def event(version: int, kind: EventKind = EventKind.STAGE) -> Event:
    """Return an event whose text is its version."""
    return Event(version=version, kind=kind, text=str(version))


def read(watcher: Watcher) -> list[int]:
    """Take out the versions of the events that wait."""
    versions = [event.version for event in watcher.waiting]
    watcher.waiting.clear()
    return versions


def test_the_snapshot_comes_first_and_then_what_is_newer() -> None:
    fanout = Fanout()
    watcher = fanout.add("job")
    for version in (3, 4, 5):
        fanout.publish("job", event(version))
    watcher.start(event(4))
    fanout.publish("job", event(6))
    assert read(watcher) == [4, 5, 6]


def test_after_a_break_the_present_state_is_told_once() -> None:
    fanout = Fanout()
    watcher = fanout.add("job")
    watcher.start(event(3))
    for version in (3, 5):
        fanout.catch_up("job", event(version))
    assert read(watcher) == [3, 5]


def test_after_a_loss_of_the_last_changes_those_that_follow_are_told() -> None:
    fanout = Fanout()
    watcher = fanout.add("job")
    watcher.start(event(3))
    assert read(watcher) == [3]
    for version in (4, 5):
        fanout.publish("job", event(version))
    fanout.catch_up("job", event(3))
    fanout.publish("job", event(4))
    assert read(watcher) == [3, 4]


def test_an_event_that_comes_twice_or_late_is_told_once() -> None:
    watcher = Watcher()
    watcher.start(event(1))
    for version in (2, 2, 1, 3):
        watcher.push(event(version))
    assert read(watcher) == [1, 2, 3]


def test_of_progress_that_waits_the_latest_is_kept_and_of_stages_all() -> None:
    watcher = Watcher()
    watcher.start(event(1))
    for version in (2, 3, 4):
        watcher.push(event(version, EventKind.PROGRESS))
    watcher.push(event(5))
    watcher.push(event(6, EventKind.PROGRESS))
    assert read(watcher) == [1, 4, 5, 6]


def test_a_reader_is_called_for_each_event_from_the_present_state_on() -> None:
    fanout, heard = Fanout(), list[int]()
    watcher = fanout.add("job")
    watcher.on_event = lambda: heard.extend(read(watcher))
    fanout.publish("job", event(2))
    assert heard == []
    watcher.start(event(1))
    for version in (3, 3, 4):
        fanout.publish("job", event(version))
    assert heard == [1, 2, 3, 4]
    fanout.catch_up("job", event(2))
    assert heard == [1, 2, 3, 4, 2]


@pytest.mark.anyio
async def test_many_readers_hear_all_in_order_while_the_loop_and_other_jobs_have_their_turns() -> None:
    fanout, turns = Fanout(), list[str]()
    heard: dict[Watcher, list[int]] = {}

    def reader(job_id: str) -> Watcher:
        watcher = fanout.add(job_id)
        watcher.start(event(0))
        heard[watcher] = []
        watcher.on_event = lambda: heard[watcher].extend(read(watcher))
        return watcher

    def told(version: int) -> int:
        return sum(version in versions for versions in heard.values())

    many, other = [reader("job") for _ in range(600)], reader("another")
    fanout.publish("job", event(1))
    assert 0 < told(1) < 600
    fanout.publish("another", event(1))
    assert heard[other] == [0, 1]
    asyncio.get_running_loop().call_soon(lambda: turns.append("between" if told(1) < 601 else "after"))
    fanout.publish("job", event(2))
    fanout.remove("job", gone := many.pop())
    async with asyncio.timeout(60):
        while told(2) < 600:
            await asyncio.sleep(0)
    assert turns == ["between"]
    assert all(heard[watcher] == [0, 1, 2] for watcher in [*many, gone])


def test_events_go_to_all_watchers_of_their_job_and_to_no_others() -> None:
    fanout = Fanout()
    first, second, other = fanout.add("job"), fanout.add("job"), fanout.add("another")
    for watcher in (first, second, other):
        watcher.start(event(0))
    fanout.publish("job", event(1))
    fanout.publish("unknown", event(9))
    fanout.publish("another", event(2))
    assert [read(watcher) for watcher in (first, second, other)] == [[0, 1], [0, 1], [0, 2]]


def test_a_job_without_watchers_is_forgotten() -> None:
    fanout = Fanout()
    first, second = fanout.add("job"), fanout.add("job")
    fanout.remove("job", first)
    assert fanout.job_ids == ["job"]
    fanout.remove("job", second)
    assert fanout.job_ids == []
