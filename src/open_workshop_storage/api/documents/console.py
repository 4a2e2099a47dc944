"""The console in the OpenAPI documents."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.messages import JOB_EXAMPLE, JTI_EXAMPLE, JobId
from open_workshop_storage.api.documents.openapi import answer, header, operation
from open_workshop_storage.core import errors
from open_workshop_storage.services.operations.status import Status

CallbackName = Annotated[str, Path(description="The callback's `jti`.", examples=[JTI_EXAMPLE])]


class CallbackHurried(BaseModel):
    """A callback that is about to be delivered."""

    jti: str
    due_seconds: Annotated[
        float, Field(description="Time until a worker takes it up: 0, or what is left if it was due within 15 s.")
    ]


class JobCancelled(BaseModel):
    """A transfer that an operator ended."""

    job_id: JobId
    reason: Annotated[str, Field(description="What the Manager is told.")]
    message: Annotated[str, Field(description="What its client is told.")]


OPERATOR_ERRORS = (errors.NothingHere, errors.TokenMissing, errors.AccessDenied, errors.ServiceUnavailable)
"""What each call of an operator may end in."""

STATUS_EXAMPLE = Status.model_validate_json("""{
  "at": 1767700800.5,
  "totals": {
    "unfinished": 1, "paused": 0, "ended": 1, "callbacks": 1, "oldest_callback_seconds": 42.5, "sockets": 3
  },
  "jobs": [
    {
      "job_id": "job-7f3a9c21", "kind": "archive", "origin": "upload", "file_name": "my_mod.zip",
      "state": "runs", "stage": "repacking", "about": "", "bytes": 52428800, "total": 52428800, "percent": 63.0,
      "attempt": 1, "created_at": 1767700740.25, "changed_at": 1767700800.25,
      "host": "storage-1", "worker": "8f1d3c5e7a9b4c2d8e6f0a1b2c3d4e5f"
    },
    {
      "job_id": "job-1b2c3d4e", "kind": "archive", "origin": "url", "file_name": "another.7z",
      "state": "failed", "stage": "error", "about": "", "bytes": 1048576, "total": 1048576,
      "reason": "corrupt_archive", "message": "Corrupt archive",
      "attempt": 1, "created_at": 1767700750.0, "changed_at": 1767700758.0
    }
  ],
  "callbacks": [
    {
      "jti": "3f0c5a3e9d1b5c0e8a4f6b7c8d9e0f10", "job_id": "job-1b2c3d4e", "kind": "archive", "status": "error",
      "age_seconds": 42.5, "attempts": 4, "due_seconds": 7.5
    }
  ],
  "slots": [{"slot": "repack", "held": 1, "waiting": 0, "limit": 4}],
  "workers": [
    {
      "name": "8f1d3c5e7a9b4c2d8e6f0a1b2c3d4e5f", "host": "storage-1", "process": 4242, "age_seconds": 86400.0,
      "silent_seconds": 0.5, "jobs": 1, "sockets": 3, "free_bytes": 107374182400
    }
  ],
  "storage": {"kind": "disk", "available": true, "free_bytes": 107374182400, "reserve_bytes": 1073741824},
  "step_seconds": 10,
  "steps": [
    {
      "at": 1767700800, "begun": 1, "succeeded": 0, "failed": {"corrupt_archive": 1}, "bytes": 53477376,
      "stages": {"uploading": {"count": 1, "seconds": 2.5}}
    }
  ]
}""")

STATUS = operation(
    "Status of all loaders",
    "status",
    {
        200: answer(
            "What they do now.",
            STATUS_EXAMPLE,
            header("Cache-Control", "It is true for a moment only.", "no-store"),
        )
    },
    *OPERATOR_ERRORS,
)
DELIVER = operation(
    "Deliver a callback now",
    "deliver_callback",
    {202: answer("A worker delivers it.", CallbackHurried(jti=JTI_EXAMPLE, due_seconds=0.0))},
    *OPERATOR_ERRORS,
    errors.CallbackMissing,
)
CANCEL = operation(
    "Cancel a transfer",
    "cancel_transfer",
    {200: answer("It has ended.", JobCancelled(job_id=JOB_EXAMPLE, reason="exception", message="Transfer cancelled"))},
    *OPERATOR_ERRORS,
    errors.JobMissing,
    errors.TransferEnded,
)
