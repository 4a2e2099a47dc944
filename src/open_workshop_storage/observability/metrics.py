"""Metrics of the services. Without telemetry or `METRICS_ENABLED` they are not recorded."""

from __future__ import annotations

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

# Each worker records its own part of these.
SLOTS_USED = _METER.create_gauge("storage.slots.used", "{slot}", "Slots that this worker holds.")
JOBS_WAITING = _METER.create_gauge("storage.slots.waiting", "{job}", "Jobs that wait for a slot.")
OPEN_SOCKETS = _METER.create_gauge("storage.sockets.open", "{socket}", "Progress sockets that this worker holds.")

# These are the same for all workers that share a Redis, or a disk.
CALLBACKS_PENDING = _METER.create_gauge("storage.callbacks.pending", "{callback}", "Callbacks in the outbox.")
OLDEST_CALLBACK = _METER.create_gauge("storage.callbacks.oldest", "s", "Age of the oldest callback in the outbox.")
DISK_FREE = _METER.create_gauge("storage.disk.free", "By", "Free bytes below the storage root.")
