"""Ends of a run that end no attempt, and the failure that an unforeseen error becomes."""

from __future__ import annotations

import logging
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


class Pause(Exception):
    """The bytes of one request have come; others follow with later requests.

    Args:
        paused: What the record then says.
        answer: What the client hears; `None` if all is well.
        cut: A file, and how many of its bytes the record then counts; the others are removed.
    """

    def __init__(
        self,
        paused: Paused,
        answer: errors.StorageError | None = None,
        cut: tuple[Path, int] | None = None,
    ) -> None:
        self.paused = paused
        self.answer = answer
        self.cut = cut


class Unreported(Exception):
    """The attempt has come to nothing for now: its client hears that, and the Manager does not.

    Args:
        answer: What the client hears.
    """

    def __init__(self, answer: errors.StorageError) -> None:
        self.answer = answer


def failure_at(job: Job) -> errors.StorageError:
    """Return what an unforeseen failure becomes at the stage where the job is."""
    if job.stage is Stage.UPLOADING:
        return errors.UploadFailed()
    if job.stage in (Stage.PENDING, Stage.DOWNLOADING):
        return errors.DownloadFailed()
    return errors.ImagePreparationFailed() if job.claims.transfer_kind is TransferKind.IMAGE else errors.RepackFailed()


def log_failure(job: Job, error: errors.StorageError) -> None:
    """Log an attempt's failure: as an error with its cause only if this host is at fault, not a client or an origin."""
    is_ours = error.status in (errors.StorageError.status, errors.NoSpace.status)
    job_log(_logger, job.job_id).log(
        logging.ERROR if is_ours else logging.INFO,
        "failed at %s: %s (%s)",
        job.stage,
        error.message,
        error.reason,
        exc_info=error.__cause__ if is_ours else None,
    )
