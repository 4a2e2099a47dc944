"""Asks the access service whether a client may download a mod (docs/API.md, "GET `/download/{type}/{path}`")."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx
from opentelemetry.trace import SpanKind

from open_workshop_storage.core import errors
from open_workshop_storage.observability.tracing import span, trace_headers
from open_workshop_storage.services.downloads.remembering import remember
from open_workshop_storage.utils.net.http_connections import AllBusy, Connections
from open_workshop_storage.utils.processes.single_flight import SingleFlight

PASSED_COOKIES = ("accessToken", "refreshToken")
_MAX_PERMISSIONS = 10_000
"""How many a worker remembers, if it may remember any; all together take 7 MB at most."""
_MAX_HEADERS = 10_000
"""Of how many `Cookie` headers a worker remembers what is in them; all together take 3 MB at most."""

# What it begins with is looked for many times faster than the beginning of a text or this.
_PASSED_COOKIE = re.compile(rf";[ \t]*({'|'.join(PASSED_COOKIES)})[ \t]*=([^;]*)")
_MAX_ANSWER_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 500
_MESSAGE_KEYS = ("detail", "message", "reason", "title")

_Question = tuple[str, bytes]
"""A mod's id, and a digest of the cookies that are passed on."""


class AccessService:
    """The access service as this project sees it.

    Checks of the same mod with the same cookies at the same time share one question.

    Args:
        connections: Cookies that they may keep are neither sent nor read.
        base_url: The service's URL without a slash at its end.
        timeout_seconds: For one check as a whole, waiting for a connection included.
        ttl_seconds: How long a permission counts; a refusal or a failure counts once.
    """

    def __init__(self, connections: Connections, base_url: str, timeout_seconds: float, ttl_seconds: float = 0) -> None:
        self._connections = connections
        self._base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._ttl_seconds = ttl_seconds
        # Each permission with the time of its question, on the monotonic clock; the oldest comes first.
        self._permissions: dict[_Question, float] = {}
        # By the digest of a whole header, that of the cookies in it that are passed on.
        self._passed_digests: dict[bytes, bytes] = {}
        self._questions: SingleFlight[_Question, errors.StorageError | None] = SingleFlight()

    def permits(self, mod_id: str, cookies: bytes) -> bool:
        """Return whether it is remembered that the client may download the mod.

        Args:
            cookies: The value of its `Cookie` header.
        """
        # To pick cookies out takes three times as long as to digest them all.
        header = _digest(cookies)
        passed = self._passed_digests.get(header)
        if passed is None:
            passed = _digest(_joined(passed_cookies(cookies.decode("latin-1"))))
            remember(self._passed_digests, header, passed, _MAX_HEADERS)
        return self._remembers((mod_id, passed))

    async def check(self, mod_id: str, cookies: Mapping[str, str]) -> None:
        """Return if the client with these cookies may download the mod.

        Args:
            mod_id: ASCII digits.
            cookies: The client's own, as they stand; only those in `PASSED_COOKIES` are passed on.

        Raises:
            AccessDenied: The service says no; the message is its reason.
            AccessServiceRefused: It answered with an error, which is to be passed on.
            AccessServiceUnavailable: It cannot be reached, broke off or took too long, or too many checks wait for it.
            AccessServiceConfused: Its answer is neither a decision nor an error.
        """
        passed = _joined(cookies)
        question = mod_id, _digest(passed)
        if self._remembers(question):
            return
        refusal = await self._questions.run(question, lambda: self._judge(question, passed))
        if refusal is not None:
            raise refusal

    def _remembers(self, question: _Question) -> bool:
        asked_at = self._permissions.get(question)
        return asked_at is not None and time.monotonic() - asked_at < self._ttl_seconds

    async def _judge(self, question: _Question, passed: bytes) -> errors.StorageError | None:
        """Ask; return the refusal, which each caller that waits for the answer raises itself, or None."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds), self._connections.one() as http:
                status, body = await _ask(http, f"{self._base_url}/mod/{question[0]}", passed)
            _judge_answer(status, body)
        except (TimeoutError, httpx.TransportError, AllBusy):
            return errors.AccessServiceUnavailable()
        except errors.StorageError as refusal:
            return refusal
        if self._ttl_seconds:
            remember(self._permissions, question, asked_at, _MAX_PERMISSIONS)
        return None


async def _ask(http: httpx.AsyncClient, url: str, cookies: bytes) -> tuple[int, bytes]:
    try:
        return await _ask_once(http, url, cookies)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        # A connection may be closed by the service just as it is used again.
        return await _ask_once(http, url, cookies)


async def _ask_once(http: httpx.AsyncClient, url: str, cookies: bytes) -> tuple[int, bytes]:
    headers = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"identity")]
    if cookies:
        headers.append((b"Cookie", cookies))
    # `build_request` of the client would add cookies of other clients' answers.
    request = httpx.Request("POST", url, headers=headers, json={})
    with span("access check", kind=SpanKind.CLIENT) as asking:
        request.headers.update(trace_headers())
        response = await http.send(request, stream=True, follow_redirects=False)
        try:
            asking.set_attribute("http.response.status_code", response.status_code)
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    # Neither a decision nor a message for people is that long; an error still has its status.
                    return response.status_code, b""
            return response.status_code, body
        finally:
            await response.aclose()


def passed_cookies(header: str) -> dict[str, str]:
    """Return those cookies of a `Cookie` header that are passed on, as they stand, quotes and escapes included.

    Of two with one name the last counts, as it does for the Python services that set them.
    """
    return {name: value.strip() for name, value in _PASSED_COOKIE.findall(f";{header}")}


def _joined(cookies: Mapping[str, str]) -> bytes:
    return "; ".join([f"{name}={cookies[name]}" for name in PASSED_COOKIES if name in cookies]).encode("latin-1")


def _digest(cookies: bytes) -> bytes:
    """Return what is enough to remember an answer by, so that no cookies are kept."""
    return hashlib.sha256(cookies).digest()


def _judge_answer(status: int, body: bytes) -> None:
    """Return if the answer allows the download; raises as `AccessService.check` says."""
    if 400 <= status <= 599:
        raise errors.AccessServiceRefused(status, _human_message(status, body))
    match _json(body) if status == HTTPStatus.OK else None:
        case {"download": {"value": True}}:
            return
        case {"download": {"value": False, **rest}}:
            reason = rest.get("reason")
            raise errors.AccessDenied((_plain(reason) if isinstance(reason, str) else "") or None)
    raise errors.AccessServiceConfused


def _human_message(status: int, body: bytes) -> str:
    answer = _json(body)
    if isinstance(answer, dict):
        texts = [_plain(answer[key]) for key in _MESSAGE_KEYS if isinstance(answer.get(key), str)]
        text = next(filter(None, texts), "")
    elif isinstance(answer, str):
        text = _plain(answer)
    elif answer is None and not body.lstrip().startswith(b"<"):
        text = _plain(body.decode(errors="replace"))
    else:
        text = ""
    try:
        return text or HTTPStatus(status).phrase
    except ValueError:
        return f"Access service answered with status {status}"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_MAX_MESSAGE_CHARACTERS]
