"""How an attempt at an upload begins, in one request or in several."""

from __future__ import annotations

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import BadRequest, UploadFinished, UploadInProgress
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Resumable, Stage, check_step
from open_workshop_storage.core.slots import Slot
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.tracing import traceparent
from open_workshop_storage.utils.files.safe_names import safe_file_name


async def begin_attempt(
    store: JobStore,
    previous: Job | None,
    claims: TransferClaims,
    file_name: str,
    announced: int | None,
    owner: str | None,
    resumable: Resumable | None = None,
) -> Job:
    """Store the record of a new attempt at an upload, and withdraw the report of the one before if it is undelivered.

    Args:
        previous: The job's record, if there is one.
        announced: The file's size in bytes, if the client said it.
        owner: The run that receives it, with a slot; `None` for one that waits for its first request.

    Raises:
        BadRequest: The token is one for a URL transfer.
        UploadInProgress: The attempt before it has not ended, or another request began one at the same time.
        UploadFinished: The job has its file, or had it before it was forgotten.
        StorageBusy: No slot is free.
    """
    if claims.download_url:
        raise BadRequest("Token is for a URL transfer")
    if previous is not None and previous.stage is not Stage.ERROR:
        raise UploadFinished if previous.ended else UploadInProgress
    job = Job(
        job_id=claims.job_id,
        claims=claims,
        origin="upload",
        file_name=safe_file_name(file_name),
        version=previous.version if previous else 0,
        attempt=previous.attempt + 1 if previous else 1,
        stage=Stage.UPLOADING,
        total=announced,
        waited_seconds=previous.waited_seconds if previous else 0.0,
        sent_bytes=previous.sent_bytes if previous else 0,
        owner=owner,
        slot=None if owner is None else Slot.UPLOAD,
        resumable=resumable,
        traceparent=traceparent(),
    )
    check_step(previous.state if previous else None, job.state)
    withdrawn = None if previous is None else callback_of(previous).jti
    try:
        return await store.save(job, EventKind.STAGE, withdrawn=withdrawn)
    except StaleJobError:
        is_forgotten = await store.forgotten(job.job_id) is not None
        raise (UploadFinished if is_forgotten else UploadInProgress) from None
