"""The interface to permanent files, and their types; `services/storage/local.py` keeps them on a disk.

Permanent files are looked up, opened, placed and removed here only, and known everywhere else by their names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from open_workshop_storage.core.errors import FileMissing, InvalidType

TEMP = "temp"
"""The folder that holds all workspaces, beside those of permanent files."""

MOST_READ_BYTES = 256 * 1024
"""How many bytes are read at once, where the store does not say otherwise."""

Address = tuple[str, str]
"""A storage type and a path below its folder, as they came from outside."""


class StorageType(StrEnum):
    """What a stored file is: the first part of its path below the storage root (docs/API.md, "Answers")."""

    ARCHIVE = "archive"
    RESOURCE = "resource"
    AVATAR = "avatar"


MODS = f"{StorageType.ARCHIVE}/mods"
"""The folder below which files are protected."""
_OF_MOD = re.compile(rf"{MODS}/([0-9]+)/.", re.DOTALL)
_TYPES_BY_NAME = {str(storage_type): storage_type for storage_type in StorageType}


def known_type(name: str) -> StorageType:
    """Return the type of that name.

    Raises:
        InvalidType: There is none.
    """
    storage_type = _TYPES_BY_NAME.get(name)
    if storage_type is None:
        raise InvalidType
    return storage_type


class StoredFile(NamedTuple):
    """A permanent file as it was when it was looked up.

    Attributes:
        name: Where it is below the storage root, as `archive/mods/7/main.zip`.
        size: Bytes.
        modified_ns: Time of the last change, nanoseconds since the epoch.
        version: Differs from that of every other version of the file; what is in it is the store's own.
        mod_id: The mod that decides which clients may have it; None if all may (docs/API.md,
            "GET `/download/{type}/{path}`").
        changed_ns: Time of the last change of the file or of what is kept with it, nanoseconds since the epoch.
    """

    name: str
    storage_type: StorageType
    size: int
    modified_ns: int
    version: tuple[int | str, ...]
    mod_id: str | None
    changed_ns: int = 0

    @property
    def tag(self) -> str:
        """What an entity tag says of the version: the store's own text, else what nginx says of a file on a disk.

        nginx may then send such a file without asking, and a client that has it from there is still recognised here.
        """
        own = self.version[0]
        return own if isinstance(own, str) else f"{self.modified_ns // 10**9:x}-{self.size:x}"

    @property
    def key(self) -> bytes:
        """16 bytes for this version in place of all that is known of it, for caches, whose keys must be small."""
        content = f"{self.name}\0{self.version}".encode(errors="surrogateescape")
        return hashlib.blake2b(content, digest_size=16).digest()


def protecting_mod(name: str) -> str | None:
    """Return the id of the mod that decides which clients may have a file; None if all may.

    Args:
        name: Where the file is below the storage root, by no link.

    Raises:
        FileMissing: It is below `archive/mods/`, but not below a folder there that is named by ASCII digits.
    """
    if not name.startswith(f"{MODS}/"):
        return None
    found = _OF_MOD.match(name)
    if found is None:
        raise FileMissing
    return found[1]


class Facts(NamedTuple):
    """What is kept with a file, so that it need not be read again.

    Attributes:
        unpacked_bytes: Of an archive, the sum of its entries' unpacked sizes; None of another file.
        sha256: The SHA-256 of the whole file, as 64 lower-case hex digits; None if it was not computed.
    """

    unpacked_bytes: int | None = None
    sha256: str | None = None


class OpenedFile(Protocol):
    """One version of a stored file, open for reading even after another takes its place.

    Attributes:
        file: What was opened: the file that was looked up, or one that has replaced it since.
    """

    file: StoredFile

    async def read(self, offset: int, length: int) -> bytes | bytearray:
        """Read up to `length` bytes.

        Returns:
            At least one byte, unless the file ends at `offset`, and at most `Files.block_bytes`. They may change with
            the next read of any file, so a caller that keeps them beyond an `await` has to copy them.

        Raises:
            OSError: They cannot be read.
        """


class ReopenedFile(OpenedFile, Protocol):
    """A file that is open until it is closed."""

    def close(self) -> None:
        """Close it."""


class Complaint(NamedTuple):
    """What is wrong with a store.

    Attributes:
        is_fault: Whether something does not work because of it.
        text: What it is like, and what to do.
    """

    is_fault: bool
    text: str


class Files(Protocol):
    """All permanent files.

    Attributes:
        block_bytes: How many bytes of a file are best read at once, which is also the most that one read returns.
        fetches_on_opening: Whether a file that is opened begins to come in from elsewhere.

    Raises:
        ServiceUnavailable: By each method that looks at files: the store is away or broken.
    """

    block_bytes: int
    fetches_on_opening: bool

    async def resolve(self, storage_type: str, path: str) -> str:
        """Return the name that a type and a path from outside stand for; no file need have it.

        Raises:
            InvalidType: No such type.
            PathOutsideStorage: The path leaves its type's folder.
            BadRequest: The path cannot name a file: it is empty, a folder's (`a/`), over-long, has a NUL.
        """

    async def find(self, storage_type: str, path: str) -> StoredFile:
        """Look up an existing file by a type and a path from outside. What is found decides everything after.

        Raises:
            InvalidType: No such type.
            PathOutsideStorage: The path leaves its type's folder.
            FileMissing: No such file, or it is a folder, or its name is not one a file can have.
        """

    async def find_all(self, addresses: Collection[Address]) -> Mapping[Address, StoredFile]:
        """Look up many files; those that `find` would refuse are left out."""

    def open(self, file: StoredFile | Address, part: range | None = None) -> AbstractAsyncContextManager[OpenedFile]:
        """Open a file, or what has replaced it, and close it after the block.

        Args:
            file: As it was looked up; or an address, to look it up in the same step.
            part: The positions that will be read first; None for all.

        Raises:
            FileMissing: It went away since it was looked up.
            StorageError: What `find` raises for that address.
            OSError: It cannot be opened.
        """

    def reopen(self, file: StoredFile) -> ReopenedFile | None:
        """Open a file if it is as it was looked up, its protection included, and is there by its name without links.

        The caller closes it.

        Returns:
            None if it has changed, or if that is not known at once.
        """

    def local_copy(self, file: StoredFile, *, ends_only: bool = False) -> AbstractAsyncContextManager[Path]:
        """Give a path of this host's at which a file can be read by other programs until the block ends.

        The file there must not be changed. It may be gone, or another version.

        Args:
            ends_only: Whether the first 64 KiB and the last 16 MiB are enough, which hold an archive's directory as a
                rule; what lies between may be zeros.
        """

    async def facts(self, file: StoredFile, *, even_if_edited: bool = False) -> Facts | None:
        """Return what was kept with this version of a file; None if it was nothing.

        This is done for many downloads.

        Args:
            even_if_edited: Whether what was kept with the file before it was edited in its place is returned, too.
        """

    async def keep(self, file: StoredFile, facts: Facts) -> bool:
        """Keep facts with this version of a file, in place of what was kept with it.

        The file may count as another version from then on, of the same content.

        Returns:
            Whether they are kept: the file may have been edited or replaced, or the store may not keep facts.

        Raises:
            FileMissing: It went away since it was looked up.
        """

    def every_file(self) -> AsyncIterator[StoredFile]:
        """Yield all files, type by type; those that are put or deleted meanwhile may or may not be among them."""

    async def size_and_facts(self, name: str) -> tuple[int, Facts | None]:
        """Return the size in bytes of the file of a name, and what was kept with this version of it, as `facts` does.

        Raises:
            FileMissing: There is none.
        """

    async def put(self, source: Path, name: str, facts: Facts | None = None) -> int:
        """Move a finished file of this host to its permanent place, durably and in one step for readers.

        The source is gone afterwards.

        Args:
            name: As `resolve` returns it. A file of that name is replaced.
            facts: Kept with the file, where the store can.

        Returns:
            The file's size in bytes.

        Raises:
            FileMissing: There is no source.
            BadRequest: The name is a folder's, or leads through a file.
            NoSpace: The disk is full, or would be down to its reserve; nothing is left behind.
        """

    async def delete(self, name: str) -> None:
        """Remove a file, and then the folders that are empty without it, up to its type's folder.

        Args:
            name: As `resolve` returns it.

        Raises:
            FileMissing: There is no such file, or it is a folder.
        """

    async def is_available(self, *, for_writing: bool) -> bool:
        """Return whether the store can be read and, if asked for, written."""

    async def complaints(self) -> list[Complaint]:
        """Return what is wrong with the store, for its operator. Nothing is changed."""

    async def remove_leftovers(self, older_than_seconds: float) -> None:
        """Remove what `put` left unfinished when its process died."""
