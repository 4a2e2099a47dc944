"""Dates as HTTP writes them (RFC 9110, section 5.6.7)."""

from __future__ import annotations

import time
from datetime import timezone
from email.utils import formatdate, parsedate_to_datetime


def parse_date(text: str | None) -> int | None:
    """Return an HTTP date in any of its three forms as seconds since the epoch; `None` for any other text."""
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
    """Return the HTTP date of a time in seconds since the epoch."""
    return formatdate(seconds, usegmt=True)


def retry_after(value: str | None) -> float:
    """Return the seconds from now that a `Retry-After` header asks for (RFC 9110, section 10.2.3).

    Returns:
        0 if there is no header, if it is malformed, or if its date has passed.
    """
    if value is not None and (seconds := value.strip()).isdecimal():
        return float(seconds)
    moment = parse_date(value)
    return 0.0 if moment is None else max(0.0, moment - time.time())
