"""Requests whose refusals, and whose absent or broken answers, are `StorageError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from open_workshop_storage.client.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Said = TypeVar("Said")
Fields = TypeVar("Fields", bound="DataclassInstance")

TIMEOUT = httpx.Timeout(60)
"""For each wait of a call, in seconds; the storage itself waits for up to 20 while a part of it is away."""


@asynccontextmanager
async def asked(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
    """Send a request, and give the answer before its body is read.

    Args:
        options: Those of `httpx.AsyncClient.stream`.

    Raises:
        StorageError: The request is refused, or the connection fails, also while the body is read.
    """
    try:
        async with http.stream(method, url, **{"timeout": TIMEOUT, **options}) as answer:
            if not answer.is_success:
                raise await _refusal(answer)
            yield answer
    except httpx.RequestError as error:
        raise StorageError(None, f"No answer from the storage: {error or type(error).__name__}") from error


async def call(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> httpx.Response:
    """Send a request, and return the answer with its body.

    Raises:
        StorageError: The request is refused, or the connection fails.
    """
    async with asked(http, method, url, **options) as answer:
        await answer.aread()
        return answer


def read(answer: httpx.Response, build: Callable[[Any], Said]) -> Said:
    """Return what is built of an answer in JSON.

    Raises:
        StorageError: It says something else than what is needed.
    """
    try:
        return build(answer.json())
    except (LookupError, TypeError, ValueError):
        raise StorageError(None, "Unexpected answer") from None


def picked(kind: type[Fields], said: Mapping[str, Any]) -> Fields:
    """Return an instance of a dataclass with the values of its names, whatever else is said.

    Raises:
        TypeError: One is missing.
    """
    return kind(**{one.name: said[one.name] for one in fields(kind) if one.name in said})


async def _refusal(answer: httpx.Response) -> StorageError:
    await answer.aread()
    # What stands before the storage may answer with a page.
    is_message = answer.headers.get("content-type", "").startswith("text/plain") and answer.text
    pause = answer.headers.get("retry-after", "")
    return StorageError(
        answer.status_code,
        answer.text if is_message else answer.reason_phrase,
        int(pause) if pause.isdecimal() else None,
    )
