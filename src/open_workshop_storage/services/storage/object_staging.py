"""Packed files in a bucket, from which any host can have them copied to their permanent places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from open_workshop_storage.core.errors import FileMissing, ServiceUnavailable
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Replaced
from open_workshop_storage.services.storage.files import TEMP, Facts
from open_workshop_storage.services.storage.workspaces import Workspaces


class ObjectStaging:
    """Writes each packed file to an object that bears its run's name; an implementation of `Staging`.

    Args:
        prefix: What all keys begin with; empty, or with a slash at its end.
        home: Names this host.
    """

    def __init__(self, bucket: Bucket, prefix: str, workspaces: Workspaces, home: str) -> None:
        self.home: str | None = home
        self._bucket = bucket
        self._prefix = prefix
        self._workspaces = workspaces

    async def stage(self, job_id: str, file: str, facts: Facts) -> None:
        """Write the file to the bucket; raises as `Staging.stage`."""
        await self._bucket.put(self._workspaces.folder(job_id) / file, self._key(job_id, file), facts)

    async def place(self, job_id: str, file: str, name: str, facts: Facts) -> int:
        """Have the store copy the object, and look at the copy; raises as `Staging.place`."""
        staged = await self._bucket.find(self._key(job_id, file))
        if staged.facts != facts:
            # Each run has a name of its own, so this is not what the record tells of.
            raise FileMissing
        try:
            await self._bucket.copy(staged, self._prefix + name, facts)
        except Replaced:
            raise FileMissing from None
        placed = await self._bucket.find(self._prefix + name)
        if (placed.size, placed.facts) != (staged.size, facts):
            raise ServiceUnavailable
        return placed.size

    @asynccontextmanager
    async def copy(self, job_id: str, file: str) -> AsyncIterator[Path]:
        """Copy the object to a temporary file in this host's workspace; raises as `Staging.copy`."""
        async with self._bucket.fetched(self._key(job_id, file), self._workspaces.folder(job_id)) as path:
            yield path

    async def discard(self, job_id: str) -> None:
        """Remove all objects of a job; raises as `Staging.discard`."""
        keys = [staged.key async for staged in self._bucket.list(f"{self._prefix}{TEMP}/{job_id}")]
        await self._bucket.delete(*keys)

    async def idle(self, seconds: float) -> Sequence[str]:
        """List all objects of jobs; raises as `Staging.idle`."""
        newest: dict[str, datetime] = defaultdict(lambda: datetime.min.replace(tzinfo=timezone.utc))
        folder = f"{self._prefix}{TEMP}"
        async for staged in self._bucket.list(folder):
            job_id = staged.key[len(folder) + 1 :].partition("/")[0]
            newest[job_id] = max(newest[job_id], staged.modified)
        before = datetime.now(timezone.utc) - timedelta(seconds=seconds)
        return [job_id for job_id, modified in newest.items() if modified <= before]

    def _key(self, job_id: str, file: str) -> str:
        return f"{self._prefix}{TEMP}/{job_id}/{file}"
