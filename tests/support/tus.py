"""What a client of tus sends, request by request (tus.io, "Resumable upload protocol 1.0.x")."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator

import httpx

from tests.support.client import PATIENCE_SECONDS

VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


def metadata(**pairs: str) -> str:
    """Return an `Upload-Metadata` header."""
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs.items())


def checksum(content: bytes, algorithm: str = "sha256") -> str:
    """Return an `Upload-Checksum` header."""
    return f"{algorithm} {b64encode(hashlib.new(algorithm, content).digest()).decode()}"


class TusUpload:
    """One upload over tus, without any retry of its own.

    Args:
        loader_url: The loader to begin at; later requests may go to another by setting `loader_url`.
        token: The transfer token, sent in the query.
    """

    def __init__(self, http: httpx.AsyncClient, loader_url: str, token: str, job_id: str) -> None:
        self.http = http
        self.loader_url = loader_url
        self.token = token
        self.path = f"/transfer/tus/{job_id}"

    @property
    def url(self) -> str:
        """The upload's address."""
        return f"{self.loader_url}{self.path}"

    async def create(
        self, length: int | None, content: bytes | None = None, name: str = "mod.zip", **headers: str
    ) -> httpx.Response:
        """Ask for the upload; with `content` its first bytes come along."""
        size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        kind = {} if content is None else BYTES
        return await self.http.post(
            f"{self.loader_url}/transfer/tus/",
            params={"token": self.token},
            headers={**VERSION, **size, **kind, "Upload-Metadata": metadata(filename=name), **headers},
            content=content,
            timeout=PATIENCE_SECONDS,
        )

    async def head(self) -> httpx.Response:
        """Ask where to go on."""
        return await self.http.head(self.url, params={"token": self.token}, headers=VERSION, timeout=PATIENCE_SECONDS)

    async def patch(self, offset: int, content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
        """Send bytes from an offset on."""
        return await self.http.patch(
            self.url,
            params={"token": self.token},
            headers={**VERSION, **BYTES, "Upload-Offset": str(offset), **headers},
            content=content,
            timeout=PATIENCE_SECONDS,
        )

    async def delete(self) -> httpx.Response:
        """Give the upload up."""
        return await self.http.delete(self.url, params={"token": self.token}, headers=VERSION)
