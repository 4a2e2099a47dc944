"""What may be done only so many times at once, over all workers that share a store (docs/CONFIGURATION.md)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from open_workshop_storage.core.settings import Settings


class Slot(StrEnum):
    """What may be done only so many times at once."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    REPACK = "repack"
    IMAGE = "image"


SLOTS_OF_JOBS = Slot.REPACK, Slot.IMAGE, Slot.DOWNLOAD
"""What jobs without an owner may wait for, in the order in which a free worker looks. Of one kind, the oldest comes
first. Those that have their file are taken before those to be fetched."""


def slot_limits(settings: Settings) -> Mapping[Slot, int]:
    """Return how many slots of each kind there are; 0 for any number."""
    return {
        Slot.UPLOAD: settings.transfer_upload_concurrency,
        Slot.DOWNLOAD: settings.transfer_download_concurrency,
        Slot.REPACK: settings.transfer_repack_concurrency,
        # A queue of their own, but no other limit: a decoder takes a core and memory as 7z does.
        Slot.IMAGE: settings.transfer_repack_concurrency,
    }
