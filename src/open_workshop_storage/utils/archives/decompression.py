"""Decompresses gzip, bzip2, xz and Zstandard to their end, and judges what stands behind it."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import BinaryIO

from open_workshop_storage.utils.archives.faults import CorruptData, CutOff, UnreadableMethod
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_BLOCK_BYTES = 256 * 1024
_MEMORY_BYTES, _WINDOW_LOG = 1024**3, 30
_SAMPLE_BYTES = 4 * 1024 * 1024


class ZlibStream:
    """A gzip or zlib stream that is used as the other decompressors are.

    Args:
        window_bits: As for `zlib.decompressobj`.
    """

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out before something goes in."""
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What stands behind the end of the stream."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take the next bytes in, and return what comes out, up to so many bytes."""
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor | zstd.ZstdDecompressor | ZlibStream


class Decompressed:
    """What is in a compressed file: one stream, or several one behind the other, and padding at the end.

    Args:
        file: Open at its start, with data of this kind.
        kind: One of `COMPRESSED`.
    """

    def __init__(self, file: BinaryIO, kind: Kind) -> None:
        self._file = file
        self._kind = kind
        self._decompressor: Decompressor | None = _DECOMPRESSORS[kind]()
        self._input = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, up to this many; nothing at the end. Blocks.

        Raises:
            CutOff: The file ends within a stream.
            CorruptData: A stream is broken, or an archive or stream of another kind follows.
            UnreadableMethod: It would take too much memory.
            OSError: The file cannot be read.
        """
        while self._decompressor is not None:
            if self._decompressor.eof:
                self._decompressor = self._next_stream(self._decompressor.unused_data)
                continue
            if self._decompressor.needs_input and not self._input:
                self._input = self._file.read(_BLOCK_BYTES)
                if not self._input:
                    raise CutOff
            data, self._input = self._input, b""
            if block := _decompress(self._decompressor, data, size):
                return block
        return b""

    def _next_stream(self, rest: bytes) -> Decompressor | None:
        while not (rest := rest.lstrip(b"\0")):
            rest = self._file.read(_BLOCK_BYTES)
            if not rest:
                return None
        if len(rest) < HEAD_BYTES:
            rest += self._file.read(_BLOCK_BYTES)
        kind = kind_of(rest[:HEAD_BYTES])
        if kind is Kind.PLAIN:
            # Padding too, for all tools but xz; a tar that is not whole by then is cut off.
            return None
        if kind is not self._kind:
            raise CorruptData("another archive behind the end")
        self._input = rest
        return _DECOMPRESSORS[self._kind]()


def holds_tar(file: BinaryIO, kind: str) -> bool:
    """Tell whether a compressed file begins as a tar does. Blocks.

    Args:
        kind: The name of one of `COMPRESSED`.

    Raises:
        ArchiveFault: It breaks off, or turns out to be broken, too early to tell.
    """
    content = Decompressed(file, Kind[kind])
    head = b""
    while len(head) < HEAD_BYTES and (block := content.read(HEAD_BYTES - len(head))):
        head += block
    is_tar = kind_of(head) is Kind.TAR
    left = 0 if is_tar else _SAMPLE_BYTES
    # A broken block looks like anything until its checksum is reached.
    while left > 0 and (block := content.read(_BLOCK_BYTES)):
        left -= len(block)
    return is_tar


def zstd_stream(window_log: int) -> Decompressor:
    """Return a decompressor whose window has at most two to this power of bytes."""
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})


_DECOMPRESSORS: dict[Kind, Callable[[], Decompressor]] = {
    Kind.GZIP: lambda: ZlibStream(GZIP_WINDOW_BITS),
    Kind.BZIP2: bz2.BZ2Decompressor,
    Kind.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES),
    Kind.ZSTD: lambda: zstd_stream(_WINDOW_LOG),
}


def _decompress(decompressor: Decompressor, data: bytes, max_length: int) -> bytes:
    try:
        return decompressor.decompress(data, max_length)
    except lzma.LZMAError as error:
        if "limit" in str(error):
            raise UnreadableMethod(str(error)) from error
        raise CorruptData(str(error)) from error
    except MemoryError as error:
        raise UnreadableMethod("more memory than there is") from error
    # The bz2 module says so of broken data.
    except (zlib.error, zstd.ZstdError, OSError, EOFError, ValueError) as error:
        raise CorruptData(str(error)) from error
