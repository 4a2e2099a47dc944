"""Which requests are answered before FastAPI's routes are reached."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from open_workshop_storage.api.shortcuts import WEBSOCKET, Shortcut, Shortcuts

pytestmark = pytest.mark.anyio

PASSED_ON = ("passed on",)


async def answered(scope: Scope) -> tuple[str, ...]:
    """Return what answers a request, and with which parts of its path."""
    calls: list[tuple[str, ...]] = []

    async def file(*parts: str) -> None:
        calls.append(("file", *parts[:-3]))

    async def socket(*parts: str) -> None:
        calls.append(("socket", *parts[:-3]))

    async def routes(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(PASSED_ON)

    shortcuts = [Shortcut(("GET", "HEAD"), "/files/{type}/{path}", file), Shortcut((WEBSOCKET,), "/ws/{id}", socket)]

    async def receive() -> dict[str, str]:
        raise AssertionError

    async def send(message: object) -> None:
        raise AssertionError

    await Shortcuts(routes, shortcuts)(scope, receive, send)
    (call,) = calls
    return call


def get(path: str, **changes: str) -> Scope:
    return {"type": "http", "method": "GET", "path": path, **changes}


@pytest.mark.parametrize(
    ("scope", "parts"),
    [
        (get("/files/a/b.zip"), ("file", "a", "b.zip")),
        (get("/files/a/b.zip", method="HEAD"), ("file", "a", "b.zip")),
        (get("/files/a/b/c\n/d\n"), ("file", "a", "b/c\n/d\n")),
        (get("/files/a/"), ("file", "a", "")),
        (get("/behind/files/a/b", root_path="/behind"), ("file", "a", "b")),
        ({"type": "websocket", "path": "/ws/job-1"}, ("socket", "job-1")),
    ],
)
async def test_a_path_of_a_shortcut_is_answered_with_its_parts(scope: Scope, parts: tuple[str, ...]) -> None:
    assert await answered(scope) == parts


@pytest.mark.parametrize(
    "scope",
    [
        get("/files/a/b.zip", method="POST"),
        get("/files/a"),
        get("/files//b"),
        get("/other/files/a/b"),
        get("/ws/job-1"),
        get("/ws/job-1", method="websocket"),
        {"type": "websocket", "path": "/ws/"},
        {"type": "websocket", "path": "/ws/job-1/more"},
        {"type": "websocket", "path": "/files/a/b"},
        {"type": "lifespan"},
    ],
)
async def test_everything_else_is_passed_on(scope: Scope) -> None:
    assert await answered(scope) == PASSED_ON
