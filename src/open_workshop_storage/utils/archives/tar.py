"""Reads and unpacks a tar from a file or a pipe, forwards only, so that one pass judges it and writes it.

The parser that judges is the one that writes: no second one could see other entries.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

from open_workshop_storage.utils.archives.entries import Entries, decode_name
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff, UnsafeEntry

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024
_MAX_HEADER_BYTES = 1024 * 1024
"""What one entry's headers may take, extended ones and sparse maps included; the library holds them in memory."""
_USUAL_HEADER_BYTES = 4096
"""What headers may take on average, so that a small archive cannot be large work."""
_MAX_GLOBAL_HEADERS = 64
"""Fields that hold for all entries from there on; the library keeps them to the end."""
_MAX_PADDING_BYTES = 64 * 1024 * 1024
_END = bytes(tarfile.BLOCKSIZE)
_VOLUME_LABEL = b"V"
_MAX_MTIME = 2**32


def read_tar(path: Path, entries: Entries) -> None:
    """Judge a tar by its headers. Blocks.

    Args:
        entries: Takes every entry.

    Raises:
        ArchiveFault: It is unsafe, corrupt, cut off or too large.
        OSError: It cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        for _ in _members(_Source(file, lambda: None), entries):
            pass


def unpack_tar(file: BinaryIO, target: Path, entries: Entries, tick: Callable[[], None]) -> None:
    """Write a tar's files and folders below a folder, and read the tar to its end. Blocks.

    Of modes, the owner's right to execute is kept; of times, the last modification's.

    Args:
        file: Open for reading, without a buffer; need not be seekable.
        target: An empty folder. What it holds when this fails is to be thrown away.
        entries: Takes every entry before it is written.
        tick: Called after each mebibyte at the latest; may raise to end the work.

    Raises:
        ArchiveFault: It is unsafe, corrupt, cut off or too large.
        OSError: It cannot be read, or a file cannot be written.
    """
    source = _Source(file, tick)
    for archive, member, name in _members(source, entries):
        path = os.path.join(target, *(part for part in name.split("/") if part not in ("", ".")))
        if member.isdir():
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, member, _content(source, archive, member), tick)
    source.drain()


def _members(source: _Source, entries: Entries) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
    """Yield files and folders that keep the rules, each with its name."""

    def next_member() -> tarfile.TarInfo | None:
        source.allow_header()
        cast(Any, archive).members.clear()
        return archive.next()

    archive = _parsed(
        lambda: tarfile.TarFile(fileobj=cast(IO[bytes], source), encoding="utf-8", errors="surrogateescape")
    )
    while (member := _parsed(next_member)) is not None:
        if len(archive.pax_headers) > _MAX_GLOBAL_HEADERS:
            raise CorruptData("too many global headers")
        name = decode_name(member.name.encode("utf-8", "surrogateescape"))
        if member.isdir():
            entries.add(name, 0, folder=True)
        elif member.isreg():
            name = name.rstrip("/\\")
            entries.add(name, member.size, folder=False)
        elif member.type == _VOLUME_LABEL:
            continue
        else:
            raise UnsafeEntry("a link or special file")
        yield archive, member, name
    # The library takes a broken header for the end, too.
    if source.last_read != _END:
        raise CorruptData("no header where one should be")


def _parsed(step: Callable[[], T]) -> T:
    try:
        return step()
    except (
        tarfile.TarError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise CorruptData(repr(error)) from error


def _content(source: _Source, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    if not member.issparse():
        yield from source.chunks(member.size)
        return
    with source.content_of(member.size):
        content = _parsed(lambda: archive.extractfile(member))
        while content is not None and (chunk := _parsed(lambda: content.read(_CHUNK_BYTES))):
            yield chunk


def _write(path: str, member: tarfile.TarInfo, content: Iterator[bytes], tick: Callable[[], None]) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        for chunk in content:
            file.write(chunk)
            tick()
    mtime = int(member.mtime) if 0 <= member.mtime < _MAX_MTIME else 0
    os.utime(path, (mtime, mtime))


class _Source:
    """A tar's bytes, read forwards, as a file that the library accepts."""

    def __init__(self, file: BinaryIO, tick: Callable[[], None]) -> None:
        self.last_read = b""
        self._file = file
        self._tick = tick
        self._position = 0
        self._allowed = _MAX_HEADER_BYTES

    def allow_header(self) -> None:
        """Let the library read the headers of one more entry."""
        self._allowed = min(self._allowed + _USUAL_HEADER_BYTES, _MAX_HEADER_BYTES)

    @contextmanager
    def content_of(self, size: int) -> Iterator[None]:
        """Let the library read a file of this size, in pieces, meanwhile."""
        kept, self._allowed = self._allowed, size + _CHUNK_BYTES
        yield
        self._allowed = kept

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        self._allowed -= size
        if size < 0 or self._allowed < 0:
            raise CorruptData("headers that are too long")
        self.last_read = b"".join(self.chunks(size))
        return self.last_read

    def seek(self, position: int) -> None:
        gap = position - self._position
        if gap < 0:
            raise CorruptData("a header that points back")
        if self._file.seekable():
            self._file.seek(gap, os.SEEK_CUR)
            self._position = position
        else:
            for _ in self.chunks(gap):
                pass

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield exactly this many bytes, a bounded number at a time.

        Raises:
            CutOff: There are fewer.
        """
        while size:
            chunk = self._file.read(min(size, _CHUNK_BYTES))
            if not chunk:
                raise CutOff
            self._position += len(chunk)
            size -= len(chunk)
            self._tick()
            yield chunk

    def drain(self) -> None:
        """Read the padding at the end, so that whoever writes the other end of a pipe can finish."""
        padding = 0
        while chunk := self._file.read(_CHUNK_BYTES):
            padding += len(chunk)
            if padding > _MAX_PADDING_BYTES:
                raise CorruptData("more after the end than padding")
            self._tick()
