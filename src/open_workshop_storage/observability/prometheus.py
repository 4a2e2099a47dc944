"""Metrics for Prometheus, counted over all workers of a main process, including those that died.

Imported only after the folder of the metrics is named in the environment, where the client library looks at import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import prometheus_client
from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import _Gauge as MeterGauge
from opentelemetry.util.types import Attributes
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from open_workshop_storage.observability.metrics import is_child

_LABELS: Mapping[str, tuple[str, ...]] = {
    "http.server.request.duration": ("http.request.method", "http.route", "http.response.status_code"),
    "storage.transfers": ("kind", "origin", "outcome"),
    "storage.stage.duration": ("stage", "kind"),
    "storage.bytes": ("step",),
    "storage.callbacks": ("outcome",),
    "storage.scans": ("verdict", "cause"),
    "storage.blurhashes": ("source",),
    "storage.slots.used": ("slot",),
    "storage.slots.waiting": ("slot",),
    "storage.sockets.open": (),
    "storage.callbacks.pending": (),
    "storage.callbacks.oldest": (),
    "storage.disk.free": (),
}
"""Attributes of each metric that become labels; Prometheus gets no other metrics."""

_SHARED = frozenset(
    {"storage.slots.waiting", "storage.callbacks.pending", "storage.callbacks.oldest", "storage.disk.free"}
)
"""Gauges that have the same value in all workers; other gauges are summed over the running workers."""

_UNITS = {"s": "seconds", "By": "bytes"}


def exposition(folder: Path, main_process: int) -> bytes:
    """Return the metrics of all workers in Prometheus' text format; reads some files of each."""
    for levels in folder.glob("gauge_live*.db"):
        worker = int(levels.stem.rpartition("_")[2])
        if not is_child(worker, main_process):
            mark_process_dead(worker, str(folder))
    registry = prometheus_client.CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return prometheus_client.generate_latest(registry)


class PrometheusMeterProvider(metrics.MeterProvider):
    """Makes instruments that count for Prometheus.

    Args:
        beside: Makes instruments that count the same for other exporters.
    """

    def __init__(self, beside: metrics.MeterProvider) -> None:
        self._beside = beside

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Attributes = None
    ) -> metrics.Meter:
        """Return a meter whose instruments count for both."""
        return _Meter(name, self._beside.get_meter(name, version, schema_url, attributes))


class _Meter(metrics.NoOpMeter):
    def __init__(self, name: str, beside: metrics.Meter) -> None:
        super().__init__(name)
        self._beside = beside

    def create_counter(self, name: str, unit: str = "", description: str = "") -> metrics.Counter:
        beside = self._beside.create_counter(name, unit, description)
        if name not in _LABELS:
            return beside
        return _Counter(beside, prometheus_client.Counter, name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        bounds = explicit_bucket_boundaries_advisory or prometheus_client.Histogram.DEFAULT_BUCKETS
        beside = self._beside.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)
        if name not in _LABELS:
            return beside
        return _Histogram(beside, prometheus_client.Histogram, name, unit, description, buckets=bounds)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> MeterGauge:
        beside = self._beside.create_gauge(name, unit, description)
        if name not in _LABELS:
            return beside
        mode = "livemostrecent" if name in _SHARED else "livesum"
        return _Gauge(beside, prometheus_client.Gauge, name, unit, description, multiprocess_mode=mode)


_Beside = TypeVar("_Beside", bound=metrics.Instrument)
_Metric = TypeVar("_Metric", bound=prometheus_client.metrics.MetricWrapperBase)


class _Instrument(Generic[_Beside, _Metric]):
    """Counts by one metric of the client library, and by the instrument beside it."""

    def __init__(
        self, beside: _Beside, kind: type[_Metric], name: str, unit: str, description: str, **options: Any
    ) -> None:
        self._beside = beside
        self._labels = _LABELS[name]
        labels = [label.replace(".", "_") for label in self._labels]
        base, suffix = name.replace(".", "_"), _UNITS.get(unit, "")
        # Prometheus wants the unit in the name.
        full_name = base if base.endswith(suffix) else f"{base}_{suffix}"
        self._metric = kind(full_name, description, labels, registry=None, **options)

    def _series(self, attributes: Attributes) -> _Metric:
        """Return the time series of some attributes; absent ones are empty labels."""
        if not self._labels:
            return self._metric
        present = attributes or {}
        return self._metric.labels(*[present.get(label, "") for label in self._labels])


class _Counter(_Instrument[metrics.Counter, prometheus_client.Counter], metrics.Counter):
    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._series(attributes).inc(amount)
        self._beside.add(amount, attributes, context)


class _Histogram(_Instrument[metrics.Histogram, prometheus_client.Histogram], metrics.Histogram):
    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._series(attributes).observe(amount)
        self._beside.record(amount, attributes, context)


class _Gauge(_Instrument[MeterGauge, prometheus_client.Gauge], MeterGauge):
    def set(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._series(attributes).set(amount)
        self._beside.set(amount, attributes, context)
