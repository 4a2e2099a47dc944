"""Metrics of the services, and the folder in which all workers of a main process count for Prometheus.

Metrics are recorded only with telemetry or `METRICS_ENABLED`.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from opentelemetry import metrics

_METER = metrics.get_meter("open_workshop_storage")

TRANSFERS = _METER.create_counter(
    "storage.transfers", "{transfer}", "Attempts at transfers that have ended, by kind, origin and outcome."
)
STAGE_DURATION = _METER.create_histogram(
    "storage.stage.duration",
    "s",
    "Time spent in a stage of a transfer.",
    explicit_bucket_boundaries_advisory=[0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600],
)
BYTES = _METER.create_counter("storage.bytes", "By", "Bytes received, packed and moved.")
CALLBACKS = _METER.create_counter("storage.callbacks", "{attempt}", "Attempts at callbacks, by outcome.")
SCANS = _METER.create_counter(
    "storage.scans", "{file}", "Files that a scanner was asked about, by verdict, and by cause where it gave none."
)
BLURHASHES = _METER.create_counter(
    "storage.blurhashes", "{image}", "BlurHashes given out, by where they came from: memory, redis or computed."
)

# Gauges of one worker.
SLOTS_USED = _METER.create_gauge("storage.slots.used", "{slot}", "Slots that this worker holds.")
JOBS_WAITING = _METER.create_gauge("storage.slots.waiting", "{job}", "Jobs that wait for a slot.")
OPEN_SOCKETS = _METER.create_gauge("storage.sockets.open", "{socket}", "Progress sockets that this worker holds.")

# Gauges that are the same for all workers that share a Redis, or a disk.
CALLBACKS_PENDING = _METER.create_gauge("storage.callbacks.pending", "{callback}", "Callbacks in the outbox.")
OLDEST_CALLBACK = _METER.create_gauge("storage.callbacks.oldest", "s", "Age of the oldest callback in the outbox.")
DISK_FREE = _METER.create_gauge("storage.disk.free", "By", "Free bytes below the storage root.")

_FOLDER = "open-workshop-storage-metrics-"
_PARENT, _START = 1, 19
"""Fields of `/proc/<id>/stat` after the command, which may hold blanks (proc_pid_stat(5))."""


def metrics_folder(main_process: int) -> Path:
    """Make the folder of a main process, and remove those of main processes that have ended.

    Raises:
        OSError: The folder for temporary files cannot be used, or another user has made this one.
    """
    parent = Path(tempfile.gettempdir())
    for other in parent.glob(f"{_FOLDER}*"):
        process, _, start = other.name.removeprefix(_FOLDER).partition("-")
        if _process_fields(process)[_START] != start:
            # Another worker may remove it at the same time, and another user's folder cannot be removed.
            shutil.rmtree(other, ignore_errors=True)
    # A later process may get the same id, but not the same start time.
    folder = parent / f"{_FOLDER}{main_process}-{_process_fields(str(main_process))[_START]}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not ours")
    return folder


def is_child(process: int, parent: int) -> bool:
    """Return whether a process runs and is a child of another one."""
    return _process_fields(str(process))[_PARENT] == str(parent)


def _process_fields(process: str) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [""] * (_START + 1)
