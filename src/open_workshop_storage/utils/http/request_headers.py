"""What the headers of a request ask for: conditions, ranges and content codings (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from open_workshop_storage.utils.http.dates import parse_date

_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_MAX_RANGES = 100
_MAX_DIGITS = 19
_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Browsers send 30 or so characters. 16 KiB of commas take 15 ms.
_MAX_CODINGS_CHARACTERS = 1024
_CODING = re.compile(r"[ \t]*([^ \t;]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a representation from another.

    Attributes:
        etag: A strong entity tag, with its quotes.
        last_modified: Seconds since the epoch.
    """

    etag: str
    last_modified: int


def evaluate_conditions(headers: Mapping[str, str], current: Validators) -> HTTPStatus:
    """Return the status that the conditions of a GET or HEAD request ask for: 200, 304 or 412.

    They are evaluated in the order of RFC 9110, section 13.2.2.

    Args:
        headers: By lower-case name; lines of one name joined by commas.
    """
    if (if_match := headers.get("if-match")) is not None:
        if not _names_current(if_match, current.etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif (since := parse_date(headers.get("if-unmodified-since"))) is not None and current.last_modified > since:
        return HTTPStatus.PRECONDITION_FAILED
    if (if_none_match := headers.get("if-none-match")) is not None:
        if _names_current(if_none_match, current.etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED
    elif (since := parse_date(headers.get("if-modified-since"))) is not None and current.last_modified <= since:
        return HTTPStatus.NOT_MODIFIED
    return HTTPStatus.OK


def range_applies(if_range: str | None, current: Validators) -> bool:
    """Return whether a `Range` is to be obeyed: its `If-Range` is absent or names the current version.

    A date counts only if it is exactly that of the last change, a tag only if it is strong (RFC 9110,
    section 13.1.5).
    """
    if if_range is None:
        return True
    text = if_range.strip()
    if '"' in text:
        return text == current.etag
    return parse_date(text) == current.last_modified


def _names_current(tags: str, etag: str, *, weakly: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ENTITY_TAG.findall(tags))


class RangeNotSatisfiable(Exception):
    """None of the ranges overlaps the representation."""


def requested_ranges(header: str, size: int) -> list[range] | None:
    """Return the parts of a representation that a `Range` header asks for, in its order, none empty.

    Ranges that overlap become one, in the place of the first, so that no answer is longer than the whole
    (section 14.2). Ranges beyond the end are left out.

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


def prefers_gzip(accept_encoding: str) -> bool:
    """Return whether a client accepts gzip with at least the weight of no coding.

    A client without `Accept-Encoding` should accept any coding, but may know none. A header of more than 1 KiB is
    ignored.

    Args:
        accept_encoding: The header's value, empty if there is none.
    """
    if len(accept_encoding) > _MAX_CODINGS_CHARACTERS:
        return False
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        # Malformed items are ignored.
        if match := _CODING.fullmatch(item):
            weights[match[1]] = float(match[2] or 1)
    gzip = max((weights[name] for name in ("gzip", "x-gzip") if name in weights), default=weights.get("*", 0.0))
    # No coding is the last choice if it has no weight of its own.
    return gzip > 0 and gzip >= weights.get("identity", 0.0)
