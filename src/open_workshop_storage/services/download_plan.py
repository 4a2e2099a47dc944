"""What to answer to a request for a stored file, decided without touching it (RFC 9110, sections 13 to 15)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from open_workshop_storage.services.storage import StoredFile
from open_workshop_storage.utils.http_conditions import Outcome, Validators, format_date, judge, range_applies
from open_workshop_storage.utils.http_ranges import RangeNotSatisfiable, requested_ranges
from open_workshop_storage.utils.media_types import content_disposition, media_type

PRECONDITION_FAILED = "Precondition failed"
RANGE_NOT_SATISFIABLE = "Range not satisfiable"

Piece = bytes | range
"""Bytes as they are, or those at these positions of the file."""

_EVERY_ANSWER = {
    # Nothing that is stored may run as a page of this origin.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """An answer.

    Attributes:
        pieces: What the body consists of, in order.
    """

    status: HTTPStatus
    headers: dict[str, str]
    pieces: list[Piece]


def plan_answer(method: str, requested: Mapping[str, str], file: StoredFile, filename: str | None) -> Plan:
    """Decide on the answer to a GET or HEAD request.

    Args:
        requested: The request's conditional and range headers, by lower-case name.
        filename: What to save the file as, without its extension.
    """
    current = _validators(file)
    headers = dict(_EVERY_ANSWER)
    if file.mod_id is not None:
        headers["Cache-Control"] = "private, no-cache"
    outcome = judge(requested, current)
    if outcome is Outcome.PRECONDITION_FAILED:
        return _refusal(HTTPStatus.PRECONDITION_FAILED, headers, PRECONDITION_FAILED)
    headers |= {"ETag": current.etag, "Last-Modified": format_date(current.last_modified)}
    if outcome is Outcome.NOT_MODIFIED:
        return Plan(HTTPStatus.NOT_MODIFIED, headers, [])
    headers["Accept-Ranges"] = "bytes"
    ranges = None
    if method == "GET" and "range" in requested and range_applies(requested.get("if-range"), current):
        try:
            ranges = requested_ranges(requested["range"], file.size)
        except RangeNotSatisfiable:
            headers["Content-Range"] = f"bytes */{file.size}"
            return _refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, RANGE_NOT_SATISFIABLE)
    if disposition := content_disposition(filename, file.path):
        headers["Content-Disposition"] = disposition
    headers["Content-Type"] = media_type(file.path)
    pieces: list[Piece] = [range(file.size)]
    if ranges is not None and len(ranges) == 1:
        headers["Content-Range"] = _content_range(ranges[0], file.size)
        pieces = [ranges[0]]
    elif ranges is not None:
        boundary = secrets.token_hex(16)
        pieces = _multipart(ranges, boundary, headers["Content-Type"], file.size)
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    headers["Content-Length"] = str(sum(len(piece) for piece in pieces))
    status = HTTPStatus.OK if ranges is None else HTTPStatus.PARTIAL_CONTENT
    return Plan(status, headers, pieces if method == "GET" else [])


def _validators(file: StoredFile) -> Validators:
    # A date in the future is not allowed (RFC 9110, section 8.8.2.1).
    last_modified = min(file.mtime_ns // 10**9, int(time.time()))
    return Validators(f'"{file.mtime_ns:x}-{file.size:x}-{file.inode:x}"', last_modified)


def _refusal(status: HTTPStatus, headers: dict[str, str], message: str) -> Plan:
    body = message.encode()
    headers |= {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return Plan(status, headers, [body])


def _content_range(part: range, size: int) -> str:
    return f"bytes {part.start}-{part.stop - 1}/{size}"


def _multipart(ranges: list[range], boundary: str, content_type: str, size: int) -> list[Piece]:
    pieces: list[Piece] = []
    for part in ranges:
        head = f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {_content_range(part, size)}\r\n\r\n"
        pieces += [head.encode(), part, b"\r\n"]
    return [*pieces, f"--{boundary}--\r\n".encode()]
