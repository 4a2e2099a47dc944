"""Archives made on the spot."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Entries = dict[str, bytes]

SMALL_MOD: Entries = {
    "mod/descriptor.mod": b'name="A small mod"\n' * 50,
    "mod/textures/grass.bin": random.Random(1).randbytes(20_000),
    "mod/localisation/über uns.txt": "Grüße, 你好\n".encode() * 300,
    "mod/empty.txt": b"",
}
"""Text, incompressible bytes, a name beyond ASCII and an empty file."""

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}
"""What compresses bytes, by the last part of such a file's name."""


def zip_of(entries: Entries, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in entries.items():
            # Without the present time in it, so that the same entries give the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return target.getvalue()


def tar_of(entries: Entries) -> bytes:
    """Return a tar."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def compressed_tar_of(entries: Entries, compression: str) -> bytes:
    """Return a tar compressed by `gz`, `bz2`, `xz` or `zst`."""
    return COMPRESS[compression](tar_of(entries))


def seven_zip_of(entries: Entries, *options: str) -> bytes:
    """Return what `7z a` makes, a `.7z` unless the options say otherwise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for entry, content in entries.items():
            path = folder / "content" / entry
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        command = ["7z", "a", "-bso0", *options, str(folder / "archive"), "."]
        subprocess.run(command, cwd=folder / "content", check=True, stdin=subprocess.DEVNULL)
        (made,) = folder.glob("archive*")
        return made.read_bytes()


def entries_of(archive: bytes) -> Entries:
    """Return the files in a ZIP, each read to its end and checked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist() if not info.is_dir()}
