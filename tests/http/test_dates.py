"""Dates of HTTP (RFC 9110, section 5.6.7)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.utils.http.dates import format_date, parse_date, retry_after

SECONDS, DATE = 784111777, "Sun, 06 Nov 1994 08:49:37 GMT"


def test_dates_are_read_in_all_three_forms_and_written_in_one() -> None:
    for text in (DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_date(text) == SECONDS
    assert format_date(SECONDS) == DATE


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.characters(max_codepoint=255), max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} (Jan|Feb) [0-9]{1,6} [0-9]{1,3}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4,9})")
)
def test_no_date_however_odd_is_an_error(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), int)
    assert retry_after(text) >= 0


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 0), ("", 0), ("soon", 0), ("-5", 0), ("7", 7), (" 120 ", 120), (DATE, 0)]
)
def test_a_pause_is_read_in_seconds(value: str | None, seconds: int) -> None:
    assert retry_after(value) == seconds


def test_a_pause_may_be_a_date() -> None:
    assert 3500 < retry_after(format_date(int(time.time()) + 3600)) <= 3600
