"""Records of jobs, in any state."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.job import Inner, Job, Stage, State

MOVED_TO = "archive/mods/7/main.zip"
SHA256 = "5e" * 32
"""A digest of no file."""


def new_job(claims: Mapping[str, object] | None = None, /, **values: object) -> Job:
    """Return a record that no store knows yet, with these values in place of the usual ones."""
    job_id = f"job-{secrets.token_hex(8)}"
    parsed = parse_claims({"job_id": job_id, "mod_id": 7, **(claims or {})})
    job = Job(job_id=job_id, claims=parsed, origin="upload", file_name="mod.zip")
    return job.model_copy(update=values)


def job_in(state: State) -> Job:
    """Return a record in this state, with an owner where the state has one."""
    if state is Inner.PAUSED:
        return new_job(stage=Stage.UPLOADING)
    if isinstance(state, Stage):
        job = new_job(stage=state)
        return job if job.ended else job.model_copy(update={"owner": "me"})
    moving = new_job(stage=Stage.PACKED, move_to=MOVED_TO, owner="me", packed_file="run/packed.zip", packed_bytes=1)
    return moving if state is Inner.MOVING else moving.model_copy(update={"moved_bytes": 1, "owner": None})
