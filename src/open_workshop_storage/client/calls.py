"""Sends requests, turns refusals and absent or broken answers into `StorageError`, and says when to repeat them."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result")
Fields = TypeVar("Fields", bound="DataclassInstance")

TIMEOUT = httpx.Timeout(60)
"""For each wait of a call, in seconds; the storage itself waits for up to 20 while a part of it is away."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_PASSING = (None, 429, 502, 503, 504)


class StorageError(Exception):
    """The storage refused what was asked, did not answer, or what it sent is damaged.

    Attributes:
        status: HTTP status of the refusal; `None` without one.
        message: The service's own message, which can be shown to people; without one, what is wrong.
        retry_after: How long to wait before the next try, in seconds, if the answer says that.
    """

    def __init__(self, status: int | None, message: str, retry_after: int | None = None) -> None:
        super().__init__(message if status is None else f"{status} {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after


@asynccontextmanager
async def stream(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
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


async def request(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> httpx.Response:
    """Send a request, and return the answer with its body.

    Raises:
        StorageError: The request is refused, or the connection fails.
    """
    async with stream(http, method, url, **options) as answer:
        await answer.aread()
        return answer


def parse(answer: httpx.Response, build: Callable[[Any], Result]) -> Result:
    """Return what `build` makes of an answer in JSON.

    Raises:
        StorageError: The answer is no JSON, or lacks a field.
    """
    try:
        return build(answer.json())
    except (LookupError, TypeError, ValueError):
        raise StorageError(None, "Unexpected answer") from None


def from_fields(kind: type[Fields], values: Mapping[str, Any]) -> Fields:
    """Return an instance of a dataclass; values without a field are left out.

    Raises:
        TypeError: A field without a default has no value.
    """
    return kind(**{one.name: values[one.name] for one in fields(kind) if one.name in values})


async def _refusal(answer: httpx.Response) -> StorageError:
    await answer.aread()
    # A proxy before the storage may answer with a page.
    is_message = answer.headers.get("content-type", "").startswith("text/plain") and answer.text
    pause = answer.headers.get("retry-after", "")
    return StorageError(
        answer.status_code,
        answer.text if is_message else answer.reason_phrase,
        int(pause) if pause.isdecimal() else None,
    )


class Backoff:
    """Growing pauses before a request is repeated, until there has been no progress for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """Begin with short pauses again, after progress."""
        self._until = time.monotonic() + self._seconds
        self._pause = _FIRST_PAUSE_SECONDS

    async def wait(self, error: StorageError, *, is_passing: bool = False) -> None:
        """Wait before the next try; as long as the storage asks for, if it does.

        Args:
            is_passing: Whether the error passes by itself, whatever its status.

        Raises:
            StorageError: The given error, if it does not pass by itself or has lasted too long.
        """
        pause = max(random.uniform(self._pause / 2, self._pause), error.retry_after or 0)
        is_passing = is_passing or error.status in _PASSING
        if not is_passing or time.monotonic() + pause > self._until:
            raise error
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        await anyio.sleep(pause)
