"""The queue of the memory store."""

from __future__ import annotations

from open_workshop_storage.stores.waiting_line import WaitingLine


def test_names_wait_in_the_order_of_their_times_and_of_their_coming() -> None:
    line = WaitingLine()
    for name, since in (("c", 2.0), ("d", 2.0), ("a", 1.0), ("b", 2.0), ("a", 9.0)):
        line.join(name, since)
    assert line.names(3) == ["a", "c", "d"] and len(line) == 4
    order = []
    while (first := line.first()) is not None:
        order.append(first)
        line.leave(first[1])
    assert order == [(1.0, "a"), (2.0, "c"), (2.0, "d"), (2.0, "b")]


def test_a_name_that_left_and_came_again_has_its_new_place() -> None:
    line = WaitingLine()
    line.join("a", 1.0)
    line.leave("a")
    line.leave("nobody")
    line.join("b", 2.0)
    line.join("a", 3.0)
    assert line.first() == (2.0, "b")
    line.leave("b")
    assert line.first() == (3.0, "a")
