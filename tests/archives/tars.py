"""Tars with members of every type."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member for `tar_from`, with fields of `tarfile.TarInfo` set."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_from(members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar."""
    target = io.BytesIO()
    with tarfile.TarFile(fileobj=target, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def v7_tar_of(name: bytes, content: bytes, mode: bytes = b"   644 \0", signed: bool = False) -> bytes:
    """Return a tar of one file as Unix V7 wrote it, without a magic number.

    Args:
        signed: Whether its sum takes bytes for signed numbers.
    """
    info = tarfile.TarInfo()
    info.size = len(content)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:257]) + bytes(255)
    header[: len(name)], header[100:108], header[156] = name, mode, 0
    return _with_checksum(header, signed) + content + bytes(-len(content) % 512 + 1024)


def long_name(size: int) -> bytes:
    """Return a header that gives the next entry a name of that many bytes, with the name."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT) + b"x" * size + bytes(-size % tarfile.BLOCKSIZE)


def negative_size() -> bytes:
    """Return the header of a file whose size points back before the archive."""
    header = bytearray(tarfile.TarInfo("negative").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 8 + (-5120).to_bytes(4, "big", signed=True)
    return _with_checksum(header)


def sparse(name: str, size: int) -> bytes:
    """Return the header of a file of that size that is one hole, and so has no data."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % size
    return _with_checksum(header)


def _with_checksum(header: bytearray, signed: bool = False) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) - signed * 256 * sum(byte > 0x7F for byte in header))
    return bytes(header)
