"""Reads what origins answer to a fetch: headers, content codings, and web pages that come instead of files."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from email.message import Message

import httpx

from open_workshop_storage.utils.archives.decompression import (
    GZIP_WINDOW_BITS,
    Decompressor,
    ZlibStream,
    zstd,
    zstd_stream,
)
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of
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
_REGISTERED = frozenset("br compress dcb dcz deflate exi gzip pack200-gzip x-compress x-gzip zstd".split())
_MOST_CODINGS = 2
_MAGICS = {
    "compress": b"\x1f\x9d",
    "x-compress": b"\x1f\x9d",
    "gzip": b"\x1f\x8b",
    "x-gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
_ZSTD_WINDOW_LOG = 23
"""8 MiB, which senders keep to (RFC 9659)."""
_PACKED_BYTES = 16 * 1024
_UNPACKED_BYTES = 256 * 1024
_MAX_EXCESS_BYTES = 1024 * 1024
"""How much larger the packed data may be than the unpacked, besides one percent: gzip adds 0.05 % to noise."""


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
    return next(filter(None, map(_parameter_text, extended + names)), None)


def _parameter_text(value: str | tuple[str | None, str | None, str]) -> str:
    """Return a parameter's value; the parser gives the bytes of an extended one as Latin-1 (RFC 8187, section 3.2)."""
    if isinstance(value, str):
        return value
    charset, _, text = value
    try:
        return text.encode("latin-1").decode(charset or "utf-8")
    except (LookupError, ValueError):
        # An unknown charset, or a text that was not encoded at all.
        return text


class WebPage(Exception):
    """The body is a web page."""


def may_be_page(headers: httpx.Headers) -> bool:
    """Return whether an answer is a web page by its type, and has no name to be saved under."""
    media_type = re.split("[;,]", headers.get("content-type", ""))[0].strip().lower()
    return media_type in _PAGE_TYPES and disposition_filename(headers) is None


async def refuse_pages(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body.

    Raises:
        WebPage: It begins as HTML does.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) > _MAX_BLANK_BYTES or not _BLANK.fullmatch(head):
            break
    if _BEGINNING.match(head):
        raise WebPage
    async for chunk in _joined(head, chunks):
        yield chunk


class UnknownCoding(Exception):
    """The answer has a content coding that we do not undo."""


class BrokenCoding(Exception):
    """The coded data is broken, or cut off, or unpacks to hardly anything."""


def codings_in(headers: httpx.Headers) -> Sequence[str]:
    """Return the content codings that an answer says it has, in the order in which they were applied.

    Names that are not registered, such as `none`, `utf-8` or `aws-chunked`, are left out: many origins misuse the
    header.
    """
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    return [name for name in names if name in _REGISTERED]


def undo_codings(chunks: AsyncIterator[bytes], codings: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield a body without its content codings, at most 256 KiB at a time.

    A body that does not begin as its coding does is taken as it is: it has not been coded.

    Raises:
        BrokenCoding: By the iterator.
        UnknownCoding: At once, or by the iterator, for a body that may have a coding that we do not undo.
    """
    if len(codings) > _MOST_CODINGS:
        raise UnknownCoding
    for coding in reversed(codings):
        chunks = _undone(chunks, coding)
    return chunks


async def _undone(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    begin = _stream_of(coding, head)
    chunks = _joined(head, chunks)
    async for chunk in chunks if begin is None else _unpacked(chunks, begin):
        yield chunk


def _stream_of(coding: str, head: bytes) -> Callable[[], Decompressor] | None:
    """Return what undoes a coding of a body with this beginning; `None` if the body is not coded.

    Raises:
        UnknownCoding: The body may have a coding that we do not undo.
    """
    if coding in _MAGICS and not head.startswith(_MAGICS[coding]):
        return None
    if coding in ("gzip", "x-gzip"):
        return lambda: ZlibStream(GZIP_WINDOW_BITS)
    if coding == "zstd":
        return lambda: zstd_stream(_ZSTD_WINDOW_LOG)
    if kind_of(head) is not Kind.PLAIN or head.startswith(_PICTURES) or not head:
        # These codings have no magic number. The body is a known kind of file, and so not coded.
        return None
    # RFC 1950, section 2.2: the method, and a checksum of the first two bytes.
    if coding == "deflate" and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0:
        return lambda: ZlibStream(zlib.MAX_WBITS)
    raise UnknownCoding


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


async def _unpacked(chunks: AsyncIterator[bytes], begin: Callable[[], Decompressor]) -> AsyncIterator[bytes]:
    stream, begun = begin(), False
    excess: float = -_MAX_EXCESS_BYTES
    try:
        async for packed in _slices(chunks):
            excess += len(packed)
            while packed or begun:
                unpacked = stream.decompress(packed, _UNPACKED_BYTES)
                packed, begun = b"", not stream.eof
                excess -= len(unpacked) * 1.01
                if unpacked:
                    yield unpacked
                if stream.eof:
                    packed, stream = stream.unused_data, begin()
                elif stream.needs_input and len(unpacked) < _UNPACKED_BYTES:
                    break
            if excess > 0:
                raise BrokenCoding("empty streams without end")
    except (zlib.error, zstd.ZstdError) as error:
        raise BrokenCoding(str(error)) from error
    if begun:
        raise BrokenCoding("cut off")


async def _slices(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut chunks up: one chunk may hold thousands of gzip members, and each member copies the rest of its chunk."""
    async for chunk in chunks:
        for start in range(0, len(chunk), _PACKED_BYTES):
            yield chunk[start : start + _PACKED_BYTES]
            await asyncio.sleep(0)
