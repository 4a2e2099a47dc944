"""Facts about files of a disk, in an extended attribute of each. All functions block."""

from __future__ import annotations

import json
import os
from typing import Any

from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.utils.files.digests import is_sha256

_ATTRIBUTE = "user.open_workshop_storage"

Version = tuple[int | str, ...]


def version_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs between two versions of a file: time of the last change, size and inode."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def keep_facts(descriptor: int, facts: Facts | None) -> bool:
    """Keep facts with an open file that is complete; return whether there are any, and attributes to keep them in."""
    if facts is None:
        return False
    version = version_of(os.fstat(descriptor))
    try:
        os.setxattr(descriptor, _ATTRIBUTE, json.dumps({"version": version, **facts._asdict()}).encode())
    except OSError:
        return False
    return True


def kept_facts(path: str, version: Version | None) -> Facts | None:
    """Return the facts that were kept with this version of a file, or with any; None if there are none."""
    try:
        kept = json.loads(os.getxattr(path, _ATTRIBUTE))
        if version is None or tuple(kept["version"]) == version:
            return Facts(_unpacked_bytes(kept), _sha256(kept))
    except (OSError, ValueError, TypeError, KeyError):
        # There is no attribute, or another program has written something else there.
        pass
    return None


def _unpacked_bytes(kept: dict[str, Any]) -> int | None:
    value = kept["unpacked_bytes"]
    return None if value is None else int(value)


def _sha256(kept: dict[str, Any]) -> str | None:
    # What was written before digests were kept has none.
    value = kept.get("sha256")
    return value if value is not None and is_sha256(value) else None
