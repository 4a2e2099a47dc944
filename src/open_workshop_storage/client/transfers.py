"""One transfer, with the token that allows it: from a file or a URL to its end (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import httpx
from anyio.to_thread import run_sync

from open_workshop_storage.client.calls import asked, call, picked, read
from open_workshop_storage.client.errors import StorageError
from open_workshop_storage.client.files import digest_field
from open_workshop_storage.client.patience import Patience
from open_workshop_storage.client.tokens import job_of
from open_workshop_storage.client.tus import TusUpload, send_file

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
        patience_seconds: How long failures are borne that pass by themselves, while nothing gets ahead.

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
            StorageError: It is refused, or the connection fails. It may be said again.
        """
        answer = await call(self._http, "POST", f"{self._url}/start", data={"token": self._token})
        return read(answer, lambda said: str(said["status"]))

    async def upload(self, file: Path, filename: str | None = None) -> None:
        """Send a file, and return when it is packed.

        It goes on where it was after cuts, and, called again, after the end of a process. Of the file 1 MiB is in
        memory; the storage compares its SHA-256.

        Args:
            filename: The file's name; without it the one that it has here.

        Raises:
            StorageError: It is refused, or nothing got ahead for too long.
            EOFError: The file has become shorter meanwhile.
        """
        upload = TusUpload(
            self._http,
            f"{self._url}/tus/",
            self.job_id,
            {"Tus-Resumable": "1.0.0", "Authorization": f"Bearer {self._token}"},
            file,
            file.name if filename is None else filename,
            (await anyio.Path(file).stat()).st_size,
            await run_sync(digest_field, file),
        )
        if not await send_file(upload, Patience(self._patience_seconds)):
            async for progress in self.follow():
                if progress.event == "error":
                    raise StorageError(None, progress.message)

    async def follow(self) -> AsyncIterator[Progress]:
        """Yield how far the transfer is, now and at each change, until it has ended; it need not have begun.

        Raises:
            StorageError: It is refused, or nothing was heard for too long.
        """
        url, patience, last_id = f"{self._url}/events/{self.job_id}", Patience(self._patience_seconds), ""
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with asked(self._http, "GET", url, params={"token": self._token}, headers=headers) as answer:
                    async for last_id, said in _events(answer):
                        patience.renew()
                        progress = picked(Progress, json.loads(said))
                        yield progress
                        if progress.event in ("complete", "error"):
                            return
                raise StorageError(None, "The events broke off")
            except StorageError as error:
                await patience.bear(error)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield id and data of each event that comes whole (HTML Standard, "Server-sent events")."""
    named: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            named[name] = value.removeprefix(" ")
        elif "data" in named:
            yield named.get("id", ""), named["data"]
            named = {}
