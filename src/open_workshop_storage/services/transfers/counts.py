"""What this worker's transfers add up to: for telemetry, and for the operators' overview."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import StrEnum

from open_workshop_storage.core.job import Job
from open_workshop_storage.observability.metrics import BYTES, STAGE_DURATION, TRANSFERS

SUCCESS = "success"
"""The outcome of an attempt that has no reason to have failed."""


class Count(StrEnum):
    """What is counted."""

    BEGUN = "begun"
    """Attempts that began."""
    RECEIVED = "received"
    """Bytes that came in."""
    OUTCOME = "outcome"
    """Attempts that ended, for each outcome."""
    LEFT = "left"
    """Runs that left a stage, for each stage."""
    MILLISECONDS = "milliseconds"
    """The time that they spent in it, for each stage."""


def by_label(counts: Mapping[str, int]) -> Mapping[str, Mapping[str, int]]:
    """Return what `TransferCounts.take` returned: for each `Count` the numbers by outcome or stage, if it has them."""
    labelled: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, number in counts.items():
        count, _, label = name.partition(" ")
        labelled[count][label] = number
    return labelled


class TransferCounts:
    """Counts until the counts are taken."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begun(self) -> None:
        """Count an attempt that began."""
        self._count(Count.BEGUN, 1)

    def received(self, size: int) -> None:
        """Count bytes that came in since the last time, for the attempt that is under way."""
        self._count(Count.RECEIVED, max(size, 0))

    def ended(self, job: Job) -> None:
        """Count an attempt that ended, by its record at the end."""
        outcome = job.reason or SUCCESS
        self._count(Count.OUTCOME, 1, outcome)
        TRANSFERS.add(1, {"kind": job.claims.transfer_kind, "origin": job.origin, "outcome": outcome})
        if outcome == SUCCESS:
            BYTES.add(job.bytes, {"step": "received"})
            BYTES.add(job.packed_bytes or 0, {"step": "packed"})

    def left_stage(self, job: Job, seconds: float) -> None:
        """Count the time that a run spent in the stage of a record."""
        self._count(Count.LEFT, 1, job.stage)
        self._count(Count.MILLISECONDS, round(seconds * 1000), job.stage)
        STAGE_DURATION.record(seconds, {"stage": job.stage, "kind": job.claims.transfer_kind})

    def moved(self, size: int) -> None:
        """Count the bytes of a file that is in its permanent place."""
        BYTES.add(size, {"step": "moved"})

    def _count(self, count: Count, number: int, label: str = "") -> None:
        self._counts[f"{count} {label}" if label else count] += number

    def take(self) -> Mapping[str, int]:
        """Return the counts, and begin afresh."""
        counts, self._counts = self._counts, Counter()
        return counts

    def give_back(self, counts: Mapping[str, int]) -> None:
        """Count again what was taken and not told."""
        self._counts.update(counts)
