"""What to answer to a request for a stored file, decided without touching it (RFC 9110, sections 13 to 15)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from open_workshop_storage.services.storage.files import StoredFile
from open_workshop_storage.utils.http.dates import format_date
from open_workshop_storage.utils.http.digest_fields import digest_field
from open_workshop_storage.utils.http.media_types import content_disposition, media_type
from open_workshop_storage.utils.http.request_headers import (
    RangeNotSatisfiable,
    Validators,
    evaluate_conditions,
    range_applies,
    requested_ranges,
)

PRECONDITION_FAILED = "Precondition failed"
RANGE_NOT_SATISFIABLE = "Range not satisfiable"

Header = tuple[bytes, bytes]
Piece = bytes | range
"""Bytes as they are, or those at these positions of the file."""

# Nothing that is stored may run as a page of this origin.
_CONTENT_SECURITY_POLICY: Header = (b"content-security-policy", b"default-src 'none'; sandbox")


class Plan(NamedTuple):
    """An answer.

    Attributes:
        headers: As ASGI takes them: names in lower case, both as bytes.
        pieces: What the body consists of, in order.
    """

    status: HTTPStatus
    headers: list[Header]
    pieces: list[Piece]


class Content(NamedTuple):
    """What there is to send: a file, or something else in one of its codings.

    Attributes:
        size: Bytes, as they are sent.
        content_type: That of one part, if there are several.
        headers: Those that it has besides those of all contents, where it is sent.
        takes_ranges: Whether parts of it are sent.
        varies: Whether clients that take other codings get another one.
    """

    validators: Validators
    size: int
    content_type: str
    headers: Sequence[Header] = ()
    takes_ranges: bool = True
    varies: bool = False


def plan_answer(
    method: str,
    requested: Mapping[str, str],
    file: StoredFile,
    filename: str | None,
    cache_control: str,
    sha256: str | None = None,
) -> Plan:
    """Decide on the answer to a GET or HEAD request for a stored file.

    Args:
        requested: The request's conditional and range headers, by lower-case name.
        filename: What to save the file as, as `attachment_name` returns it.
        cache_control: How long caches may keep it; empty to leave that to them.
        sha256: The file's digest as hex digits, if it is known.
    """
    headers: list[Header] = []
    if filename is not None:
        headers.append((b"content-disposition", content_disposition(filename, file.name).encode()))
    if sha256 is not None:
        # Of the whole file, also beside a part of it (RFC 9530, section 3).
        headers.append((b"repr-digest", digest_field(sha256).encode()))
    content = Content(validators_of(file), file.size, media_type(file.name), headers)
    return plan_content(method, requested, content, cache_control)


def plan_content(method: str, requested: Mapping[str, str], content: Content, cache_control: str) -> Plan:
    """Decide on the answer to a GET or HEAD request for any content; the arguments are those of `plan_answer`."""
    current, size = content.validators, content.size
    headers = [_CONTENT_SECURITY_POLICY]
    if cache_control:
        headers.append((b"cache-control", cache_control.encode()))
    if content.varies:
        headers.append((b"vary", b"accept-encoding"))
    status = evaluate_conditions(requested, current)
    if status is HTTPStatus.PRECONDITION_FAILED:
        return _refusal(status, headers, PRECONDITION_FAILED)
    headers.append((b"etag", current.etag.encode()))
    headers.append((b"last-modified", format_date(current.last_modified).encode()))
    if status is HTTPStatus.NOT_MODIFIED:
        return Plan(status, headers, [])
    headers.append((b"accept-ranges", b"bytes" if content.takes_ranges else b"none"))
    ranges = None
    may_be_part = method == "GET" and content.takes_ranges
    if may_be_part and "range" in requested and range_applies(requested.get("if-range"), current):
        try:
            ranges = requested_ranges(requested["range"], size)
        except RangeNotSatisfiable:
            headers.append((b"content-range", f"bytes */{size}".encode()))
            return _refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, RANGE_NOT_SATISFIABLE)
    headers += content.headers
    content_type = content.content_type
    pieces: list[Piece] = [range(size)]
    if ranges is not None and len(ranges) == 1:
        headers.append((b"content-range", _content_range(ranges[0], size).encode()))
        pieces = [ranges[0]]
    elif ranges is not None:
        boundary = secrets.token_hex(16)
        pieces = _multipart(ranges, boundary, content_type, size)
        content_type = f"multipart/byteranges; boundary={boundary}"
    headers.append((b"content-type", content_type.encode()))
    headers.append((b"content-length", str(sum(map(len, pieces))).encode()))
    status = status if ranges is None else HTTPStatus.PARTIAL_CONTENT
    return Plan(status, headers, pieces if method == "GET" else [])


def validators_of(file: StoredFile) -> Validators:
    """Return what tells this version of a file from others."""
    # A date in the future is not allowed (RFC 9110, section 8.8.2.1).
    last_modified = min(file.modified_ns // 10**9, int(time.time()))
    return Validators(f'"{file.tag}"', last_modified)


def _refusal(status: HTTPStatus, headers: list[Header], message: str) -> Plan:
    body = message.encode()
    headers.append((b"content-type", b"text/plain; charset=utf-8"))
    headers.append((b"content-length", str(len(body)).encode()))
    return Plan(status, headers, [body])


def _content_range(part: range, size: int) -> str:
    return f"bytes {part.start}-{part.stop - 1}/{size}"


def _multipart(ranges: list[range], boundary: str, content_type: str, size: int) -> list[Piece]:
    pieces: list[Piece] = []
    for part in ranges:
        head = f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {_content_range(part, size)}\r\n\r\n"
        pieces += [head.encode(), part, b"\r\n"]
    return [*pieces, f"--{boundary}--\r\n".encode()]
