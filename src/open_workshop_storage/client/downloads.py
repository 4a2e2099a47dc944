"""Stored files, and what is in stored ZIPs (docs/API.md, "Distributor")."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from anyio.to_thread import run_sync

from open_workshop_storage.client.calls import StorageError, from_fields, parse, request, stream
from open_workshop_storage.client.local_files import BLOCK_BYTES, replacing, sha256_in


@dataclass(frozen=True)
class Entry:
    """A file in a ZIP.

    Attributes:
        name: With its folders. No name leaves the folder that it is unpacked in.
        bytes: Its size in bytes.
        compressed_bytes: What it takes in the archive.
        modified: Without a zone; `None` where the archive has no date.
    """

    name: str
    bytes: int
    compressed_bytes: int
    crc32: int
    modified: datetime | None


@dataclass(frozen=True)
class Contents:
    """What is in a ZIP.

    Attributes:
        path: Relative to the storage root.
        bytes: The archive's size in bytes.
        unpacked_bytes: Size of all its entries, in bytes.
    """

    path: str
    bytes: int
    unpacked_bytes: int
    entries: tuple[Entry, ...]


class Downloads:
    """The distributor. Paths begin with the type, as `archive/mods/7/main.zip`.

    Args:
        http: Sends the requests, each within time limits of this class.
        distributor_url: Where the distributor is, as `https://storage.example.org`.
        cookies: For protected files: `accessToken` and `refreshToken` of a user. No other host gets them.
    """

    def __init__(self, http: httpx.AsyncClient, distributor_url: str, cookies: Mapping[str, str] | None = None) -> None:
        self._http = http
        self._url = distributor_url.rstrip("/")
        # As a header, not in the client's cookie jar, which would send them to the object store too.
        self._headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}

    async def save(self, path: str, target: Path) -> str | None:
        """Save a stored file, whole or not at all.

        Returns:
            Its SHA-256 as 64 hex digits, which was checked; `None` if the storage does not know it.

        Raises:
            StorageError: It is refused, the connection fails, or what came has another digest.
        """
        hashed = hashlib.sha256()
        async with self._stream("download", path, coding="identity") as answer, replacing(target) as file:

            def take(block: bytes) -> None:
                file.write(block)
                hashed.update(block)

            async for block in answer.aiter_bytes(BLOCK_BYTES):
                await run_sync(take, block)
            # An object store does not give the digest, but the distributor's redirect to it does.
            sha256 = sha256_in(one.headers.get("repr-digest", "") for one in (*answer.history, answer))
            if sha256 not in (None, hashed.hexdigest()):
                raise StorageError(None, f"{path} has another digest than was announced")
        return sha256

    async def contents(self, path: str) -> Contents:
        """Return what is in a stored ZIP.

        Raises:
            StorageError: It is refused, or the connection fails.
        """
        answer = await request(self._http, "GET", self._address("contents", path), headers=self._headers)
        return parse(answer, _contents)

    async def save_entry(self, path: str, entry: Entry | str, target: Path) -> None:
        """Save one file of a stored ZIP, whole or not at all.

        Args:
            entry: The file, or its name. With the file of a listing, another version of it is an error.

        Raises:
            StorageError: It is refused, the connection fails, or what came has another CRC.
        """
        name = entry.name if isinstance(entry, Entry) else entry
        crc = 0
        async with self._stream("contents", path, coding="gzip", entry=name) as answer, replacing(target) as file:
            # httpx inflates what comes as gzip.
            async for block in answer.aiter_bytes(BLOCK_BYTES):
                await run_sync(file.write, block)
                crc = zlib.crc32(block, crc)
            announced = f"{entry.crc32:08x}" if isinstance(entry, Entry) else answer.headers.get("x-entry-crc32")
            if f"{crc:08x}" != announced:
                raise StorageError(None, f"{name} is not what was announced")

    def _stream(self, route: str, path: str, coding: str, **query: str) -> AbstractAsyncContextManager[httpx.Response]:
        return stream(
            self._http,
            "GET",
            self._address(route, path),
            params=query,
            # nginx sends public files without a digest; it passes requests with this header on to the distributor.
            headers={**self._headers, "Accept-Encoding": coding, "Want-Repr-Digest": "sha-256=10"},
            follow_redirects=True,
        )

    def _address(self, route: str, path: str) -> str:
        return f"{self._url}/{route}/{quote(path)}"


def _contents(listing: Mapping[str, Any]) -> Contents:
    return from_fields(Contents, {**listing, "entries": tuple(map(_entry, listing["entries"]))})


def _entry(listed: Mapping[str, Any]) -> Entry:
    modified = datetime.fromisoformat(listed["modified"]) if listed["modified"] else None
    return from_fields(Entry, {**listed, "crc32": int(listed["crc32"], 16), "modified": modified})
