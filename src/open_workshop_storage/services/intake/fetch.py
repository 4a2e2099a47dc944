"""Fetches a file from a URL that anybody may have chosen (docs/API.md, "GET `/transfer/start`")."""

from __future__ import annotations

import asyncio
import re
import socket
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import httpcore
import httpx
from opentelemetry.trace import SpanKind

from open_workshop_storage.core.errors import BadRequest, BlockedUrl, DownloadFailed, DownloadTimedOut, OriginRefused
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.utils.net.dialing import AddressRefused, JudgedBackend, Resolve, resolve_host
from open_workshop_storage.utils.net.response_headers import (
    content_coding,
    disposition_filename,
    is_version,
    partial_start,
    strong_validator,
    total_size,
)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SCHEMES = frozenset({"http", "https"})
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_WINDOW_BITS = 31
_PACKED_BYTES = 16 * 1024
_UNPACKED_BYTES = 256 * 1024
_MAX_EXCESS_BYTES = 1024 * 1024
"""How much more may be packed than comes of it, besides a hundredth: gzip adds a two-thousandth to noise."""

_DOTTED_QUAD = re.compile(r"((?:https?:)?//(?:[^/?#]*@)?)([0-9]+(?:\.[0-9]+){3})(?=[:/?#]|$)", re.IGNORECASE)


def check_url(url: str) -> None:
    """Refuse what cannot be a download URL: only http and https, with a host, printable and without blanks.

    Raises:
        BadRequest: The URL will not do.
    """
    _parsed(url)


@dataclass(frozen=True)
class FetchResponse:
    """A file that has begun to come in.

    Attributes:
        total: Size of the whole file in bytes, `None` if the origin does not say.
        offset: Bytes to keep of what an earlier fetch has got; 0 means that the file comes from its start.
        validator: What a later fetch can be resumed with, `None` if it cannot.
        filename: The origin's name for the file, raw: it may be any text.
    """

    total: int | None
    offset: int
    validator: str | None
    filename: str | None
    _chunks: AsyncIterator[bytes]

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the file's bytes from `offset` on, in chunks of at most 256 KiB. They come once only.

        The iterator raises `DownloadTimedOut` when no byte came for `TRANSFER_IDLE_TIMEOUT_SECONDS`, and
        `DownloadFailed` when the connection broke or the file ended too early.
        """
        return self._chunks


@dataclass(frozen=True)
class _Reply:
    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: AsyncIterator[bytes]


class Fetcher:
    """Opens URLs for `/transfer/start`.

    Each request has a connection of its own, to an address that was judged, and carries nothing over from the
    one before it: no cookies, no `Referer`; credentials in a URL go to that URL's origin alone. A redirect from
    https to http is followed, as a plain http URL would have been. It asks for no compression; gzip that
    comes all the same is unpacked piece by piece, since storage sites label `.tar.gz` files so.

    Args:
        settings: Names the allowed networks and the idle time-out.
        resolve: Looks host names up.
    """

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve_host) -> None:
        self._idle_seconds = settings.transfer_idle_timeout_seconds or None
        self._backend = JudgedBackend(settings.allowed_networks, resolve)
        self._ssl_context = httpx.create_ssl_context()

    @asynccontextmanager
    async def open(self, url: str, *, offset: int = 0, validator: str | None = None) -> AsyncIterator[FetchResponse]:
        """Request a file and wait for the beginning of the answer; the connection ends with the context.

        Args:
            url: Where the file is.
            offset: Bytes that an earlier fetch has got; the origin is asked for the rest if there is a validator.
            validator: The earlier fetch's, so that the rest of another version is not taken for this one's.

        Raises:
            BadRequest: The URL will not do.
            BlockedUrl: It leads, at first or by a redirect, to an address or a scheme that is not allowed.
            OriginRefused: The answer's status is not a success.
            DownloadTimedOut: A request had no answer within `TRANSFER_IDLE_TIMEOUT_SECONDS`, connecting included.
            DownloadFailed: No connection, no usable answer, or more than 5 redirects.
        """
        first = _parsed(url)
        async with AsyncExitStack() as stack:
            yield await self._response(stack, first, offset, validator)

    async def _response(
        self, stack: AsyncExitStack, url: httpx.URL, offset: int, validator: str | None
    ) -> FetchResponse:
        if not offset or validator is None:
            return self._whole(await self._follow(stack, url, {}))
        reply = await self._follow(stack, url, {"Range": f"bytes={offset}-", "If-Range": validator})
        if _continues(reply, offset, validator):
            return self._rest(reply, offset, validator)
        if reply.status in (206, 416):
            await stack.aclose()
            reply = await self._follow(stack, url, {})
        return self._whole(reply)

    async def _follow(self, stack: AsyncExitStack, url: httpx.URL, extra: Mapping[str, str]) -> _Reply:
        """Return the answer at the end of the redirects; the stack closes its connection."""
        for _ in range(_MAX_REDIRECTS + 1):
            with _failures_translated():
                async with asyncio.timeout(self._idle_seconds):
                    reply = await self._request(stack, url, extra)
            location = reply.headers.get("location")
            if reply.status not in _REDIRECTS or not location:
                return reply
            await stack.aclose()
            url = _redirected(url, location)
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
        if reply.status != 200:
            raise OriginRefused(reply.status)
        coding = content_coding(reply.headers)
        if coding == "identity":
            total = total_size(reply.headers)
            body = self._body(reply.body, total)
            return FetchResponse(total, 0, strong_validator(reply.headers), _filename(reply), body)
        if coding not in _GZIP:
            raise DownloadFailed("Unknown content encoding")
        # Neither its size nor a position in it says anything about the unpacked bytes.
        return FetchResponse(None, 0, None, _filename(reply), self._body(_unpacked(reply.body), None))

    def _rest(self, reply: _Reply, offset: int, validator: str) -> FetchResponse:
        total = total_size(reply.headers)
        body = self._body(reply.body, None if total is None else total - offset)
        return FetchResponse(total, offset, validator, _filename(reply), body)

    async def _body(self, chunks: AsyncIterator[bytes], expected: int | None) -> AsyncIterator[bytes]:
        received = 0
        while True:
            with _failures_translated():
                async with asyncio.timeout(self._idle_seconds):
                    chunk = await anext(chunks, None)
            if chunk is None:
                break
            received += len(chunk)
            yield chunk
            # One read may have brought thousands of small chunks, and nothing else waits for each of them.
            await asyncio.sleep(0)
        if expected is not None and received != expected:
            raise DownloadFailed


@contextmanager
def _failures_translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise DownloadTimedOut from None
    except AddressRefused:
        raise BlockedUrl from None
    except (OSError, httpcore.ProtocolError, zlib.error) as error:
        raise DownloadFailed from error


def _parsed(url: str) -> httpx.URL:
    # An exception of httpx quotes the URL, which may hold a password.
    refusal = BadRequest("Invalid download URL")
    if not url.isprintable() or " " in url:
        raise refusal
    try:
        parsed = httpx.URL(_with_decimal_address(url))
    except httpx.InvalidURL:
        raise refusal from None
    if parsed.scheme not in _SCHEMES or not _has_peer(parsed):
        raise refusal
    return parsed


def _with_decimal_address(url: str) -> str:
    """Undo octal parts in an IPv4 address: httpx refuses them, but to a resolver they are an address to judge."""
    quad = _DOTTED_QUAD.match(url)
    try:
        return quad[1] + socket.inet_ntoa(socket.inet_aton(quad[2])) + url[quad.end() :] if quad else url
    except OSError:
        return url


def _has_peer(url: httpx.URL) -> bool:
    # Not `host`: to read that, httpx decodes IDNA, and raises what the codec raises.
    return bool(url.raw_host) and (url.port is None or 0 < url.port < 65536)


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
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


def _continues(reply: _Reply, offset: int, validator: str) -> bool:
    return (
        reply.status == 206
        and partial_start(reply.headers) == offset
        and content_coding(reply.headers) == "identity"
        and is_version(reply.headers, validator)
    )


def _filename(reply: _Reply) -> str | None:
    last_segment = reply.url.raw_path.partition(b"?")[0].rpartition(b"/")[2]
    return disposition_filename(reply.headers) or unquote(last_segment.decode("ascii")) or None


async def _unpacked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Undo gzip, of one member or several, at most `_UNPACKED_BYTES` at a time.

    Raises:
        zlib.error: The data is no gzip, is cut off, or hardly anything comes of it.
    """
    member = zlib.decompressobj(_GZIP_WINDOW_BITS)
    begun = False
    excess: float = -_MAX_EXCESS_BYTES
    async for packed in _slices(chunks):
        excess += len(packed)
        while packed or begun:
            unpacked = member.decompress(packed, _UNPACKED_BYTES)
            packed = member.unconsumed_tail or member.unused_data
            begun = not member.eof
            excess -= len(unpacked) * 1.01
            if unpacked:
                yield unpacked
            if member.eof:
                member = zlib.decompressobj(_GZIP_WINDOW_BITS)
            elif not packed and len(unpacked) < _UNPACKED_BYTES:
                break
        if excess > 0:
            raise zlib.error("empty members without end")
    if begun:
        raise zlib.error("cut off")


async def _slices(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut chunks up, since one may hold thousands of gzip members, each of which has the rest copied."""
    async for chunk in chunks:
        for start in range(0, len(chunk), _PACKED_BYTES):
            yield chunk[start : start + _PACKED_BYTES]
            await asyncio.sleep(0)
