"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

import pytest

from open_workshop_storage.utils.http.conditions import (
    Outcome,
    Validators,
    judge,
    range_applies,
)

CURRENT = Validators('"abc-1"', 784111777)
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER, LATER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, Outcome.SEND),
        ({"if-none-match": '"abc-1"'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": 'W/"abc-1"'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": '"x", W/"y","abc-1"'}, Outcome.NOT_MODIFIED),
        ({"if-none-match": " * "}, Outcome.NOT_MODIFIED),
        ({"if-none-match": '"x,"abc-1"'}, Outcome.SEND),
        ({"if-none-match": '"abc-2"'}, Outcome.SEND),
        ({"if-none-match": "abc-1"}, Outcome.SEND),
        ({"if-none-match": ""}, Outcome.SEND),
        ({"if-modified-since": DATE}, Outcome.NOT_MODIFIED),
        ({"if-modified-since": LATER}, Outcome.NOT_MODIFIED),
        ({"if-modified-since": EARLIER}, Outcome.SEND),
        ({"if-modified-since": "yesterday"}, Outcome.SEND),
        ({"if-none-match": '"abc-2"', "if-modified-since": LATER}, Outcome.SEND),
        ({"if-none-match": '"abc-1"', "if-modified-since": EARLIER}, Outcome.NOT_MODIFIED),
        ({"if-match": '"x", "abc-1"'}, Outcome.SEND),
        ({"if-match": "*"}, Outcome.SEND),
        ({"if-match": 'W/"abc-1"'}, Outcome.PRECONDITION_FAILED),
        ({"if-match": '"x"'}, Outcome.PRECONDITION_FAILED),
        ({"if-unmodified-since": DATE}, Outcome.SEND),
        ({"if-unmodified-since": EARLIER}, Outcome.PRECONDITION_FAILED),
        ({"if-unmodified-since": "yesterday"}, Outcome.SEND),
        ({"if-match": '"abc-1"', "if-unmodified-since": EARLIER}, Outcome.SEND),
        ({"if-match": '"abc-1"', "if-none-match": '"abc-1"'}, Outcome.NOT_MODIFIED),
        ({"if-match": '"x"', "if-none-match": '"abc-1"'}, Outcome.PRECONDITION_FAILED),
    ],
    ids=str,
)
def test_conditions_are_judged_in_their_order(headers: dict[str, str], outcome: Outcome) -> None:
    assert judge(headers, CURRENT) is outcome


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ('"abc-1"', True),
        (' "abc-1" ', True),
        ('W/"abc-1"', False),
        ('"abc-2"', False),
        ('"abc-1", "abc-2"', False),
        (DATE, True),
        (EARLIER, False),
        (LATER, False),
        ("abc-1", False),
        ("", False),
    ],
)
def test_a_range_applies_only_to_the_version_that_it_was_meant_for(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, CURRENT) is applies
