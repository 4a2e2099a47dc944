"""Where telemetry goes: to Uptrace, over gRPC as the `uptrace` package does it, or over HTTP.

Imported only when telemetry is on.
"""

from __future__ import annotations

import logging
import socket
from urllib.parse import urlsplit

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from uptrace.dsn import DSN, parse_dsn
from uptrace.id_generator import UptraceIdGenerator
from uptrace.logs import configure_logs
from uptrace.metrics import configure_metrics, temporality_delta
from uptrace.traces import configure_traces

from open_workshop_storage.core.settings import Settings

_ATTEMPT_SECONDS = 5
_TRACES_PATH = "/v1/traces"
# Clients choose paths and hosts of 64 KiB, and a thousand spans wait while the receiver is away.
_MOST_CHARACTERS = 1024


def start_exporting(settings: Settings) -> None:
    """Set the process's providers of traces, metrics and logs up."""
    if settings.uptrace_otlp_protocol == "http":
        _export_over_http(settings)
    else:
        _export_over_grpc(settings)
    traces = trace.get_tracer_provider()
    assert isinstance(traces, TracerProvider)
    traces.add_span_processor(_TextsOfClients())


class _TextsOfClients(SpanProcessor):
    """Keeps the query strings out of FastAPI's spans, since they hold transfer tokens, and cuts what is long.

    The limit that OpenTelemetry has for it would log a warning each time.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name, value in dict(span.attributes or {}).items():
            if name == "url.query":
                span.set_attribute(name, "REDACTED")
            elif isinstance(value, str) and len(value) > _MOST_CHARACTERS:
                span.set_attribute(name, value[:_MOST_CHARACTERS])


def _export_over_grpc(settings: Settings) -> None:
    """Set the global providers up as `uptrace.configure_opentelemetry` does, which knows no other address."""
    dsn, resource = _dsn(settings), _resource(settings)
    configure_traces(dsn, resource)
    configure_metrics(dsn, resource)
    configure_logs(dsn, resource)


def _export_over_http(settings: Settings) -> None:
    """Set the global providers up like those for gRPC, but with exporters over HTTP."""
    dsn, resource = parse_dsn(settings.uptrace_dsn), _resource(settings)
    traces_url = settings.uptrace_otlp_traces_url or dsn.otlp_http_endpoint + _TRACES_PATH
    # Any other address of traces says nothing of the rest.
    base = traces_url.removesuffix(_TRACES_PATH) if traces_url.endswith(_TRACES_PATH) else dsn.otlp_http_endpoint
    headers = {"uptrace-dsn": settings.uptrace_dsn}
    spans = OTLPSpanExporter(traces_url, headers=headers, timeout=_ATTEMPT_SECONDS, compression=Compression.Gzip)
    traces = TracerProvider(resource=resource, id_generator=UptraceIdGenerator())
    traces.add_span_processor(BatchSpanProcessor(spans))
    trace.set_tracer_provider(traces)
    metric_exporter = OTLPMetricExporter(
        f"{base}/v1/metrics",
        headers=headers,
        timeout=_ATTEMPT_SECONDS,
        compression=Compression.Gzip,
        preferred_temporality=temporality_delta,
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
    )
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(metric_exporter)], resource))
    lines = OTLPLogExporter(f"{base}/v1/logs", headers=headers, timeout=_ATTEMPT_SECONDS, compression=Compression.Gzip)
    logs = LoggerProvider(resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(lines))
    _logs.set_logger_provider(logs)
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logs, log_code_attributes=True))


def _resource(settings: Settings) -> Resource:
    attributes = {
        "host.name": socket.gethostname(),
        "service.name": settings.otel_service_name,
        "service.version": settings.otel_service_version,
        "deployment.environment": settings.otel_deployment_environment,
    }
    return Resource.create({name: value for name, value in attributes.items() if value})


def _dsn(settings: Settings) -> DSN:
    """Return the DSN with the address that telemetry goes to over gRPC."""
    dsn = parse_dsn(settings.uptrace_dsn)
    if not settings.uptrace_otlp_grpc_url:
        return dsn
    url = urlsplit(settings.uptrace_otlp_grpc_url)
    host, _, port = url.netloc.rpartition("@")[2].rpartition(":") if url.port else (url.netloc, "", "")
    return DSN(dsn.str, url.scheme, host, dsn.http_port, port, dsn.token)
