"""Spans, where there is a trace and where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from open_workshop_storage.observability import tracing

PARENT = f"00-{7:032x}-{9:016x}-01"


@pytest.fixture
def traced() -> Iterator[SpanContext]:
    """A present trace, as a request has."""
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        yield span.get_span_context()


def test_without_a_trace_there_are_no_spans() -> None:
    with tracing.span("work") as current:
        assert not current.get_span_context().is_valid
    assert tracing.traceparent() is None and tracing.trace_headers() == {}


def test_the_present_trace_can_be_passed_on(traced: SpanContext) -> None:
    passed = tracing.traceparent()
    assert passed is not None and passed.split("-")[1] == trace.format_trace_id(traced.trace_id)


def test_a_block_that_is_joined_to_another_trace_lies_in_it_and_leaves_the_present_one(traced: SpanContext) -> None:
    with tracing.joined(PARENT):
        assert trace.get_current_span().get_span_context().trace_id == 7
    assert trace.get_current_span().get_span_context() == traced
    with tracing.joined(None):
        assert trace.get_current_span().get_span_context() == traced


def test_a_traceparent_becomes_a_context() -> None:
    assert tracing.context_of(None) is None
    context = tracing.context_of(PARENT)
    assert isinstance(context, Context)
    remote = trace.get_current_span(context).get_span_context()
    assert isinstance(trace.get_current_span(context), NonRecordingSpan)
    assert (remote.trace_id, remote.span_id, remote.trace_flags) == (7, 9, TraceFlags.SAMPLED)
