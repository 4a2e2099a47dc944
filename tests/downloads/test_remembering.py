"""What is remembered, and what is forgotten for it."""

from __future__ import annotations

from open_workshop_storage.services.downloads.remembering import remember


def test_what_was_remembered_first_is_forgotten_where_there_is_no_room_for_more() -> None:
    known: dict[str, int] = {}
    for number, key in enumerate("abcd"):
        remember(known, key, number, 3)
    assert known == {"b": 1, "c": 2, "d": 3}


def test_what_is_remembered_again_is_the_latest_and_takes_no_room_of_another() -> None:
    known = {"a": 1, "b": 2, "c": 3}
    remember(known, "b", 4, 3)
    assert list(known.items()) == [("a", 1), ("c", 3), ("b", 4)]
