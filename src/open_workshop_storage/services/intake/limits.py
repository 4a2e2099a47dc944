"""Size and time limits of bodies (docs/API.md, "POST `/transfer/upload`")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from open_workshop_storage.core.changes import Pace
from open_workshop_storage.core.claims import TransferClaims, TransferKind
from open_workshop_storage.core.errors import DownloadTimedOut, StorageError, UploadTimedOut
from open_workshop_storage.core.settings import Settings

_FIRST_SECONDS = 60.0
"""How long the senders of a job's bodies may be slower than their minimum rate, in all."""
_MOST_EARNED_SECONDS = 600.0
"""How much longer the senders may be waited for, in all, because of what they have sent."""
_SILENT_SHARE = 0.25
"""How much of a wait that is cut off as idle counts towards the first minute: mostly, the network failed."""


@dataclass(frozen=True)
class ReceiveLimits:
    """Limits on one body.

    Attributes:
        max_bytes: Size limit in bytes; 0 for none.
        total_seconds: Time limit for the whole body; 0 for none.
        idle_seconds: Time limit for each wait without a byte; 0 for none.
        min_bytes_per_second: Average rate that the senders of a job must keep after their first minute; 0 for any.
        reserve_bytes: Disk space to leave free.
        timed_out: The error that a passed time limit raises.
    """

    max_bytes: int
    total_seconds: float
    idle_seconds: float
    min_bytes_per_second: int
    reserve_bytes: int
    timed_out: type[StorageError]

    def exceeded_by(self, size: int | None) -> bool:
        """Return whether a body of so many bytes is too large; one of unknown size, `None`, is not known to be."""
        return size is not None and 0 < self.max_bytes < size

    def is_too_slow(self, pace: Pace) -> bool:
        """Return whether the senders of a job have kept too low an average rate for too long."""
        return self._seconds_left(pace) <= 0

    def count_wait(self, pace: Pace, seconds: float) -> None:
        """Add a wait for the sender's next byte to the pace of its job."""
        if 0 < self.idle_seconds <= seconds:
            # What it does not cost of the first minute it costs of what the job has sent.
            forgiven = seconds * (1 - _SILENT_SHARE)
            pace.sent_bytes = max(0, pace.sent_bytes - round(forgiven * self.min_bytes_per_second))
            seconds -= forgiven
        pace.waited_seconds += seconds

    def count_bytes(self, pace: Pace, size: int) -> None:
        """Add the bytes that a wait brought to the pace of their job."""
        most = round((pace.waited_seconds + _MOST_EARNED_SECONDS) * self.min_bytes_per_second)
        pace.sent_bytes = min(pace.sent_bytes + size, most)

    def _seconds_left(self, pace: Pace) -> float:
        if not self.min_bytes_per_second:
            return math.inf
        return max(_FIRST_SECONDS, pace.sent_bytes / self.min_bytes_per_second) - pace.waited_seconds

    def patience(self, elapsed: float, pace: Pace) -> float | None:
        """Return how many seconds the sender may take for its next byte; `None` for any time.

        Args:
            elapsed: Seconds since the body began.
            pace: What the job's senders have sent, and how long they, and not our disk, were waited for.

        Raises:
            StorageError: `timed_out`, if it is too late already.
        """
        # A wait counts when it has ended, since one that is cut off as idle counts less.
        left = self._seconds_left(pace)
        seconds = self.idle_seconds if 0 < self.idle_seconds and left > 0 else left
        if self.total_seconds:
            seconds = min(seconds, self.total_seconds - elapsed)
        if seconds <= 0:
            raise self.timed_out
        return None if seconds == math.inf else seconds


def upload_limits(settings: Settings, max_bytes: int) -> ReceiveLimits:
    """Return the limits on a body that a client sends."""
    return ReceiveLimits(
        max_bytes=max_bytes,
        total_seconds=settings.transfer_upload_timeout_seconds,
        idle_seconds=settings.transfer_idle_timeout_seconds,
        min_bytes_per_second=settings.transfer_min_bytes_per_second,
        reserve_bytes=settings.storage_reserve_bytes,
        timed_out=UploadTimedOut,
    )


def transfer_limits(settings: Settings, claims: TransferClaims) -> ReceiveLimits:
    """Return the limits on the body of a transfer; a fetch as a whole has a time limit of its own."""
    is_image = claims.transfer_kind is TransferKind.IMAGE
    most = settings.transfer_max_image_bytes if is_image else settings.transfer_max_bytes
    limits = upload_limits(settings, most if claims.max_bytes is None else claims.max_bytes)
    return replace(limits, total_seconds=0, timed_out=DownloadTimedOut) if claims.download_url else limits
