"""The smallest Manager there is: it allows uploads, hears of their end, and has files put in their place.

It takes three variables of the environment: `STORAGE_URL`, where browsers and it reach the storage, and
`TRANSFER_JWT_SECRET` and `STORAGE_MANAGE_TOKEN`, the plain texts that `token_gen.py` prints. The storage's
`MANAGER_URL` is where this listens:

    granian --interface asgi --working-dir docs/examples --port 9000 manager:app
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request

from open_workshop_storage.client import Callback, Storage, StorageError, TransferClaims, sign_transfer_token
from open_workshop_storage.client.fastapi import verified_callback

STORAGE_URL = os.environ["STORAGE_URL"]
SECRET = os.environ["TRANSFER_JWT_SECRET"]
MANAGE_TOKEN = os.environ["STORAGE_MANAGE_TOKEN"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    """Hold what requests share. A real Manager has a database in place of `uploads`."""
    async with httpx.AsyncClient() as http:
        yield {"storage": Storage(http, STORAGE_URL, storage_manage_token=MANAGE_TOKEN), "uploads": {}}


app = FastAPI(lifespan=lifespan)


@app.post("/mods/{mod_id}/uploads")
def allow_upload(mod_id: int, request: Request) -> dict[str, str]:
    """Allow one upload. A real Manager asks first whose mod it is."""
    job_id = f"mod-{mod_id}-{uuid.uuid4().hex}"
    claims = TransferClaims(job_id=job_id, mod_id=mod_id, target_path=f"mods/{mod_id}/main.zip")
    token = sign_transfer_token(claims, SECRET)
    request.state.uploads[job_id] = "expected"
    return {"job_id": job_id, "token": token, "link": f"{STORAGE_URL}/transfer/upload?token={token}"}


@app.get("/uploads/{job_id}")
def tell(job_id: str, request: Request) -> str:
    """Tell what has become of an upload."""
    return str(request.state.uploads.get(job_id, "unknown"))


@app.post("/internal/storage/transfer-completions")
async def take_callback(callback: Annotated[Callback, Depends(verified_callback(SECRET))], request: Request) -> None:
    """Hear of an upload's end, perhaps not for the first time, and have the file moved while the storage waits."""
    uploads, storage = request.state.uploads, request.state.storage
    if uploads.get(callback.job_id) == "stored":
        raise HTTPException(409, "Settled already")
    if callback.status == "error":
        # The user may upload another file with the same token.
        uploads[callback.job_id] = callback.reason
        return
    try:
        await storage.move(callback.job_id, "archive", callback.target_path)
    except StorageError as error:
        # The storage calls again: a move may be said twice.
        raise HTTPException(503, error.message) from error
    uploads[callback.job_id] = "stored"
