"""Headers for browsers, where several places write them, and requests that are too large, whatever their protocol."""

from __future__ import annotations

import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from open_workshop_storage.api.error_answers import FailureMiddleware
from open_workshop_storage.api.headers import COMMON_HEADERS, HeaderLimit
from tests.support.servers import PROJECT

EXPOSED = COMMON_HEADERS["Access-Control-Expose-Headers"]


def test_nginx_exposes_the_same_headers() -> None:
    for name in ("nginx-site.conf", "nginx-downloads.conf"):
        text = (PROJECT / "deploy" / name).read_text()
        written = re.findall(r'add_header Access-Control-Expose-Headers "(.+?)"', text)
        assert written and set(written) == {EXPOSED}


def test_every_exposed_header_is_written_about() -> None:
    text = (PROJECT / "docs" / "API.md").read_text()
    assert [name for name in EXPOSED.split(", ") if f"`{name}`" not in text] == []


async def sent_to(scope: Scope) -> list[Message]:
    """Return what a client hears of a request that the limit stands before."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append({"type": "passed on"})

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await FailureMiddleware(HeaderLimit(app))({"headers": [], "query_string": b"", **scope}, receive, send)
    return sent


@pytest.mark.anyio
@pytest.mark.parametrize("query", [b"a" * 8193, b"&" * 100])
async def test_a_query_that_is_too_large_is_refused_on_sockets_too(query: bytes) -> None:
    assert await sent_to({"type": "websocket", "query_string": query}) == [{"type": "websocket.close", "code": 1008}]
    answer = await sent_to({"type": "http", "http_version": "1.1", "query_string": query})
    assert (answer[0]["status"], answer[1]["body"]) == (414, b"Query too large")


SIXTEEN_KIB = (b"a", b"b" * 16383)


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [[(b"a", b"b" * 16384)], [SIXTEEN_KIB] * 2 + [(b"c", b"")]])
async def test_header_fields_of_16_kib_and_of_32_together_are_taken_and_no_more(
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert await sent_to({"type": "http", "headers": [SIXTEEN_KIB] * 2}) == [{"type": "passed on"}]
    answer = await sent_to({"type": "http", "http_version": "1.1", "headers": headers})
    assert answer[0]["status"] == 431


@pytest.mark.anyio
async def test_the_start_of_the_app_passes() -> None:
    assert await sent_to({"type": "lifespan"}) == [{"type": "passed on"}]
