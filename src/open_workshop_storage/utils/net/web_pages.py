"""Tells a web page that comes instead of a file, such as the page of a share link."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx

from open_workshop_storage.utils.net.response_headers import disposition_filename

_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# In UTF-8 or UTF-16, which has a NUL beside each of these characters.
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*<\0?[!?a-z]", re.IGNORECASE)
_BLANK = re.compile(rb"(?:\xef?\xbb?\xbf?|\xff?\xfe?|\xfe?\xff?)[\s\0]*(?:<\0?)?")
_MAX_BLANK_BYTES = 4096


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
