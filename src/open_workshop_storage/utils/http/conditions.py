"""Conditional requests for a representation that has both validators (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from open_workshop_storage.utils.http.dates import parse_date

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


def _names_current(tags: str, etag: str, *, weakly: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ENTITY_TAG.findall(tags))
