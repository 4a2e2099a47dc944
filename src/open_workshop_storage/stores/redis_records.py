"""What Redis keeps of a job: a hash whose `data` is the record as its last save left it.

A take changes only the fields beside it, so those count, whatever `data` says of the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from open_workshop_storage.core.errors import NewerRecord
from open_workshop_storage.core.job import SCHEMA, Job
from open_workshop_storage.core.slots import Slot

FIELDS = ("data", "schema", "version", "owner", "lost_owners", "kept_since", "slot")
"""What `job_of` reads, in this order."""


def job_of(values: Sequence[str | None]) -> Job | None:
    """Return the job whose `FIELDS` these are, `None` if there is none.

    Raises:
        NewerRecord: This version of the program does not know its schema.
    """
    if values[0] is None:
        return None
    data, schema, version, owner, lost_owners, kept_since = cast(Sequence[str], values[:6])
    slot = values[6]
    if int(schema) > SCHEMA:
        raise NewerRecord
    beside = {
        "version": int(version),
        "owner": owner or None,
        "lost_owners": int(lost_owners),
        "kept_since": int(kept_since),
        "slot": Slot(slot) if slot else None,
    }
    return Job.model_validate_json(data).model_copy(update=beside)


def known_job_of(values: Sequence[str | None]) -> Job | None:
    """Return the job whose `FIELDS` these are, `None` also for a record that a newer version wrote."""
    try:
        return job_of(values)
    except NewerRecord:
        return None
