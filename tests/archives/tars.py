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


def _with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
