"""Answers requests for some paths before FastAPI's routes are reached."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from open_workshop_storage.observability.telemetry import name_route

WEBSOCKET = "(websocket)"
"""Stands for a method where a path is one of sockets; no method has brackets (RFC 9110, section 5.6.2)."""

_Match = Callable[[str], re.Match[str] | None]


class Shortcut(NamedTuple):
    """A path that is answered in place of its route, which describes it.

    Attributes:
        methods: What is answered; the route answers other methods.
        route: As FastAPI's router writes it; `{path}` is all of the rest, any other part has no slash.
        answer: Takes the parts, and what ASGI apps take.
    """

    methods: Sequence[str]
    route: str
    answer: Callable[..., Awaitable[None]]


class Shortcuts:
    """Answers the requests that have shortcuts.

    Routing, dependencies and response classes take several times as long as all the rest of a small download, and a
    tenth of the time of a PATCH with 8 MiB; of thousands of open sockets they would keep much. What stands outside of
    this, such as CORS, telemetry and the handling of errors, is the same for all routes.
    """

    def __init__(self, app: ASGIApp, shortcuts: Sequence[Shortcut]) -> None:
        self._app = app
        self._shortcuts: defaultdict[str, list[tuple[_Match, Shortcut]]] = defaultdict(list)
        for shortcut in shortcuts:
            pattern = re.sub(r"{\w+}", "([^/]+)", shortcut.route.replace("{path}", "(.*)"))
            for method in shortcut.methods:
                self._shortcuts[method].append((re.compile(pattern, re.DOTALL).fullmatch, shortcut))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on everything else."""
        method = scope["method"] if scope["type"] == "http" else f"({scope['type']})"
        for match, shortcut in self._shortcuts.get(method, ()):
            parts = match(scope["path"].removeprefix(scope.get("root_path", "")))
            if parts is not None:
                name_route(scope, shortcut.route)
                return shortcut.answer(*parts.groups(), scope, receive, send)
        return self._app(scope, receive, send)
