"""Reads and unpacks tars, forwards only, so that one pass judges an entry and writes it.

The parser that judges is the one that writes: no second one could see other entries. What is known of the insides of
`tarfile` stands here.
"""

from __future__ import annotations

import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, TypeVar, cast

from open_workshop_storage.utils.archives.decompression import Decompressed
from open_workshop_storage.utils.archives.entry_rules import Entries, code_page_of, decoded, is_utf8, refuse_special
from open_workshop_storage.utils.archives.faults import CorruptData, CutOff
from open_workshop_storage.utils.archives.kinds import Kind, refuse_archive

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
_NO_ENTRIES = frozenset({b"V", b"A"})
"""Labels of volumes, and access control lists as Solaris writes them."""
_FOLDER_OF_BACKUP = b"D"
"""A folder with the names in it as its content, as GNU tar writes it with --listed-incremental."""
_MAX_MTIME = 2**32
_CPU_SECONDS_PER_STEP = 3
"""Far more than one header or chunk takes: some versions of `tarfile` need hours for one header (CVE-2024-6232)."""


def inspect_tar(file: BinaryIO, max_bytes: int, max_entries: int) -> int:
    """Judge a tar by its headers; return its unpacked bytes. Blocks.

    Args:
        max_bytes, max_entries: As for `Entries`.

    Raises:
        ArchiveFault: It is unsafe, corrupt, cut off or too large.
        OSError: It cannot be read.
    """
    with _limited_steps():
        entries = _TarEntries(file, Kind.TAR, max_bytes, max_entries)
        for _, member in _members(_Source(file, Kind.TAR)):
            entries.place(member)
    return entries.unpacked_bytes


def unpack_tar(file: BinaryIO, kind: str, max_bytes: int, max_entries: int) -> int:
    """Write a tar's files and folders below the current folder, and read the tar to its end. Blocks.

    Of modes, the owner's right to execute is kept; of times, the last modification's.

    Args:
        file: Open at its start.
        kind: The name of `Kind.TAR`, or of the compression that the tar is in.
        max_bytes, max_entries: As for `Entries`.

    Returns:
        The bytes in all files.

    Raises:
        ArchiveFault: It is unsafe, corrupt, cut off or too large. What has been written is to be thrown away.
        OSError: It cannot be read, or a file cannot be written.
    """
    with _limited_steps():
        entries = _TarEntries(file, Kind[kind], max_bytes, max_entries)
        source = _Source(file, Kind[kind])
        for archive, member in _members(source):
            path = os.path.join(".", *entries.place(member))
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _write(path, member, _content(source, archive, member))
        source.drain()
    return entries.unpacked_bytes


class _TarEntries(Entries):
    """Takes the members of a tar.

    What names are in that are not UTF-8, only all of them together tell: the first one has them read ahead.
    """

    def __init__(self, file: BinaryIO, kind: Kind, max_bytes: int, max_entries: int) -> None:
        super().__init__(max_bytes, max_entries)
        self._file = file
        self._kind = kind
        self._code_page: str | None = None

    def place(self, member: tarfile.TarInfo) -> list[str]:
        """Count a member, and return the parts of its name; raises as `add` and `require_short_names`."""
        raw = _raw_name(member)
        if self._code_page is None and not is_utf8(raw):
            self._code_page = self._read_ahead()
        name = decoded(raw, self._code_page or "")
        if member.isdir():
            parts = self.add(name, 0, folder=True)
        else:
            parts = self.add(name.rstrip("/\\"), member.size, folder=False)
        self.require_short_names()
        return parts

    def _read_ahead(self) -> str:
        position = self._file.tell()
        self._file.seek(0)
        code_page = code_page_of(_raw_name(member) for _, member in _members(_Source(self._file, self._kind)))
        self._file.seek(position)
        return code_page


def _raw_name(member: tarfile.TarInfo) -> bytes:
    return member.name.encode("utf-8", "surrogateescape")


def _members(source: _Source) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield files and folders."""

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
        if member.type in _NO_ENTRIES:
            continue
        if member.type == _FOLDER_OF_BACKUP:
            member.type = tarfile.DIRTYPE
        refuse_special(0, is_link=not (member.isdir() or member.isreg()))
        yield archive, member
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


def _write(path: str, member: tarfile.TarInfo, content: Iterator[bytes]) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        for chunk in content:
            file.write(chunk)
    mtime = int(member.mtime) if 0 <= member.mtime < _MAX_MTIME else 0
    os.utime(path, (mtime, mtime))


@contextmanager
def _limited_steps() -> Iterator[None]:
    """Have the kernel end this process if a step takes too much CPU time; `_begin_step` begins the next one."""
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _begin_step() -> None:
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS_PER_STEP)


class _Source:
    """A tar's bytes, read forwards, as a file that the library accepts."""

    def __init__(self, file: BinaryIO, kind: Kind) -> None:
        self.last_read = b""
        self._file = file if kind is Kind.TAR else Decompressed(file, kind)
        self._position = 0
        self._allowed = _MAX_HEADER_BYTES

    def allow_header(self) -> None:
        """Let the library read the headers of one more entry."""
        self._allowed = min(self._allowed + _USUAL_HEADER_BYTES, _MAX_HEADER_BYTES)

    @contextmanager
    def content_of(self, size: int) -> Iterator[None]:
        """Let the library read a file of this size, in pieces, until the block ends."""
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
        if isinstance(self._file, Decompressed):
            for _ in self.chunks(gap):
                pass
        else:
            self._file.seek(gap, os.SEEK_CUR)
            self._position = position

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
            _begin_step()
            yield chunk

    def drain(self) -> None:
        """Read what follows the end, which checks the checksums of what it is compressed with.

        Raises:
            CorruptData: Another archive follows, or far more than padding.
        """
        rest = self._rest()
        refuse_archive(rest)
        for _ in rest:
            pass

    def _rest(self) -> Iterator[bytes]:
        left = _MAX_PADDING_BYTES
        while chunk := self._file.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise CorruptData("more after the end than padding")
            _begin_step()
            yield chunk
