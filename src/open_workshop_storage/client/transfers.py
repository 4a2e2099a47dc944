"""One transfer, with the token that allows it: from a file or a URL to its end (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import httpx
from anyio.to_thread import run_sync

from open_workshop_storage.client.calls import Backoff, StorageError, from_fields, parse, request, stream
from open_workshop_storage.client.local_files import blocks_of, digest_field
from open_workshop_storage.client.tokens import job_of

_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Progress:
    """How far a transfer is.

    Attributes:
        event: The last one is `complete` or `error`.
        bytes: Received bytes.
        total: Expected bytes; `None` if unknown.
        percent: 0 to 100 while `extracting` and `repacking`, otherwise `None`.
        message: With `error`: the service's message, which can be shown to people.
    """

    event: Literal["progress", "stage", "complete", "error"]
    bytes: int
    total: int | None
    status: str
    stage: str
    percent: float | None
    message: str = ""


class Transfer:
    """One transfer.

    Args:
        http: Sends the requests, each within time limits of this class.
        loader_url: Where the loader is, as `https://storage.example.org`.
        patience_seconds: How long requests are repeated after failures that pass by themselves, without progress.

    Attributes:
        job_id: The job that the token names.

    Raises:
        InvalidToken: The token is malformed.
    """

    def __init__(
        self, http: httpx.AsyncClient, loader_url: str, token: str, *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self.job_id = job_of(token)
        self._http = http
        self._url = f"{loader_url.rstrip('/')}/transfer"
        self._token = token
        self._patience_seconds = patience_seconds

    async def start(self) -> str:
        """Have the storage fetch the token's `download_url`, in the background.

        Returns:
            `started`, or the status of a job that exists.

        Raises:
            StorageError: It is refused, or the connection fails. It may be repeated.
        """
        answer = await request(self._http, "POST", f"{self._url}/start", data={"token": self._token})
        return parse(answer, lambda job: str(job["status"]))

    async def upload(self, file: Path, filename: str | None = None) -> None:
        """Send a file, and return when it is packed.

        It goes on where it was after cuts, and, called again, after the end of a process. Of the file 1 MiB is in
        memory; the storage compares its SHA-256.

        Args:
            filename: The file's name; without it the one that it has here.

        Raises:
            StorageError: It is refused, or there was no progress for too long.
            EOFError: The file has become shorter meanwhile.
        """
        upload = _TusUpload(
            self._http,
            f"{self._url}/tus/",
            self.job_id,
            {"Tus-Resumable": "1.0.0", "Authorization": f"Bearer {self._token}"},
            file,
            file.name if filename is None else filename,
            (await anyio.Path(file).stat()).st_size,
            await run_sync(digest_field, file),
        )
        if not await upload.finish(Backoff(self._patience_seconds)):
            async for progress in self.follow():
                if progress.event == "error":
                    raise StorageError(None, progress.message)

    async def follow(self) -> AsyncIterator[Progress]:
        """Yield how far the transfer is, now and at each change, until it has ended; it need not have begun.

        Raises:
            StorageError: It is refused, or nothing was heard for too long.
        """
        url, backoff, last_id = f"{self._url}/events/{self.job_id}", Backoff(self._patience_seconds), ""
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with stream(self._http, "GET", url, params={"token": self._token}, headers=headers) as answer:
                    async for last_id, data in _events(answer):
                        backoff.reset()
                        progress = from_fields(Progress, json.loads(data))
                        yield progress
                        if progress.event in ("complete", "error"):
                            return
                raise StorageError(None, "The events broke off")
            except StorageError as error:
                await backoff.wait(error)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield id and data of each event that comes whole (HTML Standard, "Server-sent events")."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id", ""), fields["data"]
            fields = {}


@dataclass(frozen=True)
class _TusUpload:
    """One file's upload in several requests (docs/API.md, "Resumable uploads"; tus.io, version 1.0.x).

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

    async def finish(self, backoff: Backoff) -> bool:
        """Send the file, whatever happens to the connection.

        Returns:
            Whether an answer has told that the transfer ended well; if not, the upload is over and its end unknown.

        Raises:
            StorageError: It is refused, or there was no progress for too long.
        """
        step: Callable[[], Awaitable[int]] = self._create
        furthest = 0
        while True:
            is_begun, is_found = step != self._create, step == self._find
            try:
                offset = await step()
            except StorageError as error:
                if is_found and error.status == 410:
                    return False
                # 404: a loader without Redis forgets its uploads when it starts anew. 409: it is at another offset.
                await backoff.wait(error, is_passing=is_begun and error.status in (404, 409))
                step = self._create if error.status == 404 else self._find
                continue
            if offset == self.size:
                return not is_found
            if offset > furthest:
                furthest = offset
                backoff.reset()
            step = partial(self._send, offset)

    async def _create(self) -> int:
        """Begin, or return to what was begun; return the offset at which to go on."""
        name = b64encode(self.filename.encode()).decode()
        return await self._offset_after(
            "POST",
            self.base_url,
            {"Upload-Length": str(self.size), "Upload-Metadata": f"filename {name}", "Repr-Digest": self.digest},
        )

    async def _find(self) -> int:
        """Return the offset at which to go on."""
        return await self._offset_after("HEAD", self.base_url + self.job_id, {})

    async def _send(self, offset: int) -> int:
        """Send all that is left; return the next offset, after the last byte once the transfer has ended."""
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self.size - offset),
            "Upload-Offset": str(offset),
            "Repr-Digest": self.digest,
        }
        body = blocks_of(self.file, offset, self.size)
        return await self._offset_after("PATCH", self.base_url + self.job_id, headers, body)

    async def _offset_after(
        self, method: str, url: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None = None
    ) -> int:
        answer = await request(self.http, method, url, headers={**self.headers, **headers}, content=body)
        try:
            return int(answer.headers["upload-offset"])
        except (KeyError, ValueError):
            raise StorageError(None, "No answer of tus") from None
