"""Ends of a run that end no attempt, and the failure that an unforeseen error becomes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import Paused
from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.observability.logs import job_log

_logger = logging.getLogger(__name__)


class HandOver(Exception):
    """This worker is about to go; another one is to take the job on."""


class Queued(Exception):
    """The job waits for a slot, and belongs to no run any more."""


@dataclass(eq=False)
class Pause(Exception):
    """The bytes of one request have come; others follow with later requests.

    Attributes:
        paused: What the record then says.
        answer: What the client hears; `None` if all is well.
        cut: A file, and how many of its bytes the record then counts; the others are removed.
    """

    paused: Paused
    answer: errors.StorageError | None = None
    cut: tuple[Path, int] | None = None


@dataclass(eq=False)
class Unreported(Exception):
    """The attempt has come to nothing for now: its client hears that, and the Manager does not.

    Attributes:
        answer: What the client hears.
    """

    answer: errors.StorageError


def failure_of(job: Job, error: Exception) -> errors.StorageError:
    """Return what an attempt fails with, and log it; an unforeseen error becomes that of the stage where the job is.

    It is logged as an error, with its cause, only if this host is at fault, not a client or an origin.
    """
    match error:
        case errors.StorageError():
            failure = error
        case Unreported():
            failure = error.answer
        case _:
            failure = _failure_at(job)
            failure.__cause__ = error
    is_ours = failure.status in (errors.StorageError.status, errors.NoSpace.status)
    job_log(_logger, job.job_id).log(
        logging.ERROR if is_ours else logging.INFO,
        "failed at %s: %s (%s)",
        job.stage,
        failure.message,
        failure.reason,
        exc_info=failure.__cause__ if is_ours else None,
    )
    return failure


def _failure_at(job: Job) -> errors.StorageError:
    if job.stage is Stage.UPLOADING:
        return errors.UploadFailed()
    if job.stage in (Stage.PENDING, Stage.DOWNLOADING):
        return errors.DownloadFailed()
    return errors.ImagePreparationFailed() if job.claims.transfer_kind is TransferKind.IMAGE else errors.RepackFailed()
