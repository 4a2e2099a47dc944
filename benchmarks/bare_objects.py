"""The least that an ASGI app can do with objects: it passes on what obstore reads."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks.bare import lifespan


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer `/<key>` with that object of the bucket that the variables name."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    found = await obstore.get_async(_store(), scope["path"].removeprefix("/"))
    headers = [(b"content-length", str(found.meta["size"]).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for piece in found.stream(min_chunk_size=1024 * 1024):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


@cache
def _store() -> S3Store:
    variables = os.environ
    return S3Store(
        variables["S3_BUCKET"],
        aws_endpoint_url_s3=variables["S3_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id=variables["S3_ACCESS_KEY_ID"],
        secret_access_key=variables["S3_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )
