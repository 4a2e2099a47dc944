"""Where telemetry goes: to Uptrace, over gRPC or HTTP, or to any receiver of OTLP.

Imported only when telemetry is on.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
from opentelemetry import _logs, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from uptrace.dsn import DSN, parse_dsn
from uptrace.id_generator import UptraceIdGenerator
from uptrace.metrics import temporality_delta

from open_workshop_storage.core.settings import Settings

_ATTEMPT_SECONDS = 5
_TRACES_PATH = "/v1/traces"
# Clients choose paths and hosts of 64 KiB, and a thousand spans wait while the receiver is away.
_MOST_CHARACTERS = 1024
_UPTRACE_METRICS: Mapping[str, Any] = {
    "preferred_temporality": temporality_delta,
    "preferred_aggregation": {Histogram: ExponentialBucketHistogramAggregation()},
}


class _Exporters(NamedTuple):
    spans: SpanExporter
    metrics: MetricExporter
    lines: LogRecordExporter


def start_exporting(settings: Settings) -> tuple[MeterProvider, Sequence[Callable[[], None]]]:
    """Set up this process's providers of traces and log lines.

    Returns:
        The provider of metrics, and functions that send the rest of each signal and shut its provider down.
    """
    exporters, resource = _exporters(settings), _resource(settings)
    traces = TracerProvider(resource=resource, id_generator=UptraceIdGenerator())
    traces.add_span_processor(_TextsOfClients())
    traces.add_span_processor(BatchSpanProcessor(exporters.spans))
    trace.set_tracer_provider(traces)
    logs = LoggerProvider(resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(exporters.lines))
    _logs.set_logger_provider(logs)
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logs, log_code_attributes=True))
    meters = MeterProvider([PeriodicExportingMetricReader(exporters.metrics)], resource)
    return meters, (traces.shutdown, meters.shutdown, logs.shutdown)


class _TextsOfClients(SpanProcessor):
    """Keeps query strings out of FastAPI's spans, since they hold transfer tokens, and cuts long texts.

    OpenTelemetry's own limit on lengths would log a warning for each text.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name, value in dict(span.attributes or {}).items():
            if name == "url.query":
                span.set_attribute(name, "REDACTED")
            elif isinstance(value, str) and len(value) > _MOST_CHARACTERS:
                span.set_attribute(name, value[:_MOST_CHARACTERS])


def _exporters(settings: Settings) -> _Exporters:
    if not settings.uptrace_dsn:
        # The exporters read OpenTelemetry's own variables: addresses, headers, time-outs.
        if settings.otel_exporter_otlp_protocol == "grpc":
            return _Exporters(GrpcSpanExporter(), GrpcMetricExporter(), GrpcLogExporter())
        return _Exporters(OTLPSpanExporter(), OTLPMetricExporter(), OTLPLogExporter())
    dsn = parse_dsn(settings.uptrace_dsn)
    options: dict[str, Any] = {"headers": {"uptrace-dsn": dsn.str}, "timeout": _ATTEMPT_SECONDS}
    if settings.uptrace_otlp_protocol == "grpc":
        options |= {"endpoint": _grpc_endpoint(settings, dsn), "compression": grpc.Compression.Gzip}
        return _Exporters(
            GrpcSpanExporter(**options), GrpcMetricExporter(**options, **_UPTRACE_METRICS), GrpcLogExporter(**options)
        )
    options["compression"] = Compression.Gzip
    traces_url = settings.uptrace_otlp_traces_url or dsn.otlp_http_endpoint + _TRACES_PATH
    # The addresses of metrics and log lines follow from that of traces only if it has the usual path.
    base = traces_url.removesuffix(_TRACES_PATH) if traces_url.endswith(_TRACES_PATH) else dsn.otlp_http_endpoint
    return _Exporters(
        OTLPSpanExporter(traces_url, **options),
        OTLPMetricExporter(f"{base}/v1/metrics", **options, **_UPTRACE_METRICS),
        OTLPLogExporter(f"{base}/v1/logs", **options),
    )


def _grpc_endpoint(settings: Settings, dsn: DSN) -> str:
    if not settings.uptrace_otlp_grpc_url:
        return str(dsn.otlp_grpc_endpoint)
    url = urlsplit(settings.uptrace_otlp_grpc_url)
    host, _, port = url.netloc.rpartition("@")[2].rpartition(":") if url.port else (url.netloc, "", "")
    return str(DSN(scheme=url.scheme, host=host, grpc_port=port).otlp_grpc_endpoint)


def _resource(settings: Settings) -> Resource:
    attributes = {
        "host.name": socket.gethostname(),
        "service.name": settings.otel_service_name,
        "service.version": settings.otel_service_version,
        "deployment.environment": settings.otel_deployment_environment,
    }
    return Resource.create({name: value for name, value in attributes.items() if value})
