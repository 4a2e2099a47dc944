"""`Range` headers (RFC 9110, section 14)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.utils.http.ranges import RangeNotSatisfiable, requested_ranges

SIZE = 1000


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


_SPECS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from(["{}-{}", "{}-", "-{}"])), min_size=1
)


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
