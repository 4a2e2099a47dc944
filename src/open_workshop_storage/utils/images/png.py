"""Leaves of a PNG what its picture needs, so that nothing else in it can break it (PNG, third edition)."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import BinaryIO

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 16 * 1024 * 1024

_GREY, _RGB, _PALETTE = 0, 2, 3
_TRANSPARENCY_BYTES = {_GREY: range(2, 3), _RGB: range(6, 7), _PALETTE: range(1, 257)}
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


@dataclass(frozen=True)
class _Chunk:
    """A chunk and where it is; `data` is None for a critical or broken one, or one that is cut off."""

    kind: bytes
    start: int
    end: int
    data: bytes | None

    @property
    def critical(self) -> bool:
        return self.kind[:1].isupper()


def reduced(file: BinaryIO) -> tuple[BinaryIO, tuple[int, int, int] | None]:
    """Return a PNG without the ancillary chunks that its picture does not need, or whose checksum is wrong.

    Texts, sizes and times go, and profiles that are broken or larger than `MAX_PROFILE_BYTES`. An animation of which a
    chunk is broken, missing or out of its order becomes a still. A transparent grey of 2 or 4 bits is given as it is
    with 8, which Pillow expects.

    Args:
        file: Open for reading; returned itself, at its start, if it needs no change.

    Returns:
        With it, the transparent colour of a still of 16-bit RGB, if it has one.
    """
    file.seek(len(MAGIC) + 16)
    depth, colour = file.read(2).ljust(2, b"\0")
    size = file.seek(0, os.SEEK_END)
    chunks = list(_chunks(file, size))
    # Without its end, it may be cut off in the middle, which is refused.
    still = any(chunk.kind == b"IEND" for chunk in chunks) and not _plays(chunks)
    kept: list[_Chunk] = []
    replaced: dict[_Chunk, bytes] = {}
    for chunk in chunks:
        if chunk.critical or (chunk.kind in _ANIMATION and not still) or (chunk.kind == b"eXIf" and chunk.data):
            kept.append(chunk)
        elif chunk.kind == b"iCCP" and _is_profile(chunk.data or b""):
            kept.append(chunk)
        elif chunk.kind == b"tRNS" and len(chunk.data or b"") in _TRANSPARENCY_BYTES.get(colour, ()):
            kept.append(chunk)
            if colour == _GREY and depth in (2, 4):
                replaced[chunk] = _scaled(chunk.data or b"", depth)
    deep = None
    kinds = {chunk.kind: chunk.data for chunk in kept}
    if (depth, colour) == (16, _RGB) and (data := kinds.get(b"tRNS")) and b"acTL" not in kinds:
        deep = struct.unpack(">HHH", data)
    if len(kept) == len(chunks) and not replaced:
        file.seek(0)
        return file, deep
    result = BytesIO()
    result.write(MAGIC)
    for chunk in kept:
        file.seek(chunk.start)
        result.write(replaced.get(chunk) or file.read(chunk.end - chunk.start))
    result.seek(0)
    return result, deep


def _chunks(file: BinaryIO, size: int) -> Iterator[_Chunk]:
    """Yield all chunks up to the end, or to where the file is cut off."""
    start = len(MAGIC)
    while start < size:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        end = start + 12 + length
        chunk = _Chunk(kind, start, end, None)
        if not chunk.critical and end <= size:
            data, checksum = file.read(length), file.read(4)
            if zlib.crc32(kind + data) == int.from_bytes(checksum, "big"):
                chunk = _Chunk(kind, start, end, data)
        yield chunk
        if kind == b"IEND":
            return
        start = end


def _plays(chunks: list[_Chunk]) -> bool:
    """Tell whether an animation has all its frames, each with its data, in their order (section 11.3.6)."""
    announced = [chunk.data for chunk in chunks if chunk.kind == b"acTL"]
    numbered = [chunk.data for chunk in chunks if chunk.kind in (b"fcTL", b"fdAT")]
    order = [chunk.kind for chunk in chunks if chunk.kind in (b"IDAT", b"fcTL", b"fdAT")]
    return (
        [(data or b"")[:4] for data in announced] == [struct.pack(">I", order.count(b"fcTL"))]
        and [(data or b"")[:4] for data in numbered] == [struct.pack(">I", number) for number in range(len(numbered))]
        and all(pair[0] != b"fcTL" or pair[1] != b"fcTL" for pair in pairwise([*order, b"fcTL"]))
    )


def _is_profile(data: bytes) -> bool:
    """Tell whether an iCCP chunk holds a profile that can be unpacked (section 11.3.2.3)."""
    _, _, compressed = data.partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        return (
            compressed[:1] == b"\0" and bool(unpacking.decompress(compressed[1:], MAX_PROFILE_BYTES)) and unpacking.eof
        )
    except zlib.error:
        return False


def _scaled(data: bytes, depth: int) -> bytes:
    """Return a tRNS chunk for the same grey with 8 bits."""
    most = (1 << depth) - 1
    chunk = b"tRNS" + struct.pack(">H", (int.from_bytes(data, "big") & most) * 255 // most)
    return struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
