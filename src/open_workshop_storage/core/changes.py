"""What steps of a transfer add to its record, in fields of the record's own names (`core.job.Job`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from open_workshop_storage.core.job import Change, Resumable, Slot


@dataclass(frozen=True)
class Owned(Change):
    """Another run works on the job, or none does; the slot that it then waits for or holds."""

    owner: str | None
    slot: Slot | None = None


@dataclass(frozen=True)
class Held(Change):
    """The run goes on with this slot and gives the one that it has back; `None` for without any."""

    slot: Slot | None
    is_told: ClassVar[bool] = False


@dataclass(frozen=True)
class Housed(Change):
    """The job's files are on the host of this name only; None if all hosts see them."""

    home: str | None


@dataclass(frozen=True)
class Counted(Change):
    """So many bytes have come."""

    bytes: int


@dataclass
class Pace(Change):
    """How long the senders of all the job's bodies were waited for, and what of their bytes counts in their favour."""

    waited_seconds: float = 0.0
    sent_bytes: int = 0


@dataclass(frozen=True)
class Continued(Change):
    """A request brings more bytes of an upload."""

    owner: str
    resumable: Resumable
    total: int | None
    slot: Slot | None = None


@dataclass(frozen=True)
class Paused(Change):
    """An upload waits for its next request; so many of its bytes are on the disk."""

    bytes: int
    resumable: Resumable
    source_file: None = None
    scanner_away_since: None = None
    owner: None = None
    slot: None = None


@dataclass(frozen=True)
class Resumed(Change):
    """A fetch begins, with what an earlier one left."""

    bytes: int
    total: int | None


@dataclass(frozen=True)
class Opened(Change):
    """The origin has begun to answer."""

    total: int | None
    validator: str | None
    partial_file: str
    file_name: str


@dataclass(frozen=True)
class Received(Change):
    """All bytes have come; `source_file` only if the disk has taken them in."""

    bytes: int
    total: int
    source_file: str | None
    lost_receivers: int


@dataclass(frozen=True)
class Secured(Change):
    """The disk has taken the received file in."""

    source_file: str
    is_told: ClassVar[bool] = False


@dataclass(frozen=True)
class Advanced(Change):
    """So much of a stage is done, 0 to 100."""

    percent: float


@dataclass(frozen=True)
class Unpacked(Change):
    """The archive is extracted."""

    unpacked_bytes: int


@dataclass(frozen=True)
class ScannerAway(Change):
    """The job waits for the scanner, since this Unix time in seconds."""

    scanner_away_since: float


@dataclass(frozen=True)
class Packed(Change):
    """The packed file is complete; `sha256` is its own, as 64 lower-case hex digits."""

    packed_file: str
    packed_bytes: int
    unpacked_bytes: int
    sha256: str
    owner: None = None
    slot: None = None


@dataclass(frozen=True)
class Failed(Change):
    """The attempt came to nothing."""

    message: str
    reason: str
    malware: str | None = None
    source_file: None = None
    owner: None = None
    slot: None = None


@dataclass(frozen=True)
class Unwanted(Change):
    """The Manager does not want the packed file."""

    unwanted: bool = True


@dataclass(frozen=True)
class MoveBegun(Change):
    """A run has begun to move the packed file."""

    move_to: str
    owner: str
    home: None = None
    slot: None = None


@dataclass(frozen=True)
class MoveUndone(Change):
    """The packed file could not be moved."""

    move_to: None = None
    owner: None = None


@dataclass(frozen=True)
class Moved(Change):
    """The file is in its permanent place."""

    moved_bytes: int
    owner: None = None
