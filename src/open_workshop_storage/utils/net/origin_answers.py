"""Reads what origins answer to a fetch: headers, and web pages that come instead of files."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from email.message import Message

import httpx

from open_workshop_storage.utils.http.dates import parse_date

_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:(\d{1,19})|\*)", re.ASCII | re.IGNORECASE)
# The standard library's parser takes time quadratic in the length.
_MAX_DISPOSITION_CHARACTERS = 4096
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# In UTF-8 or UTF-16, which has a NUL beside each of these characters.
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*<\0?[!?a-z]", re.IGNORECASE)
_BLANK = re.compile(rb"(?:\xef?\xbb?\xbf?|\xff?\xfe?|\xfe?\xff?)[\s\0]*(?:<\0?)?")
_MAX_BLANK_BYTES = 4096


def strong_validator(headers: httpx.Headers) -> str | None:
    """Return the validator that a later `If-Range` can name this version with (RFC 9110, section 13.1.5).

    It is a strong entity tag, or else a date of change at least a second before the answer's own date: the file may
    have changed again within that second (section 8.8.2.2). `None` if the answer has neither.
    """
    tag: str = headers.get("etag", "")
    if _STRONG_TAG.fullmatch(tag):
        return tag
    modified = parse_date(headers.get("last-modified"))
    answered = parse_date(headers.get("date"))
    if modified is None or modified + 1 > (time.time() if answered is None else answered):
        return None
    return headers["last-modified"]


def is_version(headers: httpx.Headers, validator: str) -> bool:
    """Return whether a 206 answer may be of the version that `If-Range` named.

    Some origins obey `Range` and do not know `If-Range`; an answer without a validator counts as that version.
    """
    name = "etag" if validator.startswith('"') else "last-modified"
    return name not in headers or headers[name] == validator


def partial_start(headers: httpx.Headers) -> int | None:
    """Return the position of a 206 answer's first byte; None if the answer does not say."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return int(match[1]) if match else None


def is_whole(headers: httpx.Headers) -> bool:
    """Return whether a 206 answer brings all of its file."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return match is not None and match[3] is not None and (int(match[1]), int(match[2]) + 1) == (0, int(match[3]))


def partial_total(headers: httpx.Headers) -> int | None:
    """Return the size in bytes of the file that a 206 answer is a part of, None if the answer does not say."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return int(match[3]) if match and match[3] else None


def total_size(headers: httpx.Headers) -> int | None:
    """Return the size in bytes of an answer's body, None if the answer does not say."""
    if "transfer-encoding" in headers or "content-length" not in headers:
        return None
    return int(headers["content-length"])


def disposition_filename(headers: httpx.Headers) -> str | None:
    """Return the file name in `Content-Disposition`; `filename*` goes first (RFC 6266, section 4.3)."""
    text = headers.get("content-disposition", "")
    if len(text) > _MAX_DISPOSITION_CHARACTERS:
        return None
    message = Message()
    message["Content-Disposition"] = text
    names = [value for name, value in message.get_params([], "content-disposition") if name.lower() == "filename"]
    extended = [value for value in names if isinstance(value, tuple)]
    return next(filter(None, map(_decoded, extended + names)), None)


def _decoded(value: str | tuple[str | None, str | None, str]) -> str:
    """Return a parameter's value; the parser gives the bytes of an extended one as Latin-1 (RFC 8187, section 3.2)."""
    if isinstance(value, str):
        return value
    charset, _, text = value
    try:
        return text.encode("latin-1").decode(charset or "utf-8")
    except (LookupError, ValueError):
        # The charset is none, or the text was not encoded at all.
        return text


class WebPage(Exception):
    """The body is a web page."""


def may_be_page(headers: httpx.Headers) -> bool:
    """Return whether an answer is a web page by its type, and has no name to be saved under."""
    media_type = re.split("[;,]", headers.get("content-type", ""))[0].strip().lower()
    return media_type in _PAGE_TYPES and disposition_filename(headers) is None


async def refusing_pages(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body that does not begin as HTML does.

    Raises:
        WebPage: It does.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) > _MAX_BLANK_BYTES or not _BLANK.fullmatch(head):
            break
    if _BEGINNING.match(head):
        raise WebPage
    if head:
        yield head
    async for chunk in chunks:
        yield chunk
