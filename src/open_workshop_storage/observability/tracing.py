"""Spans of the work for a request, or for a job that an earlier request began.

Nothing here begins a trace: FastAPI's own instrumentation does, at each request. So background work, such as polling
Redis, makes no spans, and without telemetry there are none.

No span carries a URL, a query string, a header or the message of an error: these may hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

_TRACER = trace.get_tracer("open_workshop_storage")
_PROPAGATOR = TraceContextTextMapPropagator()


def traceparent() -> str | None:
    """Return the present trace and span as a `traceparent` header (W3C Trace Context); `None` without a trace."""
    return trace_headers().get("traceparent")


def trace_headers() -> dict[str, str]:
    """Return the headers that pass the present trace on to another service."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def context_of(parent: str | None) -> Context | None:
    """Return the context that a `traceparent` describes; `None` without one."""
    return None if parent is None else _PROPAGATOR.extract({"traceparent": parent}, Context())


@contextmanager
def span(
    name: str, attributes: Mapping[str, AttributeValue] | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    """Record the block as a span of the present trace, if there is one."""
    present = trace.get_current_span()
    if not present.get_span_context().is_valid:
        yield present
        return
    with _TRACER.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            mark_failed(current, type(error).__name__)
            raise


@contextmanager
def joined(parent: str | None) -> Iterator[None]:
    """Run the block in the context of another trace.

    Args:
        parent: The other trace's `traceparent`; without one the context stays as it is.
    """
    context = context_of(parent)
    if context is None:
        yield
        return
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


@contextmanager
def job_span(
    name: str, job_id: str, parent: str | None, attributes: Mapping[str, AttributeValue] | None = None
) -> Iterator[Span]:
    """Record the block as a span of the job's trace, which an earlier request may have begun.

    Args:
        parent: The job's `traceparent`; without one the span belongs to the present trace.
    """
    asking = trace.get_current_span().get_span_context()
    with joined(parent), span(name, {"job.id": job_id, **(attributes or {})}) as current:
        if asking.is_valid and asking.trace_id != current.get_span_context().trace_id:
            current.add_link(asking)
        yield current


def mark_failed(failed: Span, kind: str) -> None:
    """Mark a span as failed.

    Args:
        kind: The error's type or reason, from a small set.
    """
    failed.set_attribute("error.type", kind)
    failed.set_status(StatusCode.ERROR)


class StageSpans:
    """One span after another: a span for each stage of one run."""

    def __init__(self, job_id: str, parent: str | None) -> None:
        self._job_id = job_id
        self._parent = context_of(parent)
        self._span: Span | None = None

    def enter(self, stage: str) -> None:
        """End the last stage's span, if there is one, and make a new one the current span."""
        self.end()
        if self._parent is not None:
            self._span = _TRACER.start_span(stage, context=self._parent, attributes={"job.id": self._job_id})
            contexts.attach(trace.set_span_in_context(self._span))

    def end(self, error: str | None = None) -> None:
        """End the last span.

        Args:
            error: The reason, if a failure ended the stage.
        """
        if self._span is not None:
            if error is not None:
                mark_failed(self._span, error)
            self._span.end()
            self._span = None

    @contextmanager
    def current(self, stage: str) -> Iterator[None]:
        """Run the block within the present stage's span, and restore the context afterwards."""
        before = contexts.get_current()
        if self._span is None:
            self.enter(stage)
        else:
            contexts.attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            # The block may have entered further stages; this detaches all of them at once.
            contexts.attach(before)
