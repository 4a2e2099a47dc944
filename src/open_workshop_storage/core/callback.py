"""The report of one attempt's end, as it waits in the outbox (docs/API.md, "Callback")."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict

from open_workshop_storage.core.job import Job, Stage


class Callback(BaseModel):
    """One report to the Manager that is not settled yet.

    Attributes:
        jti: Names the end; the same for every delivery attempt.
        claims: What the report says, without the claims of the token itself.
        attempts: Delivery attempts that failed so far.
        created_at: Unix time of the end, seconds.
    """

    model_config = ConfigDict(frozen=True)

    jti: str
    job_id: str
    attempt: int
    claims: dict[str, Any]
    attempts: int = 0
    created_at: float
    traceparent: str | None = None


_NAMED = ("mod_id", "pack_format", "pack_level", "update_only", "mode", "storage_type", "file_kind")
_CALLER = ("callback_action", "callback_context", "target_path")


def callback_of(job: Job) -> Callback:
    """Return the report of an attempt that has ended.

    The `jti` derives from the attempt, so the same end gets the same one from any worker.
    """
    claims = {name: None for name in _NAMED + _CALLER} | job.claims.carried
    claims |= {
        "job_id": job.job_id,
        "status": "error" if job.stage is Stage.ERROR else "success",
        "transfer_kind": job.claims.transfer_kind.value,
        "packed_format": job.claims.packed_format,
        "packed_bytes": job.packed_bytes,
        "sha256": job.sha256,
        "bytes": job.bytes,
        "total": job.total,
        "unpacked_bytes": job.unpacked_bytes,
    }
    if job.stage is Stage.ERROR:
        claims["reason"] = job.reason
    if job.malware is not None:
        claims["malware"] = job.malware
    end = f"{job.job_id}/{job.attempt}/{job.created_at}"
    jti = uuid.uuid5(uuid.NAMESPACE_OID, end).hex
    return Callback(
        jti=jti,
        job_id=job.job_id,
        attempt=job.attempt,
        claims=claims,
        created_at=job.updated_at,
        traceparent=job.traceparent,
    )
