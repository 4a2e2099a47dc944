"""Facts about files of a disk, in an extended attribute of each. All functions block."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from open_workshop_storage.services.storage.files import Facts

_ATTRIBUTE = "user.open_workshop_storage"

Version = tuple[int | str, ...]


def version_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs between two versions of a file: time of the last change, size and inode."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def keep_facts(descriptor: int, facts: Facts | None) -> None:
    """Keep facts with an open file that is complete; a file system without extended attributes keeps none."""
    if facts is not None:
        version = version_of(os.fstat(descriptor))
        with suppress(OSError):
            os.setxattr(descriptor, _ATTRIBUTE, json.dumps({"version": version, **facts._asdict()}).encode())


def kept_facts(path: str, version: Version) -> Facts | None:
    """Return the facts that were kept with this version of a file; None if there are none."""
    try:
        kept = json.loads(os.getxattr(path, _ATTRIBUTE))
        is_known = tuple(kept["version"]) == version
        return Facts(int(kept["unpacked_bytes"])) if is_known else None
    except (OSError, ValueError, TypeError, KeyError):
        # There is no attribute, or another program has written something else there.
        return None
