"""Conditional requests for a representation that has both validators (RFC 9110, section 13)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from enum import Enum, auto

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Outcome(Enum):
    """What a request's conditions ask for."""

    SEND = auto()
    NOT_MODIFIED = auto()
    PRECONDITION_FAILED = auto()


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a representation from another.

    Attributes:
        etag: A strong entity tag, with its quotes.
        last_modified: Seconds since the epoch.
    """

    etag: str
    last_modified: int


def judge(headers: Mapping[str, str], current: Validators) -> Outcome:
    """Evaluate the conditions of a GET or HEAD request in the order of RFC 9110, section 13.2.2.

    Args:
        headers: By lower-case name; lines of one name joined by commas.
    """
    if (if_match := headers.get("if-match")) is not None:
        if not _names_current(if_match, current.etag, weakly=False):
            return Outcome.PRECONDITION_FAILED
    elif (since := parse_date(headers.get("if-unmodified-since"))) is not None and current.last_modified > since:
        return Outcome.PRECONDITION_FAILED
    if (if_none_match := headers.get("if-none-match")) is not None:
        if _names_current(if_none_match, current.etag, weakly=True):
            return Outcome.NOT_MODIFIED
    elif (since := parse_date(headers.get("if-modified-since"))) is not None and current.last_modified <= since:
        return Outcome.NOT_MODIFIED
    return Outcome.SEND


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


def parse_date(text: str | None) -> int | None:
    """Return an HTTP date in any of its three forms as seconds since the epoch; None if it is none."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return int(moment.timestamp())
    except (ValueError, OverflowError, IndexError):
        return None


def format_date(seconds: int) -> str:
    """Return an HTTP date (RFC 9110, section 5.6.7)."""
    year, month, day, hour, minute, second, weekday = time.gmtime(seconds)[:7]
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def _names_current(tags: str, etag: str, *, weakly: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ENTITY_TAG.findall(tags))
