"""The folder in which the workers of one main process count together."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_NAME = "open-workshop-storage-metrics-"
_PARENT, _START = 1, 19
"""Fields of `/proc/<id>/stat` after the command, which may hold blanks (proc_pid_stat(5))."""


def metrics_folder(main_process: int) -> Path:
    """Make the folder of a main process, and remove those of main processes that have ended.

    Raises:
        OSError: The folder for temporary files cannot be used, or another user has made this one.
    """
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{_NAME}*"):
        process, _, start = other.name.removeprefix(_NAME).partition("-")
        if _process_fields(process)[_START] != start:
            # Another worker may be at it, and other users' folders stay.
            shutil.rmtree(other, ignore_errors=True)
    # The time of the start tells the process from a later one of the same number.
    folder = parent / f"{_NAME}{main_process}-{_process_fields(str(main_process))[_START]}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not ours")
    return folder


def is_child(process: int, parent: int) -> bool:
    """Return whether a process runs, and was started by another."""
    return _process_fields(str(process))[_PARENT] == str(parent)


def _process_fields(process: str) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [""] * (_START + 1)
