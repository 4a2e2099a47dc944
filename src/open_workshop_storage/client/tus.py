"""Uploads in several requests (docs/API.md, "Resumable uploads"; tus.io, "Resumable upload protocol 1.0.x")."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from open_workshop_storage.client.calls import call
from open_workshop_storage.client.errors import StorageError
from open_workshop_storage.client.files import blocks_of
from open_workshop_storage.client.patience import Patience


@dataclass(frozen=True)
class TusUpload:
    """One file's upload, request by request.

    Attributes:
        base_url: `…/transfer/tus/` of the loader.
        headers: Those of each request; they have the token.
        size: The file's, in bytes.
        digest: Its digest field.
    """

    http: httpx.AsyncClient
    base_url: str
    job_id: str
    headers: Mapping[str, str]
    file: Path
    filename: str
    size: int
    digest: str

    async def create(self) -> int:
        """Begin, or return to what was begun; return the offset at which to go on."""
        name = b64encode(self.filename.encode()).decode()
        about = {"Upload-Length": str(self.size), "Upload-Metadata": f"filename {name}", "Repr-Digest": self.digest}
        return _offset(await call(self.http, "POST", self.base_url, headers={**self.headers, **about}))

    async def find(self) -> int:
        """Return the offset at which to go on."""
        return _offset(await call(self.http, "HEAD", self.base_url + self.job_id, headers=self.headers))

    async def send(self, offset: int) -> int:
        """Send all that is left; return the next offset, after the last byte once the transfer has ended."""
        about = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self.size - offset),
            "Upload-Offset": str(offset),
            "Repr-Digest": self.digest,
        }
        return _offset(
            await call(
                self.http,
                "PATCH",
                self.base_url + self.job_id,
                headers={**self.headers, **about},
                content=blocks_of(self.file, offset, self.size),
            )
        )


async def send_file(upload: TusUpload, patience: Patience) -> bool:
    """Send a file, whatever happens to the connection.

    Returns:
        Whether the transfer has ended well; otherwise the upload is over, and no answer told how the transfer ends.

    Raises:
        StorageError: It is refused, or nothing got ahead for too long.
    """
    step: Callable[[], Awaitable[int]] = upload.create
    furthest = 0
    while True:
        is_begun, is_found = step != upload.create, step == upload.find
        try:
            offset = await step()
        except StorageError as error:
            if is_found and error.status == 410:
                return False
            # 404: a loader without Redis forgets its uploads when it starts anew. 409: it goes on at another offset.
            await patience.bear(error, is_passing=is_begun and error.status in (404, 409))
            step = upload.create if error.status == 404 else upload.find
            continue
        if offset == upload.size:
            return not is_found
        if offset > furthest:
            furthest = offset
            patience.renew()
        step = partial(upload.send, offset)


def _offset(answer: httpx.Response) -> int:
    try:
        return int(answer.headers["upload-offset"])
    except (KeyError, ValueError):
        raise StorageError(None, "No answer of tus") from None
