"""Checks a bucket, and what its key may do there."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from pathlib import Path

from open_workshop_storage.core.errors import StorageError
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.files import Complaint

_ADVICE = "the key needs the rights to list the bucket, and to read, write and delete its objects"


async def complaints_about(bucket: Bucket, folder: str) -> list[Complaint]:
    """Write an object, copy it, and remove both; return what does not work, for the operator.

    Args:
        folder: What the objects' keys begin with, without a slash at its end.
    """
    if not await bucket.is_available():
        return [
            Complaint(True, "does not answer, or has no such bucket for this key; see S3_ENDPOINT_URL and S3_BUCKET")
        ]
    # Laid out as a job's files are, so that cleanup finds what is left where this is broken off.
    key = f"{folder}/doctor-{secrets.token_hex(16)}/object"
    step = "written"
    try:
        with await asyncio.to_thread(tempfile.NamedTemporaryFile) as file:
            await bucket.put(Path(file.name), key, None)
        step = "read"
        found = await bucket.find(key)
        step = "copied"
        await bucket.copy(found, f"{key}-copy", None)
        step = "deleted"
        await bucket.delete(key, f"{key}-copy")
        step = "listed"
        left = [one.key async for one in bucket.list(folder) if one.key.startswith(key)]
    except StorageError:
        return [Complaint(True, f"an object cannot be {step}; {_ADVICE}")]
    return [Complaint(True, f"a deleted object is still there; {_ADVICE}")] if left else []
