"""The queue of the memory store."""

from __future__ import annotations

from open_workshop_storage.stores.memory_queues import MemoryQueue


def test_names_wait_in_the_order_of_their_times_and_of_their_coming() -> None:
    queue = MemoryQueue()
    for name, since in (("c", 2.0), ("d", 2.0), ("a", 1.0), ("b", 2.0), ("a", 9.0)):
        queue.join(name, since)
    assert queue.names(3) == ["a", "c", "d"] and len(queue) == 4
    order = []
    while (first := queue.first()) is not None:
        order.append(first)
        queue.leave(first[1])
    assert order == [(1.0, "a"), (2.0, "c"), (2.0, "d"), (2.0, "b")]


def test_a_name_that_left_and_came_again_has_its_new_place() -> None:
    queue = MemoryQueue()
    queue.join("a", 1.0)
    queue.leave("a")
    queue.leave("nobody")
    queue.join("b", 2.0)
    queue.join("a", 3.0)
    assert queue.first() == (2.0, "b")
    queue.leave("b")
    assert queue.first() == (3.0, "a")
