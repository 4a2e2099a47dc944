"""How packed files wait for their moves, which any host may carry out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from open_workshop_storage.core.changes import Packed
from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.errors import FileMissing, ServiceUnavailable
from open_workshop_storage.core.job import Job
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Replaced
from open_workshop_storage.services.storage.files import TEMP, Facts, Files
from open_workshop_storage.services.storage.workspaces import Workspaces


def facts_of(job: Job, packed: Packed | Job) -> Facts:
    """Return what is kept with a job's packed file."""
    is_archive = job.claims.transfer_kind is TransferKind.ARCHIVE
    return Facts(packed.unpacked_bytes if is_archive else None, packed.sha256)


class Staging(Protocol):
    """Packed files, from the end of packing until they are in their permanent places.

    A file is known by its job and by the name that the job's record has for it: its path in the workspace, whose
    first part is the run's.

    Attributes:
        home: Names this host, if only its own workers see its workspaces; None if those of all hosts do.

    Raises:
        ServiceUnavailable: By each method: the store is away.
    """

    home: str | None

    async def stage(self, job_id: str, file: str, facts: Facts) -> None:
        """Let any host put a file of this host's workspace in its place. The file itself stays.

        Args:
            facts: Kept with the file, where the store can.

        Raises:
            FileMissing: There is no such file.
        """

    async def place(self, job_id: str, file: str, name: str, facts: Facts) -> int:
        """Put a staged file in its permanent place, durably and in one step for readers; return its size in bytes.

        Doing it again does no harm, until the file is discarded.

        Args:
            name: As `Files.resolve` returns it. A file of that name is replaced.

        Raises:
            FileMissing: It is not there, or not any more.
            StorageError: As `Files.put` raises it.
        """

    def copy(self, job_id: str, file: str) -> AbstractAsyncContextManager[Path]:
        """Give a path of this host's at which a staged file can be read until the block ends.

        Raises:
            FileMissing: It is not there.
        """

    async def discard(self, job_id: str) -> None:
        """Remove what is staged of a job outside of the workspace."""

    async def idle(self, seconds: float) -> Sequence[str]:
        """Return the jobs of which something is staged outside of the workspaces, and nothing newer than that."""


class WorkspaceStaging:
    """Leaves packed files in the workspaces, on a disk that all hosts share; an implementation of `Staging`."""

    home: str | None = None

    def __init__(self, files: Files, workspaces: Workspaces) -> None:
        self._files = files
        self._workspaces = workspaces

    async def stage(self, job_id: str, file: str, facts: Facts) -> None:
        """Do nothing: the file is where any host can move it from."""

    async def place(self, job_id: str, file: str, name: str, facts: Facts) -> int:
        """Move the file itself; raises as `Staging.place`."""
        return await self._files.put(self._workspaces.folder(job_id) / file, name, facts)

    @asynccontextmanager
    async def copy(self, job_id: str, file: str) -> AsyncIterator[Path]:
        """Give the path of the file itself; raises as `Staging.copy`."""
        path = self._workspaces.folder(job_id) / file
        if not await asyncio.to_thread(path.exists):
            raise FileMissing
        yield path

    async def discard(self, job_id: str) -> None:
        """Do nothing: it goes with the workspace."""

    async def idle(self, seconds: float) -> Sequence[str]:
        """Return nothing."""
        return ()


class ObjectStaging:
    """Writes each packed file to an object that bears its run's name; an implementation of `Staging`.

    Args:
        home: Names this host.
    """

    def __init__(self, bucket: Bucket, workspaces: Workspaces, home: str) -> None:
        self.home: str | None = home
        self._bucket = bucket
        self._workspaces = workspaces

    async def stage(self, job_id: str, file: str, facts: Facts) -> None:
        """Write the file to the bucket; raises as `Staging.stage`."""
        await self._bucket.put(self._workspaces.folder(job_id) / file, _staged_name(job_id, file), facts)

    async def place(self, job_id: str, file: str, name: str, facts: Facts) -> int:
        """Have the store copy the object, and look at the copy; raises as `Staging.place`."""
        staged = await self._bucket.find(_staged_name(job_id, file))
        if staged.facts != facts:
            # Each run has a name of its own, so this is not what the record tells of.
            raise FileMissing
        try:
            await self._bucket.copy(staged, name, facts)
        except Replaced:
            raise FileMissing from None
        placed = await self._bucket.find(name)
        if (placed.size, placed.facts) != (staged.size, facts):
            raise ServiceUnavailable
        return placed.size

    def copy(self, job_id: str, file: str) -> AbstractAsyncContextManager[Path]:
        """Copy the object to a temporary file in this host's workspace; raises as `Staging.copy`."""
        return self._bucket.fetched(_staged_name(job_id, file), self._workspaces.folder(job_id))

    async def discard(self, job_id: str) -> None:
        """Remove all objects of a job; raises as `Staging.discard`."""
        names = [staged.name async for staged in self._bucket.list(f"{TEMP}/{job_id}")]
        await self._bucket.delete(*names)

    async def idle(self, seconds: float) -> Sequence[str]:
        """List all objects of jobs; raises as `Staging.idle`."""
        newest: dict[str, datetime] = defaultdict(lambda: datetime.min.replace(tzinfo=timezone.utc))
        async for staged in self._bucket.list(TEMP):
            job_id = staged.name.split("/")[1]
            newest[job_id] = max(newest[job_id], staged.modified)
        before = datetime.now(timezone.utc) - timedelta(seconds=seconds)
        return [job_id for job_id, modified in newest.items() if modified <= before]


def _staged_name(job_id: str, file: str) -> str:
    return f"{TEMP}/{job_id}/{file}"
