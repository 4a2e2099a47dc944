"""How errors, ours and the framework's, become answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Message

from open_workshop_storage.api.error_answers import FRAMEWORK_HANDLERS, FailureMiddleware
from open_workshop_storage.core.errors import BadRequest, StorageBusy

pytestmark = pytest.mark.anyio

app = FastAPI(middleware=[Middleware(FailureMiddleware)], exception_handlers=FRAMEWORK_HANDLERS)


@app.post("/busy")
async def busy() -> None:
    raise StorageBusy


@app.get("/bad")
async def bad() -> None:
    raise BadRequest("Invalid path")


@app.get("/number")
async def number(count: int) -> int:
    return count


@app.get("/fault")
async def fault() -> None:
    raise ZeroDivisionError


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app above."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://storage") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "text", "headers"),
    [
        ("POST", "/busy", 429, "Storage busy", {"retry-after": "5"}),
        ("GET", "/bad", 400, "Invalid path", {}),
        ("GET", "/number?count=many", 400, "Invalid count", {}),
        ("GET", "/elsewhere", 404, "Not Found", {}),
        ("PUT", "/bad", 405, "Method Not Allowed", {"allow": "GET, OPTIONS"}),
        ("GET", "/fault", 500, "Internal server error", {"access-control-allow-origin": "*"}),
    ],
)
async def test_an_error_is_a_short_plain_text(
    method: str, path: str, status: int, text: str, headers: dict[str, str], client: httpx.AsyncClient
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert headers.items() <= dict(answer.headers).items()


async def test_a_refused_body_is_taken_in_and_its_connection_closed() -> None:
    pieces, sent = [b"a", b"b", b"c"], list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/busy",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"content-length", b"3")],
    }
    await app(scope, receive, send)
    assert (b"connection", b"close") in sent[0]["headers"] and pieces == []
