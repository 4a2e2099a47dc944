"""The disk space that stays free whatever is stored (docs/API.md, "Reasons")."""

from __future__ import annotations

import shutil
from pathlib import Path

from open_workshop_storage.core.errors import NoSpace


def require_space(where: Path | int, wanted: int, reserve_bytes: int) -> None:
    """Make sure that a file system has room for more.

    Args:
        where: A path on it that exists, or an open file.
        wanted: Bytes to be written.
        reserve_bytes: Bytes that must be free after that.

    Raises:
        NoSpace: It has not.
        OSError: It cannot be asked.
    """
    if shutil.disk_usage(where).free - wanted < reserve_bytes:
        raise NoSpace
