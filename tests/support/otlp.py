"""A receiver of telemetry, as Uptrace or a collector would be: OTLP over gRPC and over HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.support.servers import QuietHandler, http_server

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """One span; ids in hexadecimal, an empty parent for a root."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Attributes
    resource: Attributes
    failed: bool
    linked: tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """One data point of a metric: its value, or for a histogram the count of what it holds."""

    name: str
    unit: str
    value: float
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True)
class Line:
    """One exported log line."""

    text: str
    trace_id: str
    attributes: Attributes
    resource: Attributes


@dataclass
class Receiver:
    """What has come in.

    Attributes:
        raw: Every request as it came, unpacked.
        dsns: The `uptrace-dsn` of each request.
        paths: The HTTP paths that were posted to.
    """

    http_url: str = ""
    grpc_url: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    dsns: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)

    def dsn(self, token: str = "project-token") -> str:
        """Return a DSN that leads here by either protocol."""
        return f"http://{token}@{self.http_url.removeprefix('http://')}/2?grpc={self.grpc_url.rpartition(':')[2]}"

    def values(self, name: str, **attributes: object) -> list[float]:
        """Return all points of a metric that have these attributes, dots in their names as `_`, the latest last."""
        wanted = attributes.items()
        return [
            metric.value
            for metric in self.metrics
            if metric.name == name
            and wanted <= {key.replace(".", "_"): v for key, v in metric.attributes.items()}.items()
        ]

    def sum(self, name: str, **attributes: object) -> float:
        """Return the sum of what `values` returns."""
        return sum(self.values(name, **attributes))

    def take(self, signal: str, body: bytes) -> None:
        """Take in what a request brought."""
        self.raw.append(body)
        {"traces": self._take_spans, "metrics": self._take_metrics, "logs": self._take_lines}[signal](body)

    def _take_spans(self, body: bytes) -> None:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.spans.append(
                    Span(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _attributes(span.attributes),
                        _attributes(group.resource.attributes),
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        tuple(link.trace_id.hex() for link in span.links),
                    )
                )

    def _take_metrics(self, body: bytes) -> None:
        request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)
        for group in request.resource_metrics:
            for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    fields = {descriptor.name for descriptor, _ in point.ListFields()}
                    value = point.count if "count" in fields else point.as_int or point.as_double
                    described = (_attributes(point.attributes), _attributes(group.resource.attributes))
                    self.metrics.append(Metric(metric.name, metric.unit, value, *described))

    def _take_lines(self, body: bytes) -> None:
        request = logs_service_pb2.ExportLogsServiceRequest.FromString(body)
        for group in request.resource_logs:
            for line in (line for scope in group.scope_logs for line in scope.log_records):
                described = (_attributes(line.attributes), _attributes(group.resource.attributes))
                self.lines.append(Line(line.body.string_value, line.trace_id.hex(), *described))


def _attributes(pairs: Iterator[KeyValue]) -> Attributes:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Receive on two ports of 127.0.0.1 until the block ends."""
    receiver = Receiver()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.paths.add(self.path)
            receiver.dsns.add(self.headers["uptrace-dsn"])
            receiver.take(self.path.rpartition("/")[2], gzip.decompress(body))
            self.send_response(200)
            self.end_headers()

    with http_server(Handler) as receiver.http_url, _receiving_grpc(receiver):
        yield receiver


@contextmanager
def _receiving_grpc(receiver: Receiver) -> Iterator[None]:
    def export(signal: str, answer: Any) -> Any:
        def take(self: object, request: Any, context: Any) -> Any:
            receiver.dsns.add(dict(context.invocation_metadata())["uptrace-dsn"])
            receiver.take(signal, request.SerializeToString())
            return answer()

        return take

    server = grpc.server(ThreadPoolExecutor(4))
    for signal, messages, stubs in (
        ("Trace", trace_service_pb2, trace_service_pb2_grpc),
        ("Metrics", metrics_service_pb2, metrics_service_pb2_grpc),
        ("Logs", logs_service_pb2, logs_service_pb2_grpc),
    ):
        kind = "traces" if signal == "Trace" else signal.lower()
        answer = getattr(messages, f"Export{signal}ServiceResponse")
        servicer = type("Servicer", (getattr(stubs, f"{signal}ServiceServicer"),), {"Export": export(kind, answer)})
        getattr(stubs, f"add_{signal}ServiceServicer_to_server")(servicer(), server)
    receiver.grpc_url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()
