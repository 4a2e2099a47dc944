"""Sockets of progress, as they are answered before FastAPI's routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import Message

from open_workshop_storage.api.routes.progress import SHORTCUTS
from open_workshop_storage.core.job import Stage
from open_workshop_storage.services.runtime import open_runtime
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.jobs import job_in

pytestmark = pytest.mark.anyio


async def test_a_socket_without_a_token_is_refused_for_however_long_uploads_may_be_gone_on_with(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "websocket.accept":
            raise AssertionError("accepted")

    socket, _ = SHORTCUTS
    settings = make_settings(tmp_path, Secrets(), transfer_resume_seconds=2**40)
    async with open_runtime(settings, loads=False) as runtime:
        job = await runtime.store.save(job_in(Stage.UPLOADING), None)
        scope = {"type": "websocket", "query_string": b"", "state": {"runtime": runtime}}
        await socket.answer(job.job_id, scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
