"""Byte ranges as clients ask for them (RFC 9110, section 14)."""

from __future__ import annotations

import re

_MAX_RANGES = 100
_MAX_DIGITS = 19
_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


class RangeNotSatisfiable(Exception):
    """None of the ranges overlaps the representation."""


def requested_ranges(header: str, size: int) -> list[range] | None:
    """Return the parts of a representation that a `Range` header asks for, in its order, none empty.

    Ranges that overlap become one, where the first of them stands, so that no answer is longer than the whole
    (section 14.2). Those beyond the end are left out. More than 100 items are not looked at.

    Args:
        size: The representation's length in bytes.

    Returns:
        Byte positions; None if the header is to be ignored, because its unit is unknown, it is malformed, it
        has more than 100 items, or asks for the end of nothing.

    Raises:
        RangeNotSatisfiable: The header is well-formed and no range of it can be sent.
    """
    unit, equals, range_set = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or range_set.count(",") >= _MAX_RANGES:
        return None
    ranges: list[range] = []
    specs = [spec for item in range_set.split(",") if (spec := item.strip(" \t"))]
    if not specs:
        return None
    for spec in specs:
        match = _RANGE_SPEC.fullmatch(spec)
        if not match:
            return None
        first, last = match.groups()
        if first:
            start, stop = _number(first), _number(last) + 1 if last else size
            if last and stop <= start:
                return None
        elif last:
            start, stop = max(size - _number(last), 0), size
            if size == 0 and _number(last) > 0:
                # Satisfiable, but `Content-Range` has no form for an empty part (section 14.4).
                return None
        else:
            return None
        ranges.append(range(start, min(stop, size)))
    ranges = _merged([part for part in ranges if part])
    if not ranges:
        raise RangeNotSatisfiable
    return ranges


def _number(digits: str) -> int:
    significant = digits.lstrip("0")[: _MAX_DIGITS + 1]
    return int(significant or "0")


def _merged(ranges: list[range]) -> list[range]:
    merged: list[tuple[int, range]] = []
    for position, part in sorted(enumerate(ranges), key=lambda item: item[1].start):
        if merged and part.start < merged[-1][1].stop:
            first, previous = merged[-1]
            merged[-1] = min(first, position), range(previous.start, max(previous.stop, part.stop))
        else:
            merged.append((position, part))
    return [part for _, part in sorted(merged, key=lambda item: item[0])]
