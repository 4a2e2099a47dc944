"""Where the time of a small download goes, measured without a server."""

from __future__ import annotations

import asyncio
import cProfile
import io
import pstats
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Send

from open_workshop_storage.api.routes.downloads import SHORTCUTS
from open_workshop_storage.api.shortcuts import Shortcut, Shortcuts
from open_workshop_storage.distributor import app
from open_workshop_storage.observability.telemetry import instruct
from open_workshop_storage.service_factory import create_app
from open_workshop_storage.services.runtime import Runtime, open_runtime
from open_workshop_storage.services.storage.local import LocalFiles
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

_CALLS = 500
_ROUNDS = 40
_PROFILED_CALLS = 5000
_SHOWN = 14
_SETTLING_SECONDS = 1.5
_PUBLIC = "/download/resource/covers/7.webp"
_PROTECTED = "/download/archive/mods/7/main.zip"
_COOKIE = (b"cookie", b"accessToken=" + b"x" * 300)


async def _nothing(*request: Any) -> None:
    """Answer like a download without looking for a file."""
    send: Send = request[-1]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000")]})
    await send({"type": "http.response.pathsend", "path": "/nothing"})


def profile_of_a_download(folder: Path, access_service_url: str) -> str:
    """Return the microseconds that each part takes, and the functions that take most.

    Args:
        access_service_url: One that allows everything.
    """
    return asyncio.run(_profile(folder, access_service_url))


async def _profile(folder: Path, access_service_url: str) -> str:
    settings = make_settings(
        folder / "profiled", Secrets(), access_service_url=access_service_url, access_cache_ttl_seconds=3600
    )
    for name in ("resource/covers/7.webp", "archive/mods/7/main.zip"):
        target = settings.main_dir / name
        target.parent.mkdir(parents=True)
        target.write_bytes(secrets.token_bytes(20_000))
    # The answer for a file that has just changed is not remembered.
    await asyncio.sleep(_SETTLING_SECONDS)
    files = LocalFiles(settings.main_dir)
    framework = create_app("Nothing", "", "", [], loads=False, shortcuts=[Shortcut(["GET"], "{path}", _nothing)])
    for one in (app, framework):
        # What the lifespan does without telemetry.
        instruct(one, {"tracing": False, "metrics": False, "logs": False})
    judging = Shortcuts(app, SHORTCUTS)
    async with open_runtime(settings, loads=False) as runtime:
        parts: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("an app that only path-sends", lambda: _call(_nothing, runtime)),
            ("the same within FastAPI's outer layers and CORS", lambda: _call(framework, runtime)),
            (
                "what judges a request, its `Shortcut`, alone",
                lambda: _call(judging, runtime),
            ),
            ("of these, `LocalFiles.find`", lambda: files.find("resource", "covers/7.webp")),
            ("the distributor, answer remembered", lambda: _call(app, runtime)),
            ("the same, a protected file, permission remembered", lambda: _call(app, runtime, _PROTECTED, _COOKIE)),
        ]
        lines = [f"- {name}: {await _microseconds(work):.1f} µs" for name, work in parts]
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(_PROFILED_CALLS):
            await _call(app, runtime, _PROTECTED, _COOKIE)
        profiler.disable()
    output = io.StringIO()
    pstats.Stats(profiler, stream=output).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
    shown = "\n".join(line.rstrip() for line in output.getvalue().splitlines()[4:] if line.strip())
    return "\n".join(lines) + f"\n\nWhere the protected one spends its time:\n\n```\n{shown}\n```"


async def _microseconds(work: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(_CALLS):
            await work()
        best = min(best, time.process_time() - started)
    return best / _CALLS * 1e6


async def _call(app: ASGIApp, runtime: Runtime, path: str = _PUBLIC, *headers: tuple[bytes, bytes]) -> None:
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), *headers],
        "extensions": {"http.response.pathsend": {}},
        "state": {"runtime": runtime},
    }
    await app(scope, _receive, _send)


async def _receive() -> Message:
    raise AssertionError("not asked for")


async def _send(message: Message) -> None:
    # A refusal, as when the access service cannot be asked, takes another time.
    if message["type"] == "http.response.start" and message["status"] != HTTPStatus.OK:
        raise RuntimeError(message)
