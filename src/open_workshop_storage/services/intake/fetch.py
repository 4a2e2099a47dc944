"""Judges URLs that come from outside, and fetches their files (docs/API.md, "GET `/transfer/start`")."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import unicodedata
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import httpcore
import httpx
from opentelemetry.trace import SpanKind

from open_workshop_storage.core.errors import (
    BadRequest,
    BlockedUrl,
    DownloadFailed,
    DownloadTimedOut,
    NotAFile,
    OriginRefused,
)
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.utils.http.dates import retry_after
from open_workshop_storage.utils.net.dialing import AddressRefused, JudgedBackend, Resolve, resolve_host
from open_workshop_storage.utils.net.origin_answers import (
    BrokenCoding,
    UnknownCoding,
    WebPage,
    codings_in,
    disposition_filename,
    is_version,
    is_whole,
    may_be_page,
    partial_start,
    partial_total,
    refuse_pages,
    strong_validator,
    total_size,
    undo_codings,
)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SUCCESSES = frozenset({200, 203})
_THROTTLED = frozenset({429, 503})
_MAX_RETRIES = 5
_LEAST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 3600.0

# All blanks, and what shows nothing and is pasted along, such as marks of byte order and direction.
_BLANKS = " \t\r\n\u00a0\u205f\u2060\u3000\ufeff" + "".join(map(chr, [*range(0x2000, 0x2010), *range(0x2028, 0x2030)]))
_UNUSABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SCHEMES = frozenset({"http", "https"})
_DOTTED_QUAD = re.compile(r"((?:https?:)?//(?:[^/?#]*@)?)([0-9]+(?:\.[0-9]+){3})(?=[:/?#]|$)", re.IGNORECASE)


Pause = Callable[[float], Awaitable[None]]
"""Waits for so many seconds before an origin is asked again."""


@dataclass(frozen=True)
class FetchResponse:
    """The beginning of an origin's answer.

    Attributes:
        total: Size of the whole file in bytes, `None` if the origin does not say.
        offset: Bytes to keep of an earlier fetch; 0 means that the file comes from its start.
        validator: Entity tag or date that a later fetch can be resumed with, `None` if it cannot be resumed.
        filename: The origin's name for the file, unchecked.
        chunks: The file's bytes from `offset` on, at most 256 KiB each, to be read once. It raises `NotAFile` if a web
            page comes instead of the file, `DownloadTimedOut` if no byte came for `TRANSFER_IDLE_TIMEOUT_SECONDS`, and
            `DownloadFailed` if the connection broke or the file ended too early.
    """

    total: int | None
    offset: int
    validator: str | None
    filename: str | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True)
class _Reply:
    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: AsyncIterator[bytes]


class Fetcher:
    """Opens URLs for `/transfer/start`.

    Each request has a connection of its own, to an address that was judged, and carries nothing over from the
    request before it: no cookies, no `Referer`; credentials in a URL go to that URL's origin alone. A redirect
    from https to http is followed. Requests ask for no compression; gzip that comes all the same is unpacked
    piece by piece. An origin that says when to come again is asked again, a few times.
    """

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve_host) -> None:
        self._idle_seconds = settings.transfer_idle_timeout_seconds or None
        self._most_seconds = settings.transfer_download_timeout_seconds or math.inf
        self._backend = JudgedBackend(settings.allowed_networks, resolve)
        self._ssl_context = httpx.create_ssl_context()

    @asynccontextmanager
    async def open(
        self, url: str, *, offset: int = 0, validator: str | None = None, pause: Pause = asyncio.sleep
    ) -> AsyncIterator[FetchResponse]:
        """Request a file and wait for the beginning of the answer; the connection ends with the context.

        Args:
            offset: Bytes of the file that an earlier fetch received. With a validator, only the rest is requested.
            validator: The earlier fetch's validator, so that the rest of another version is not appended.
            pause: Called where the origin asks to come again later.

        Raises:
            BadRequest: The URL is no download URL.
            BlockedUrl: The URL, or a redirect, leads to an address or a scheme that is not allowed.
            OriginRefused: The answer's status is not a success, and the origin does not say when to come again, or says
                so too often, or a time that is too late.
            DownloadTimedOut: A request had no answer within `TRANSFER_IDLE_TIMEOUT_SECONDS`, connecting included.
            DownloadFailed: No connection, no usable answer, or more than 5 redirects.
        """
        address = parse_url(url)
        async with AsyncExitStack() as stack:
            if not offset or validator is None:
                yield self._whole(await self._ask(stack, pause, address, {}))
                return
            reply = await self._ask(stack, pause, address, {"Range": f"bytes={offset}-", "If-Range": validator})
            if _continues(reply, offset, validator):
                yield self._rest(reply, offset, validator)
                return
            if reply.status in (206, 416):
                await stack.aclose()
                reply = await self._ask(stack, pause, address, {})
            yield self._whole(reply)

    async def _ask(self, stack: AsyncExitStack, pause: Pause, url: httpx.URL, extra: Mapping[str, str]) -> _Reply:
        """Return the answer of an origin that may ask to come again later."""
        seconds_left = min(self._most_seconds, _LONGEST_WAIT_SECONDS)
        for _ in range(_MAX_RETRIES):
            reply = await self._follow(stack, url, extra)
            wait = max(_LEAST_WAIT_SECONDS, retry_after(reply.headers.get("retry-after")))
            seconds_left -= wait
            if reply.status not in _THROTTLED or "retry-after" not in reply.headers or seconds_left <= 0:
                return reply
            await stack.aclose()
            await pause(wait)
        return await self._follow(stack, url, extra)

    async def _follow(self, stack: AsyncExitStack, url: httpx.URL, extra: Mapping[str, str]) -> _Reply:
        """Return the answer at the end of the redirects; the stack closes its connection."""
        for _ in range(_MAX_REDIRECTS + 1):
            with _as_storage_errors():
                async with asyncio.timeout(self._idle_seconds):
                    reply = await self._request(stack, url, extra)
            location = reply.headers.get("location")
            if reply.status not in _REDIRECTS or not location:
                return reply
            await stack.aclose()
            url = redirected(url, location)
        raise DownloadFailed("Too many redirects")

    async def _request(self, stack: AsyncExitStack, url: httpx.URL, extra: Mapping[str, str]) -> _Reply:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "open-workshop-storage",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **extra,
        }
        if url.userinfo:
            headers["Authorization"] = "Basic " + b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")
        connection = httpcore.AsyncHTTPConnection(target.origin, self._ssl_context, network_backend=self._backend)
        stack.push_async_callback(connection.aclose)
        time_limits = {"timeout": {"connect": self._idle_seconds}}
        with span("fetch", {"server.address": url.raw_host.decode("ascii")}, SpanKind.CLIENT) as asking:
            response = await connection.handle_async_request(
                httpcore.Request("GET", target, headers=list(headers.items()), extensions=time_limits)
            )
            asking.set_attribute("http.response.status_code", response.status)
        response.extensions["network_stream"].begin_body()
        return _Reply(url, response.status, httpx.Headers(response.headers), response.aiter_stream())

    def _whole(self, reply: _Reply) -> FetchResponse:
        if reply.status not in _SUCCESSES and not (reply.status == 206 and is_whole(reply.headers)):
            raise OriginRefused(reply.status)
        codings = codings_in(reply.headers)
        # Size and positions of packed data say nothing about the unpacked bytes.
        total = None if codings else total_size(reply.headers)
        validator = None if codings else strong_validator(reply.headers)
        with _as_storage_errors():
            body = undo_codings(reply.body, codings)
        if may_be_page(reply.headers):
            body = refuse_pages(body)
        return FetchResponse(total, 0, validator, _filename(reply), self._body(body, total))

    def _rest(self, reply: _Reply, offset: int, validator: str) -> FetchResponse:
        total = partial_total(reply.headers)
        body = self._body(reply.body, None if total is None else total - offset)
        return FetchResponse(total, offset, validator, _filename(reply), body)

    async def _body(self, chunks: AsyncIterator[bytes], expected: int | None) -> AsyncIterator[bytes]:
        received = 0
        while True:
            with _as_storage_errors():
                async with asyncio.timeout(self._idle_seconds):
                    chunk = await anext(chunks, None)
            if chunk is None:
                break
            received += len(chunk)
            yield chunk
            # One read may have brought thousands of small chunks; other tasks get a turn between them.
            await asyncio.sleep(0)
        if expected is not None and received != expected:
            raise DownloadFailed


@contextmanager
def _as_storage_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise DownloadTimedOut from None
    except AddressRefused:
        raise BlockedUrl from None
    except WebPage:
        raise NotAFile from None
    except UnknownCoding:
        raise DownloadFailed("Unknown content encoding") from None
    except (OSError, httpcore.ProtocolError, BrokenCoding) as error:
        raise DownloadFailed from error


def _continues(reply: _Reply, offset: int, validator: str) -> bool:
    is_rest = reply.status == 206 and partial_start(reply.headers) == offset
    return is_rest and not codings_in(reply.headers) and is_version(reply.headers, validator)


def _filename(reply: _Reply) -> str | None:
    last_segment = reply.url.raw_path.partition(b"?")[0].rpartition(b"/")[2]
    return disposition_filename(reply.headers) or unquote(last_segment.decode("ascii")) or None


def parse_url(url: str) -> httpx.URL:
    """Return a download URL: http or https, with a host, on one line. Blanks at its ends are dropped, others encoded.

    Raises:
        BadRequest: The text is no such URL.
    """
    url = url.strip(_BLANKS)
    # An exception of httpx quotes the URL, which may hold a password.
    refusal = BadRequest("Invalid download URL")
    if any(unicodedata.category(char) in _UNUSABLE for char in url):
        raise refusal
    try:
        parsed = httpx.URL(_with_decimal_address(url))
    except httpx.InvalidURL:
        raise refusal from None
    if parsed.scheme not in _SCHEMES or not _has_peer(parsed):
        raise refusal
    return parsed


def redirected(url: httpx.URL, location: str) -> httpx.URL:
    """Return where a redirect leads. Credentials of `url` stay only on its own scheme, host and port.

    Raises:
        BlockedUrl: The redirect leads to another scheme than http and https.
        DownloadFailed: The location is no URL.
    """
    try:
        target = url.join(_with_decimal_address(location))
    except (httpx.InvalidURL, ValueError):
        raise DownloadFailed("Invalid redirect") from None
    if target.scheme not in _SCHEMES:
        raise BlockedUrl
    if not _has_peer(target):
        raise DownloadFailed("Invalid redirect")
    if not target.userinfo and (target.scheme, target.netloc) == (url.scheme, url.netloc):
        return target.copy_with(userinfo=url.userinfo)
    return target


def _with_decimal_address(url: str) -> str:
    """Undo octal parts in an IPv4 address: httpx refuses them, but to a resolver they are an address to judge."""
    quad = _DOTTED_QUAD.match(url)
    try:
        return quad[1] + socket.inet_ntoa(socket.inet_aton(quad[2])) + url[quad.end() :] if quad else url
    except OSError:
        return url


def _has_peer(url: httpx.URL) -> bool:
    # Reading `host` makes httpx decode IDNA, and raises the codec's own errors.
    host = url.raw_host
    # httpx encodes what no host name may hold, such as a blank; an IPv6 address may have a zone behind a `%`.
    is_name = bool(host) and (b"%" not in host or b":" in host)
    return is_name and (url.port is None or 0 < url.port < 65536)
