"""What may be the id of a job."""

from __future__ import annotations

import re

from open_workshop_storage.core.errors import BadRequest

JOB_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
"""The form of a job's id (docs/API.md, "Transfer tokens")."""


def check_job_id(job_id: object) -> str:
    """Return the job id if it is one.

    Raises:
        BadRequest: It is no text of 8 to 128 letters, digits, `_` and `-`.
    """
    if isinstance(job_id, str) and JOB_ID.fullmatch(job_id):
        return job_id
    raise BadRequest("Invalid job id")
