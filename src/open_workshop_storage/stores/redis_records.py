"""What Redis keeps of a job: a hash whose `data` is the record as its last save left it.

A take changes only the fields beside it, so those count, whatever `data` says of the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from open_workshop_storage.core.job import Job

FIELDS = ("data", "version", "owner", "deaths", "kept_since")
"""What `job_of` reads, in this order."""


def job_of(values: Sequence[str | None]) -> Job | None:
    """Return the job whose `FIELDS` these are, `None` if there is none."""
    if values[0] is None:
        return None
    data, version, owner, deaths, kept_since = cast(Sequence[str], values)
    beside = {"version": int(version), "owner": owner or None, "deaths": int(deaths), "kept_since": int(kept_since)}
    return Job.model_validate_json(data).model_copy(update=beside)
