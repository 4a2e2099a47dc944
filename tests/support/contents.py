"""What is in a file of any kind that the storage takes, read without the storage's own code."""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
import tarfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BLOCK_BYTES = 1 << 20
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MAGIC_OF_WHAT_7Z_LISTS = (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"


class Content(NamedTuple):
    """One file: its size in bytes and its CRC-32."""

    size: int
    crc: int


Contents = dict[str, Content]
"""Files by name; folders are left out."""

ITSELF = ""
"""The name that a file which is no archive has among its own contents."""


def contents_of(path: Path) -> Contents:
    """Return what is in an archive; a file that is no archive holds `ITSELF`."""
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(_ZIP_MAGIC):
        return _in_zip(path)
    if magic.startswith(_MAGIC_OF_WHAT_7Z_LISTS):
        return _as_7z_lists(path)
    try:
        return _in_tar(path, is_zstandard=magic.startswith(_ZSTANDARD_MAGIC))
    except tarfile.TarError:
        with path.open("rb") as file:
            return {ITSELF: _content(file)}


def _in_zip(path: Path) -> Contents:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: Content(info.file_size, info.CRC) for info in archive.infolist() if not info.is_dir()}


def _as_7z_lists(path: Path) -> Contents:
    listing = subprocess.run(
        ["7z", "l", "-slt", "-ba", "--", str(path)],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout.decode(errors="surrogateescape")
    contents = {}
    for block in listing.strip().split("\n\n"):
        entry = dict(line.partition(" = ")[::2] for line in block.strip().splitlines())
        if entry.get("Folder") != "+" and not entry.get("Attributes", "").startswith("D"):
            contents[entry["Path"]] = Content(int(entry["Size"] or 0), int(entry["CRC"] or "0", 16))
    return contents


def _in_tar(path: Path, *, is_zstandard: bool) -> Contents:
    contents = {}
    with ExitStack() as stack:
        if is_zstandard:
            # tarfile itself reads it only from Python 3.14 on.
            unpacked = stack.enter_context(zstd.open(path))
            archive = stack.enter_context(tarfile.open(fileobj=unpacked, mode="r|"))
        else:
            archive = stack.enter_context(tarfile.open(path))
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                contents[posixpath.normpath(member.name)] = _content(file)
    return contents


def _content(file: IO[bytes]) -> Content:
    size = crc = 0
    while block := file.read(_BLOCK_BYTES):
        size += len(block)
        crc = zlib.crc32(block, crc)
    return Content(size, crc)
