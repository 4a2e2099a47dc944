"""The uploads in several requests that this worker has just paused: the next request mostly comes at once."""

from __future__ import annotations

import asyncio

from open_workshop_storage.core.job import Job

_SECONDS = 1.0


class JustPaused:
    """Knows the record of each for a second, so that a request which comes at once reads none."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def remember(self, job: Job) -> None:
        """Know the record of an upload that was paused."""
        self._jobs[job.job_id] = job
        asyncio.get_running_loop().call_later(_SECONDS, self.recall, job.job_id, job.bytes)

    def recall(self, job_id: str, offset: int) -> Job | None:
        """Return the record of an upload that was paused at an offset, and forget it; `None` if it is not known.

        Whether it is still the latest one shows when it is saved.
        """
        job = self._jobs.get(job_id)
        return self._jobs.pop(job_id) if job is not None and job.bytes == offset else None
