"""What the Manager has the storage do with files (docs/API.md, "Form tokens")."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import httpx

from open_workshop_storage.client.calls import from_fields, parse, request
from open_workshop_storage.client.local_files import blocks_of

StorageType = Literal["archive", "resource", "avatar"]
_REPACK_TIMEOUT = httpx.Timeout(60, read=3600)


@dataclass(frozen=True)
class Moved:
    """A file in its place.

    Attributes:
        final_path: Relative to the storage root, as `archive/mods/7/main.zip`.
        final_bytes: Its size in bytes.
        unpacked_bytes: Size of all that is in it, in bytes.
        sha256: Its SHA-256 as 64 hex digits, if it is known.
    """

    job_id: str
    final_path: str
    final_bytes: int
    unpacked_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Repacked:
    """A file that was packed again.

    Attributes:
        packed_bytes: Its size in bytes.
        packed_path: Relative to the storage root.
        unpacked_bytes: Size of all that is in it, in bytes.
        sha256: Its SHA-256, as 64 hex digits.
    """

    job_id: str
    packed_bytes: int
    packed_path: str
    unpacked_bytes: int
    sha256: str


class Storage:
    """The loader, as the Manager calls it.

    Args:
        http: Sends the requests, each within time limits of this class.
        loader_url: Where the loader is, as `https://storage.example.org`.
        upload_file, delete_file, storage_manage_token: The plain tokens whose hashes the settings of these names have.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        loader_url: str,
        *,
        upload_file: str = "",
        delete_file: str = "",
        storage_manage_token: str = "",
    ) -> None:
        self._http = http
        self._url = loader_url.rstrip("/")
        self._upload_token = upload_file
        self._delete_token = delete_file
        self._manage_token = storage_manage_token

    async def upload(
        self,
        storage_type: Literal["resource", "avatar"],
        path: str,
        content: Path | bytes,
        file_kind: Literal["bin", "img"] = "bin",
    ) -> None:
        """Put a file in its place, in one step that no reader sees a part of. Of it 1 MiB is in memory.

        Args:
            path: Relative to the folder of its type; that of an image ends in `.webp`.
            content: A file's path, or what is to be in it.

        Raises:
            StorageError: It is refused, or the connection fails. It may be repeated.
            EOFError: The file has become shorter meanwhile.
        """
        size = len(content) if isinstance(content, bytes) else (await anyio.Path(content).stat()).st_size
        boundary = secrets.token_hex(16)
        form = {"token": self._upload_token, "type": storage_type, "path": path, "file_kind": file_kind}
        begin = f'--{boundary}\r\nContent-Disposition: form-data; name="'
        head = "".join(f'{begin}{name}"\r\n\r\n{value}\r\n' for name, value in form.items())
        head += f'{begin}file"; filename="file"\r\n\r\n'
        tail = f"\r\n--{boundary}--\r\n"
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head.encode()) + size + len(tail)),
        }
        body = _body(head.encode(), content, size, tail.encode())
        await request(self._http, "POST", f"{self._url}/upload", headers=headers, content=body)

    async def delete(self, storage_type: StorageType, path: str) -> None:
        """Remove a file.

        Args:
            path: Relative to the folder of its type.

        Raises:
            StorageError: It is refused, with status 404 if there is no such file; or the connection fails.
        """
        form = {"token": self._delete_token, "type": storage_type, "path": path}
        await request(self._http, "DELETE", f"{self._url}/delete", data=form)

    async def move(self, job_id: str, storage_type: StorageType, path: str) -> Moved:
        """Put a transfer's file in its place, and end the job. Repeated, it is answered alike.

        Args:
            path: Relative to the folder of its type.

        Raises:
            StorageError: It is refused, or the connection fails.
        """
        form = {"token": self._manage_token, "job_id": job_id, "type": storage_type, "path": path}
        answer = await request(self._http, "POST", f"{self._url}/transfer/move", data=form)
        return parse(answer, partial(from_fields, Moved))

    async def repack(self, job_id: str, compression_level: int | None = None) -> Repacked:
        """Pack the file of a transfer that was not moved yet again; it takes its time, an hour at most.

        Args:
            compression_level: 0 to 9; without it the transfer's own.

        Raises:
            StorageError: It is refused, or the connection fails.
        """
        form = {"token": self._manage_token, "job_id": job_id}
        if compression_level is not None:
            form["compression_level"] = str(compression_level)
        url = f"{self._url}/transfer/repack"
        answer = await request(self._http, "POST", url, data=form, timeout=_REPACK_TIMEOUT)
        return parse(answer, partial(from_fields, Repacked))


async def _body(head: bytes, content: Path | bytes, size: int, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    if isinstance(content, bytes):
        yield content
    else:
        async for block in blocks_of(content, 0, size):
            yield block
    yield tail
