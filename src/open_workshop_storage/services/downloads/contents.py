"""Tells what is in stored ZIPs, and gives out single files of them (docs/API.md, "GET `/contents/{type}/{path}`")."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from open_workshop_storage.core.errors import EntryMissing, UnsupportedFormat
from open_workshop_storage.services.downloads.block_sender import Source
from open_workshop_storage.services.downloads.downloads import Downloads
from open_workshop_storage.services.downloads.inflating import InflatedEntry
from open_workshop_storage.services.downloads.plan import Content, Piece, Plan, plan_content, validators_of
from open_workshop_storage.services.downloads.remembering import Repeatable
from open_workshop_storage.services.downloads.stored_archives import ZipDirectories
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, Files, OpenedFile, StoredFile
from open_workshop_storage.utils.archives.contents import ZipContents
from open_workshop_storage.utils.archives.faults import ArchiveFault
from open_workshop_storage.utils.archives.zip_headers import DEFLATE, LOCAL_HEADER, STORED, local_header_length
from open_workshop_storage.utils.http.media_types import media_type
from open_workshop_storage.utils.http.request_headers import prefers_gzip

_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Deflate, no time, no name, an unknown system (RFC 1952, section 2.3)."""
_GZIP_TAIL = struct.Struct("<II")
_THREADS = 2


class _Entry(NamedTuple):
    """A file in a ZIP, whose local header has been looked at.

    Attributes:
        data: Where its packed data are.
        content_type: As for a stored file of its name.
    """

    size: int
    crc: int
    is_deflated: bool
    data: range
    content_type: str


class Contents:
    """Lists what is in stored ZIPs, and sends single files of them.

    What Deflate has packed goes to clients that take gzip as it is, since gzip is Deflate with a head and a tail.

    Args:
        files: What the ZIPs are among.
        downloads: Knows which client may have which file, and sends.
    """

    def __init__(self, files: Files, downloads: Downloads) -> None:
        self._files = files
        self._downloads = downloads
        self._directories = ZipDirectories()
        self._threads = ThreadPoolExecutor(_THREADS, "inflating")

    async def answer(
        self, storage_type: str, path: str, entry: str | None, scope: Scope, receive: Receive, send: Send
    ) -> Repeatable | None:
        """Answer a GET or HEAD request for what is in a stored ZIP.

        Args:
            entry: The name of the file in it that is to be sent; None for the listing.

        Returns:
            The answer, if it consists of bytes of the ZIP.

        Raises:
            StorageError: As in `Downloads.answer`.
            EntryMissing: The ZIP has no file of that name.
            UnsupportedFormat: As in `ZipDirectories.of`, or the file is packed by another method than Deflate, its
                headers contradict each other, or its first bytes are not what they say.
            ServiceUnavailable: As in `ZipDirectories.of`.
            ArchiveFault: Its later bytes are not; the server then breaks the connection off.
            OSError: The ZIP cannot be read.
        """
        file, requested = await self._downloads.find(storage_type, path, scope)
        if entry is None:
            contents = self._directories.known(file)
            if contents is None:
                async with self._files.open(file, range(file.size)[-MOST_READ_BYTES:]) as opened:
                    file, contents = opened.file, await self._directories.of(opened)
            plan, listing = self._listing(file, contents, requested, scope)
            await self._downloads.send(plan, listing, scope, receive, send)
            return None
        async with self._files.open(file, range(0)) as opened:
            plan, source = await self._entry(opened, entry, requested, scope)
            await self._downloads.send(plan, source, scope, receive, send)
            return None if isinstance(source, InflatedEntry) else Repeatable(opened.file, plan)

    async def aclose(self) -> None:
        """Give up what is being inflated."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _listing(
        self, file: StoredFile, contents: ZipContents, requested: Mapping[str, str], scope: Scope
    ) -> tuple[Plan, Source | None]:
        """Return the answer with what is in a ZIP, and what its body is read of, if it has one."""
        summary = {"path": file.name, "bytes": file.size, "unpacked_bytes": contents.unpacked_bytes, "entries": []}
        head, tail = json.dumps(summary, separators=(",", ":"))[:-2].encode(), b"]}"
        size = len(head) + len(contents.listing) + len(tail)
        content = Content(validators_of(file), size, "application/json", takes_ranges=False)
        plan = self._plan(file, content, requested, scope)
        if not _sends_content(plan):
            return plan, None
        return plan._replace(pieces=[head, range(len(contents.listing)), tail]), _Memory(contents.listing)

    async def _entry(
        self, opened: OpenedFile, name: str, requested: Mapping[str, str], scope: Scope
    ) -> tuple[Plan, Source | None]:
        """Return the answer with a file in a ZIP, and what its body is read of, if it has one."""
        entry = await self._located(opened, name)
        as_gzip = entry.is_deflated and prefers_gzip(_accept_encoding(scope))
        plan = self._plan(opened.file, _content(opened.file, entry, as_gzip), requested, scope)
        if not _sends_content(plan):
            return plan, None
        if entry.is_deflated and not as_gzip:
            return plan, await self._inflated(opened, entry)
        if as_gzip:
            pieces: list[Piece] = [_GZIP_HEAD, entry.data, _GZIP_TAIL.pack(entry.crc, entry.size & 0xFFFFFFFF)]
        else:
            pieces = [_shifted(piece, entry.data) for piece in plan.pieces]
        return plan._replace(pieces=pieces), opened

    def _plan(self, file: StoredFile, content: Content, requested: Mapping[str, str], scope: Scope) -> Plan:
        return plan_content(scope["method"], requested, content, self._downloads.cache_control(file))

    async def _located(self, opened: OpenedFile, name: str) -> _Entry:
        contents = await self._directories.of(opened)
        header = contents.find(name)
        if header is None:
            raise EntryMissing
        if header.method not in (STORED, DEFLATE):
            raise UnsupportedFormat
        try:
            length = local_header_length(await _bytes_of(opened, header.offset, LOCAL_HEADER.size))
            data = contents.data_of(header, await _bytes_of(opened, header.offset, length))
        except ArchiveFault:
            raise UnsupportedFormat from None
        # Some writers say Deflate of what they have not packed at all, since there is nothing.
        is_deflated = header.method == DEFLATE and bool(header.packed_bytes or header.unpacked_bytes)
        return _Entry(header.unpacked_bytes, header.crc, is_deflated, data, media_type(name))

    async def _inflated(self, opened: OpenedFile, entry: _Entry) -> InflatedEntry:
        inflated = InflatedEntry(opened, entry.data, entry.size, entry.crc, self._threads)
        try:
            await inflated.begin()
        except ArchiveFault:
            raise UnsupportedFormat from None
        return inflated


class _Memory:
    """Bytes that are sent like those of a file; an implementation of the block sender's `Source`."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, offset: int, length: int) -> bytes:
        """Return these bytes."""
        return self._content[offset : offset + length]


def _content(file: StoredFile, entry: _Entry, as_gzip: bool) -> Content:
    """Return what is sent of an entry; its tag depends on nothing else in the ZIP."""
    tag, size = f"{entry.crc:08x}-{entry.size:x}", entry.size
    headers = [(b"x-entry-crc32", b"%08x" % entry.crc)]
    if as_gzip:
        # Other packed data of the same content are other bytes.
        tag += f"-{len(entry.data):x}-gzip"
        size = len(_GZIP_HEAD) + len(entry.data) + _GZIP_TAIL.size
        headers.append((b"content-encoding", b"gzip"))
    validators = replace(validators_of(file), etag=f'"{tag}"')
    return Content(
        validators,
        size,
        entry.content_type,
        headers,
        takes_ranges=not entry.is_deflated,
        varies=entry.is_deflated,
    )


def _sends_content(plan: Plan) -> bool:
    return any(isinstance(piece, range) for piece in plan.pieces)


def _shifted(piece: Piece, data: range) -> Piece:
    return data[piece.start : piece.stop] if isinstance(piece, range) else piece


def _accept_encoding(scope: Scope) -> str:
    """Return the value of the header; empty if there is none, which means the same here."""
    values = [value for name, value in scope["headers"] if name == b"accept-encoding"]
    return b",".join(values).decode("latin-1")


async def _bytes_of(opened: OpenedFile, offset: int, length: int) -> bytes:
    """Return so many bytes, fewer only at the end of the file."""
    found = b""
    while length > len(found) and (block := await opened.read(offset + len(found), length - len(found))):
        found += block
    return found
