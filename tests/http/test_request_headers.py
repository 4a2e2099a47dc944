"""Conditions, ranges and codings that requests ask for (RFC 9110)."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.utils.http.request_headers import (
    RangeNotSatisfiable,
    Validators,
    evaluate_conditions,
    prefers_gzip,
    range_applies,
    requested_ranges,
)

CURRENT = Validators('"abc-1"', 784111777)
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER, LATER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"
SIZE = 1000
_SPECS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from(["{}-{}", "{}-", "-{}"])), min_size=1
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, HTTPStatus.OK),
        ({"if-none-match": '"abc-1"'}, HTTPStatus.NOT_MODIFIED),
        ({"if-none-match": 'W/"abc-1"'}, HTTPStatus.NOT_MODIFIED),
        ({"if-none-match": '"x", W/"y","abc-1"'}, HTTPStatus.NOT_MODIFIED),
        ({"if-none-match": " * "}, HTTPStatus.NOT_MODIFIED),
        ({"if-none-match": '"x,"abc-1"'}, HTTPStatus.OK),
        ({"if-none-match": '"abc-2"'}, HTTPStatus.OK),
        ({"if-none-match": "abc-1"}, HTTPStatus.OK),
        ({"if-none-match": ""}, HTTPStatus.OK),
        ({"if-modified-since": DATE}, HTTPStatus.NOT_MODIFIED),
        ({"if-modified-since": LATER}, HTTPStatus.NOT_MODIFIED),
        ({"if-modified-since": EARLIER}, HTTPStatus.OK),
        ({"if-modified-since": "yesterday"}, HTTPStatus.OK),
        ({"if-none-match": '"abc-2"', "if-modified-since": LATER}, HTTPStatus.OK),
        ({"if-none-match": '"abc-1"', "if-modified-since": EARLIER}, HTTPStatus.NOT_MODIFIED),
        ({"if-match": '"x", "abc-1"'}, HTTPStatus.OK),
        ({"if-match": "*"}, HTTPStatus.OK),
        ({"if-match": 'W/"abc-1"'}, HTTPStatus.PRECONDITION_FAILED),
        ({"if-match": '"x"'}, HTTPStatus.PRECONDITION_FAILED),
        ({"if-unmodified-since": DATE}, HTTPStatus.OK),
        ({"if-unmodified-since": EARLIER}, HTTPStatus.PRECONDITION_FAILED),
        ({"if-unmodified-since": "yesterday"}, HTTPStatus.OK),
        ({"if-match": '"abc-1"', "if-unmodified-since": EARLIER}, HTTPStatus.OK),
        ({"if-match": '"abc-1"', "if-none-match": '"abc-1"'}, HTTPStatus.NOT_MODIFIED),
        ({"if-match": '"x"', "if-none-match": '"abc-1"'}, HTTPStatus.PRECONDITION_FAILED),
    ],
    ids=str,
)
def test_conditions_are_judged_in_their_order(headers: dict[str, str], status: HTTPStatus) -> None:
    assert evaluate_conditions(headers, CURRENT) is status


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


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-", [(500, 1000)]),
        ("bytes=-1", [(999, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=990-5000", [(990, 1000)]),
        ("bytes=999-999", [(999, 1000)]),
        ("BYTES = 1-2", [(1, 3)]),
        ("bytes=1-2 ,\t3-4,", [(1, 3), (3, 5)]),
        ("bytes=,,1-2", [(1, 3)]),
        ("bytes=500-509,0-9", [(500, 510), (0, 10)]),
        ("bytes=0-9,2000-,-5", [(0, 10), (995, 1000)]),
        ("bytes=0-9,-0", [(0, 10)]),
        ("bytes=0-9,5-19", [(0, 20)]),
        ("bytes=500-509,5-19,0-9,505-600", [(500, 601), (0, 20)]),
        ("bytes=0-0000000000000000000000000000000000000000005", [(0, 6)]),
        (f"bytes=5-{'9' * 5000}", [(5, 1000)]),
    ],
)
def test_satisfiable_ranges_are_given_in_the_order_asked_for(header: str, expected: list[tuple[int, int]]) -> None:
    assert requested_ranges(header, SIZE) == [range(*pair) for pair in expected]


@pytest.mark.parametrize(
    "header",
    [
        "items=0-1",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=1--2",
        "bytes=٣-٤",
        "bytes=0-1;2-3",
        "bytes=0-1, bytes=3-4",
        "",
    ],
)
def test_unknown_units_and_malformed_headers_are_ignored(header: str) -> None:
    assert requested_ranges(header, SIZE) is None


@pytest.mark.parametrize(
    "header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=1000-,-0", f"bytes={'9' * 5000}-"]
)
def test_ranges_beyond_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_ranges(header, SIZE)


def test_nothing_of_an_empty_file_can_be_a_part() -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_ranges("bytes=0-", 0)
    assert requested_ranges("bytes=-5", 0) is None


def test_a_header_with_an_unreasonable_number_of_parts_is_ignored() -> None:
    assert len(requested_ranges(f"bytes={','.join(f'{n}-{n}' for n in range(0, 200, 2))}", SIZE) or ()) == 100
    assert requested_ranges(f"bytes={','.join(f'{n}-{n}' for n in range(0, 202, 2))}", SIZE) is None
    assert requested_ranges(f"bytes={'0-,' * 100}", SIZE) is None


@settings(max_examples=150, deadline=None)
@given(specs=_SPECS, size=st.integers(1, 50))
def test_parts_cover_what_was_asked_for_and_nothing_twice(specs: list[tuple[int, int, str]], size: int) -> None:
    texts, wanted = [], set()
    for first, length, form in specs:
        texts.append(form.format(first, first + length))
        stop = {"{}-{}": first + length + 1, "{}-": size, "-{}": size}[form]
        wanted |= set(range(size)[max(size - first, 0) if form == "-{}" else first : stop])
    header = f"bytes={','.join(texts)}"
    if not wanted:
        with pytest.raises(RangeNotSatisfiable):
            requested_ranges(header, size)
        return
    parts = requested_ranges(header, size)
    assert parts is not None
    positions = [position for part in parts for position in part]
    assert set(positions) == wanted and len(positions) == len(wanted)


@pytest.mark.parametrize(
    ("header", "is_preferred"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate;q=0.5 , gzip;q=1.0", True),
        ("gzip ; q=0.001", True),
        ("gzip;Q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("*;q=0.1", True),
        ("*;q=0", False),
        ("br;q=1, *;q=0", False),
        ("identity", False),
        ("identity, gzip", True),
        ("identity;q=0.5, gzip;q=0.4", False),
        ("identity;q=0.5, gzip", True),
        ("identity;q=0", False),
        ("identity;q=0, *", True),
        ("deflate, br", False),
        ("gzip;q=1.5", False),
        ("gzip;q=", False),
        ("gzip;q=0.1234", False),
        ("gzip;level=9", False),
        ("gzip;q=1;level=9", False),
        ("gzipped", False),
        (",;,=;q,gzip", True),
        pytest.param("gzip" + "," * 1020, True, id="1 KiB"),
        pytest.param("gzip" + "," * 1021, False, id="more than that"),
    ],
)
def test_gzip_goes_to_those_that_take_it_as_gladly_as_nothing(header: str, is_preferred: bool) -> None:
    assert prefers_gzip(header) is is_preferred
