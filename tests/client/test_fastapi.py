"""The callback as a dependency of a route."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from open_workshop_storage.client import Callback
from open_workshop_storage.client.fastapi import verified_callback
from open_workshop_storage.utils.auth.json_web_tokens import sign_callback_token

pytestmark = pytest.mark.anyio

SECRET = "a secret that both sides know, of 32 bytes and more"
app = FastAPI()


@app.post("/callback")
def take(callback: Annotated[Callback, Depends(verified_callback(SECRET))]) -> str:
    return callback.job_id


async def answer(**headers: str) -> tuple[int, object]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://manager") as http:
        answer = await http.post("/callback", headers=headers)
    return answer.status_code, answer.json()


async def test_a_route_gets_the_callback_of_its_request() -> None:
    token = sign_callback_token({"job_id": "job-12345678", "status": "success"}, "an end", SECRET, 60)
    assert await answer(Authorization=f"Bearer {token}") == (200, "job-12345678")


async def test_a_request_without_a_callback_is_refused() -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        assert await answer(**headers) == (403, {"detail": "Access denied"})
