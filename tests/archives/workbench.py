"""Takes archives through the steps that a transfer takes them through."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.archives.inspection import Inspection

Content = dict[str, bytes | None]
"""Files by name, and folders with None; a folder's name has no slash at its end."""


def ignore(percent: float) -> None:
    """Do nothing with a percentage."""


@dataclass
class Workbench:
    """One archive's steps, in a folder of its own.

    Args:
        archives: What is tested.
        folder: Where all files are.
    """

    archives: Archives
    folder: Path

    @property
    def source(self) -> Path:
        """The received file."""
        return self.folder / "source"

    @property
    def extracted(self) -> Path:
        """Where it is extracted."""
        return self.folder / "extracted"

    @property
    def packed(self) -> Path:
        """What it is packed into."""
        return self.folder / "packed.zip"

    async def inspect(self, sent: bytes, limit: int = 0, name: str = "file.bin") -> Inspection:
        """Receive a file, and inspect it."""
        self.source.write_bytes(sent)
        return await self.archives.inspector.inspect(self.source, name, limit)

    async def extract(
        self,
        inspection: Inspection,
        limit: int = 0,
        name: str = "file.bin",
        on_percent: Callable[[float], None] = ignore,
    ) -> int:
        """Extract the received file; return the unpacked size in bytes."""
        return await self.archives.repacker.extract(self.source, inspection, self.extracted, name, limit, on_percent)

    async def pack(self, level: int = 3, on_percent: Callable[[float], None] = ignore) -> tuple[int, str]:
        """Pack what has been extracted; return the size and the digest of the ZIP."""
        return await self.archives.repacker.pack(self.extracted, self.packed, level, on_percent)

    async def is_kept(self, sent: bytes) -> bool:
        """Return whether an archive may stay as it is; if so, it has passed its test."""
        inspection = await self.inspect(sent)
        if inspection.keep:
            await self.archives.inspector.test(self.source, inspection)
        return inspection.keep

    async def repack(self, sent: bytes, limit: int = 0, name: str = "file.bin") -> int:
        """Inspect, extract and pack an archive that may not stay as it is; return the unpacked size in bytes."""
        inspection = await self.inspect(sent, limit, name)
        assert not inspection.keep
        unpacked = await self.extract(inspection, limit, name)
        packed = await self.pack()
        assert packed == (self.packed.stat().st_size, sha256(self.packed.read_bytes()).hexdigest())
        assert self.source.read_bytes() == sent
        return unpacked

    async def accept(self, sent: bytes, limit: int = 0) -> None:
        """Take an archive as far as it has to come to be accepted."""
        if not await self.is_kept(sent):
            await self.repack(sent, limit)

    def packed_content(self) -> Content:
        """Return what the packed ZIP holds, each file read to its end and checked."""
        with zipfile.ZipFile(self.packed) as archive:
            return {
                info.filename.rstrip("/"): None if info.is_dir() else archive.read(info) for info in archive.infolist()
            }


def content_of(folder: Path) -> Content:
    """Return what a folder holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }
