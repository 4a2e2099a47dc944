"""What this worker's transfers add up to: for telemetry, and for the operators' overview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from open_workshop_storage.core.job import Job
from open_workshop_storage.observability.metrics import BYTES, STAGE_DURATION, TRANSFERS

BEGUN = "begun"
"""Name of a metric: attempts that began."""
RECEIVED = "received"
"""Name of a metric: bytes that came in."""
OUTCOME = "outcome "
"""What the names of metrics begin with that count attempts that ended; the outcome follows."""
LEFT = "left "
"""What the names of metrics begin with that count stages which were left; the stage follows."""
MILLISECONDS = "milliseconds "
"""The same for the time that they took."""
SUCCESS = "success"
"""The outcome of an attempt that has no reason to have failed."""


class TransferMetrics:
    """Counts until somebody takes the counts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begun(self) -> None:
        """Count an attempt that began."""
        self._counts[BEGUN] += 1

    def received(self, count: int) -> None:
        """Count bytes that came in since the last time, for the attempt that is under way."""
        self._counts[RECEIVED] += max(count, 0)

    def ended(self, job: Job) -> None:
        """Count an attempt that ended, by its record at the end."""
        outcome = job.reason or SUCCESS
        self._counts[OUTCOME + outcome] += 1
        TRANSFERS.add(1, {"kind": job.claims.transfer_kind, "origin": job.origin, "outcome": outcome})
        if outcome == SUCCESS:
            BYTES.add(job.bytes, {"step": "received"})
            BYTES.add(job.packed_bytes or 0, {"step": "packed"})

    def left_stage(self, job: Job, seconds: float) -> None:
        """Count the time that a run spent in the stage of a record."""
        self._counts[LEFT + job.stage] += 1
        self._counts[MILLISECONDS + job.stage] += round(seconds * 1000)
        STAGE_DURATION.record(seconds, {"stage": job.stage, "kind": job.claims.transfer_kind})

    def moved(self, size: int) -> None:
        """Count the bytes of a file that is in its permanent place."""
        BYTES.add(size, {"step": "moved"})

    def take(self) -> Mapping[str, int]:
        """Return the counts, and begin afresh."""
        counts, self._counts = self._counts, Counter()
        return counts

    def give_back(self, counts: Mapping[str, int]) -> None:
        """Count again what was taken and not told."""
        self._counts.update(counts)
