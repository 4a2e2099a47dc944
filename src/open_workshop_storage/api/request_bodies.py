"""Request bodies, read with limits that the framework does not have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from open_workshop_storage.api.dependencies import RuntimeDep
from open_workshop_storage.core.errors import BadRequest, ClientGone, RawBodyExpected, TooManyPieces, UploadTimedOut
from open_workshop_storage.utils.http.forms import (
    FORM_TYPES,
    MAX_BYTES_BESIDES_FILE,
    FormError,
    begins_multipart_form,
    multipart_boundary,
    read_form,
)

# The server knows already, and needs no more than to be asked.
_SOON_SECONDS = 0.1
# Each message of the server costs up to 75 µs, whatever its size.
_FREE_MESSAGES = 4096
_MIN_AVERAGE_BYTES = 512
"""Less than a TCP segment of the least usual size brings (RFC 9293, section 3.7.1), without its options."""


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises:
        TooManyPieces: It comes in many pieces, of less than 512 bytes on average.
        ClientGone: The client left before the body's end.
    """
    messages = size = 0
    try:
        async for chunk in request.stream():
            messages += 1
            size += len(chunk)
            if messages > _FREE_MESSAGES + size // _MIN_AVERAGE_BYTES:
                raise TooManyPieces
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise ClientGone from None


async def has_left(request: Request) -> bool:
    """Return whether the client has left since its whole body came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_SOON_SECONDS):
            message = await request.receive()
            return bool(message["type"] == "http.disconnect")
    return False


async def raw_body(request: Request) -> AsyncIterator[bytes]:
    """Yield a body that is to be the file itself.

    Raises:
        RawBodyExpected: It is a multipart form.
        TooManyPieces: It comes in many pieces, of less than 512 bytes on average.
        ClientGone: The client left before the body's end.
    """
    try:
        boundary = multipart_boundary(request.headers.get("content-type", ""))
    except FormError:
        boundary = None
    head: bytes | None = b""
    async for chunk in body_chunks(request):
        if head is not None:
            chunk = head + chunk
            is_form = begins_multipart_form(chunk, boundary)
            if is_form:
                raise RawBodyExpected
            head = chunk if is_form is None else None
        if head is None:
            yield chunk
    if head:
        yield head


def number_in(header: str | None) -> int | None:
    """Return the number in a header or a parameter, such as the length of a body; None if it is none, or too long."""
    return int(header) if header and re.fullmatch("[0-9]{1,18}", header) else None


async def whole_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Return a small body.

    Args:
        seconds: Time limit for the whole body; 0 for none.

    Raises:
        BadRequest: The body is larger than `max_bytes`.
        UploadTimedOut: The time limit has passed.
        ClientGone: The client left before the body's end.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds or None):
            async for chunk in body_chunks(request):
                body += chunk
                if len(body) > max_bytes:
                    raise BadRequest("Request body too large")
    except TimeoutError:
        raise UploadTimedOut from None
    return bytes(body)


async def small_form(request: Request, runtime: RuntimeDep) -> dict[str, str]:
    """Return the fields of a form without a file, multipart or urlencoded; none if the body is no form.

    Raises:
        BadRequest: The form is malformed or too large.
        UploadTimedOut: The form does not come in time.
        ClientGone: The client left before the body's end.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith(FORM_TYPES):
        return {}
    body = await whole_body(request, MAX_BYTES_BESIDES_FILE, runtime.settings.transfer_idle_timeout_seconds)
    try:
        return read_form(content_type, body) if body else {}
    except FormError:
        raise BadRequest("Malformed form") from None


SmallForm = Annotated[dict[str, str], Depends(small_form)]
