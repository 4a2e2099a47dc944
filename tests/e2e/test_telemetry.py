"""Telemetry as it reaches Uptrace, or a collector, over both protocols."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis.asyncio

from tests.conftest import ServiceStarter
from tests.e2e.under_way import PACKED_LARGE, Records, Transfers, reported
from tests.support.archives import SMALL_MOD, seven_zip_of
from tests.support.client import PATIENCE_SECONDS, eventually, upload, watching
from tests.support.manager import Answer
from tests.support.otlp import Receiver, Span, otlp_receiver
from tests.support.processes import children, send_signal
from tests.support.servers import free_port
from tests.support.services import REDIS_WORKERS, Services, Ticket

pytestmark = pytest.mark.anyio

ARCHIVE = seven_zip_of(SMALL_MOD)
STAGES = ["uploading", "uploaded", "extracting", "repacking"]
COOKIE = "cookie-that-only-the-access-service-may-see"
UNITS = {
    "storage.transfers": "{transfer}",
    "storage.stage.duration": "s",
    "storage.bytes": "By",
    "storage.slots.used": "{slot}",
    "storage.slots.waiting": "{job}",
    "storage.sockets.open": "{socket}",
    "storage.callbacks": "{attempt}",
    "storage.callbacks.pending": "{callback}",
    "storage.callbacks.oldest": "s",
    "storage.blurhashes": "{image}",
    "storage.disk.free": "By",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as running:
        yield running


async def transfer(services: Services, http: httpx.AsyncClient) -> Ticket:
    """Upload an archive and watch it."""
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await upload(http, services.loader, ticket.token, ARCHIVE)
        assert answer.status_code == 200
        await watcher.finish()
    return ticket


async def download(services: Services, http: httpx.AsyncClient, ticket: Ticket) -> None:
    """Download what a transfer brought."""
    answer = await http.get(
        f"{services.distributor}/download/{ticket.path}",
        params={"filename": "name-in-the-query"},
        headers={"Cookie": f"accessToken={COOKIE}"},
    )
    assert answer.status_code == 200


def stop(services: Services) -> None:
    """End the services, which send what they still hold; none may have to be killed for it."""
    for server in services.servers.values():
        server.stop()
        assert server.process.returncode == 0, server.output()


def one(receiver: Receiver, name: str) -> Span:
    (span,) = (span for span in receiver.spans if span.name == name)
    return span


def parent_of(receiver: Receiver, span: Span) -> str:
    (parent,) = (other.name for other in receiver.spans if other.span_id == span.parent_id)
    return parent


def assert_one_trace(receiver: Receiver, ticket: Ticket) -> None:
    """Check that the trace of an upload holds all that was done for it."""
    request = one(receiver, "POST /transfer/upload")
    assert request.parent_id == ""
    trace = [span for span in receiver.spans if span.trace_id == request.trace_id]
    for name in (*STAGES, "callback", "move"):
        span = one(receiver, name)
        assert (span.trace_id, span.attributes["job.id"], span.failed) == (request.trace_id, ticket.job_id, False), name
    runs = {span.name: parent_of(receiver, span) for span in trace if span.name.startswith("7z ")}
    assert runs == {"7z l": "uploaded", "7z x": "extracting", "7z a": "repacking"}
    # The Manager's call is a trace of its own, as long as the Manager passes none on.
    assert one(receiver, "move").linked == (one(receiver, "POST /transfer/move").trace_id,)
    assert {line.trace_id for line in receiver.lines if line.attributes.get("job_id") == ticket.job_id} == {
        request.trace_id
    }


def assert_no_secret(receiver: Receiver, services: Services, ticket: Ticket) -> None:
    """Check that nothing of what clients showed to be let in, or asked for in a query, was sent."""
    sent = b"".join(receiver.raw)
    assert ticket.job_id.encode() in sent
    for secret in (ticket.token, COOKIE, "name-in-the-query", *vars(services.secrets).values()):
        assert secret.encode() not in sent


async def test_a_transfer_is_one_trace_over_grpc_whichever_workers_serve_it(
    receiver: Receiver, redis_url: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    # Of scripts that Redis does not know yet, nothing shows as failed.
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.script_flush()
    services = start_services(redis_url, UPTRACE_DSN=receiver.dsn())
    ticket = await transfer(services, http)
    await download(services, http, ticket)
    await asyncio.to_thread(stop, services)
    assert_one_trace(receiver, ticket)
    assert_no_secret(receiver, services, ticket)
    assert [span.name for span in receiver.spans if span.failed] == []
    saved = [span for span in receiver.spans if span.name == "redis EVALSHA"]
    assert "repacking" in {parent_of(receiver, span) for span in saved}
    roots = {span.name for span in receiver.spans if not span.parent_id}
    # What runs in the background makes no traces.
    assert all(name.startswith(("GET /", "POST /", "WS /")) for name in roots), roots
    assert parent_of(receiver, one(receiver, "access check")) == "GET /download/{type}/{path}"
    workers = {metric.resource["service.instance.id"] for metric in receiver.metrics if "slots" in metric.name}
    assert len(workers) == REDIS_WORKERS


async def test_metrics_answer_what_operators_ask(
    receiver: Receiver, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    # All three signals go to the receiver, though the DSN names another host.
    services = start_services(
        apps=["app"],
        UPTRACE_DSN=f"http://project-token@127.0.0.1:{free_port()}/2",
        UPTRACE_OTLP_PROTOCOL="http",
        UPTRACE_OTLP_TRACES_URL=f"{receiver.http_url}/v1/traces",
    )
    services.servers["loader"] = services.servers["distributor"] = services.servers["app"]
    ticket = await transfer(services, http)
    await download(services, http, ticket)
    refused = await upload(http, services.loader, services.ticket().token, b"PK\x03\x04 is no archive")
    assert refused.status_code == 400
    image = services.stored("resource/no-image.webp", b"x").name
    for _ in range(2):
        await http.post(f"{services.distributor}/blurhashes", json={"paths": [f"download/resource/{image}"]})
    del services.servers["loader"], services.servers["distributor"]
    await asyncio.to_thread(stop, services)
    assert receiver.paths == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert_no_secret(receiver, services, ticket)
    metric = receiver.sum
    assert metric("storage.transfers", kind="archive", origin="upload", outcome="success") == 1
    assert metric("storage.transfers", outcome="corrupt_archive") == 1
    assert all(metric("storage.stage.duration", stage=stage) for stage in STAGES)
    assert metric("storage.bytes", step="received") == len(ARCHIVE)
    assert metric("storage.bytes", step="moved") == (services.main_dir / ticket.path).stat().st_size
    assert metric("storage.callbacks", outcome="delivered") == 2
    assert (metric("storage.blurhashes", source="computed"), metric("storage.blurhashes", source="memory")) == (1, 1)
    assert metric("http.server.request.duration", http_route="/download/{type}/{path}") == 1
    failed = {span.attributes.get("error.type") for span in receiver.spans if span.failed}
    assert "corrupt_archive" in failed


async def test_any_receiver_of_otlp_gets_the_same_without_a_dsn(
    receiver: Receiver, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(
        apps=["app"],
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_url, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
    )
    services.servers["loader"] = services.servers["app"]
    await transfer(services, http)
    await asyncio.to_thread(services.servers["app"].stop)
    assert receiver.paths == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert receiver.sum("storage.transfers", outcome="success") == 1


async def test_metrics_tell_what_is_under_way_in_units_that_they_name(
    receiver: Receiver, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(
        apps=["app"],
        environment={"OTEL_METRIC_EXPORT_INTERVAL": "200"},
        UPTRACE_DSN=receiver.dsn(),
        TRANSFER_DOWNLOAD_CONCURRENCY=1,
    )
    services.servers["loader"] = services.servers["app"]
    unheard = services.ticket()
    services.manager.script(unheard.job_id, *[Answer(status=503)] * 10)
    assert (await upload(http, services.loader, unheard.token, ARCHIVE)).status_code == 200
    await http.post(f"{services.loader}/blurhashes", json={"paths": ["download/resource/missing.webp"]})
    wanted = {
        "storage.slots.used": 1,
        "storage.slots.waiting": 1,
        "storage.sockets.open": 1,
        "storage.callbacks.pending": 1,
    }

    def is_told() -> bool:
        """Return whether the latest of each is as wanted."""
        of_downloads = (
            metric for metric in receiver.metrics if metric.attributes.get("slot", "download") == "download"
        )
        latest = {metric.name: metric.value for metric in of_downloads}
        return wanted.items() <= latest.items()

    async with AsyncExitStack() as stack:
        transfers = Transfers(services, http, stack)
        fetch = await transfers.fetch(PACKED_LARGE, whole=False)
        await transfers.fetch(PACKED_LARGE)
        await stack.enter_async_context(watching(services.loader, fetch.ticket.job_id, fetch.ticket.token))
        await eventually(is_told)
        fetch.file.go_on.set()
    assert 0 < receiver.values("storage.callbacks.oldest")[-1] < PATIENCE_SECONDS
    assert 0 < receiver.values("storage.disk.free")[-1] <= shutil.disk_usage(services.main_dir).total
    units = {metric.name: metric.unit for metric in receiver.metrics if metric.name.startswith("storage.")}
    assert units == UNITS


@dataclass(frozen=True)
class Sent:
    """What a service has sent from its start to its end: of a transfer, and of a request with long texts."""

    protocol: str
    receiver: Receiver
    ticket: Ticket


@pytest.fixture(scope="module", params=["grpc", "http"])
async def sent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sent]:
    with ExitStack() as stack:
        receiver = stack.enter_context(otlp_receiver())
        services = ServiceStarter(tmp_path_factory, stack)(
            apps=["app"],
            UPTRACE_DSN=receiver.dsn(),
            UPTRACE_OTLP_PROTOCOL=request.param,
            # It does not say where metrics and logs go, so the DSN does.
            UPTRACE_OTLP_TRACES_URL=f"{receiver.http_url}/elsewhere/traces",
            UPTRACE_FASTAPI_EXCLUDED_URLS="healthz$, /transfer/m[aeiou]ve",
            UPTRACE_FASTAPI_EXCLUDE_SPANS="receive, send, operation",
            OTEL_SERVICE_NAME="workshop",
            OTEL_SERVICE_VERSION="1.2.3",
            OTEL_DEPLOYMENT_ENVIRONMENT="tests",
        )
        services.servers["loader"] = services.servers.pop("app")
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            ticket = await transfer(services, http)
            await http.get(f"{services.loader}/{'a' * 50_000}", headers={"Host": "h" * 8000})
        await asyncio.to_thread(stop, services)
        yield Sent(request.param, receiver, ticket)


async def test_settings_mean_the_same_over_both_protocols(sent: Sent) -> None:
    receiver = sent.receiver
    assert receiver.dsns == {receiver.dsn()}
    paths = {"/elsewhere/traces", "/v1/metrics", "/v1/logs"} if sent.protocol == "http" else set()
    assert receiver.paths == paths
    named = {"service.name": "workshop", "service.version": "1.2.3", "deployment.environment": "tests"}
    resources = [one.resource for one in receiver.spans]
    resources += [one.resource for one in receiver.metrics] + [one.resource for one in receiver.lines]
    assert all(named.items() <= resource.items() for resource in resources)
    names = {span.name for span in receiver.spans}
    assert {"POST /transfer/upload", "repacking", "move"} <= names
    assert not {name for name in names if "healthz" in name or "/transfer/move" in name or name.startswith("fastapi.")}
    assert sent.ticket.job_id in {line.attributes.get("job_id") for line in receiver.lines}


async def test_long_texts_of_clients_are_cut(sent: Sent) -> None:
    (span,) = (span for span in sent.receiver.spans if span.attributes.get("http.response.status_code") == 404)
    assert (span.attributes["url.path"], span.attributes["server.address"]) == (f"/{'a' * 1023}", "h" * 1024)


async def test_a_transfer_that_another_worker_took_over_stays_one_trace(
    receiver: Receiver, redis_url: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(
        redis_url,
        ["loader"],
        UPTRACE_DSN="http://project-token@127.0.0.1:9/2",
        UPTRACE_OTLP_GRPC_URL=receiver.grpc_url,
    )
    records = Records(services, redis_url)
    async with AsyncExitStack() as stack:
        fetch = await Transfers(services, http, stack).fetch(PACKED_LARGE, whole=False)
        first = await records.until(fetch.ticket, stage="downloading")
        loader = services.servers["loader"]
        holder = re.search(rf"INFO (\d+) job {fetch.ticket.job_id}: downloading", loader.output())
        assert holder is not None
        send_signal([int(holder[1])], signal.SIGTERM)
        await reported(services, fetch.ticket)
        # The server would not hear that it is to stop while it replaces the worker.
        await eventually(lambda: loader.output().count("Started worker-") == REDIS_WORKERS + 1)
    await asyncio.to_thread(stop, services)
    trace_id = first["traceparent"].split("-")[1]
    trace = [span for span in receiver.spans if span.trace_id == trace_id]
    assert {"GET /transfer/start", "pending", "downloading", "fetch", "downloaded", "callback", "move"} <= {
        span.name for span in trace
    }
    assert len({span.resource["service.instance.id"] for span in trace if span.name == "downloading"}) == 2
    assert {name for span in receiver.spans if (name := span.name).startswith("fastapi.")}


async def test_without_a_dsn_nothing_is_loaded_for_telemetry(services_redis: Services) -> None:
    for worker in children(services_redis.servers["loader"].process.pid):
        mapped = Path(f"/proc/{worker}/maps").read_text()
        assert "pydantic_core" in mapped and "grpc" not in mapped


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_a_receiver_that_does_not_answer_holds_nothing_up(
    protocol: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_SECONDS)
        port = silent.getsockname()[1]
        services = start_services(
            apps=["app"],
            environment={"OTEL_METRIC_EXPORT_INTERVAL": "200"},
            UPTRACE_DSN=f"http://project-token@127.0.0.1:{port}/2?grpc={port}",
            UPTRACE_OTLP_PROTOCOL=protocol,
        )
        app = services.servers["app"]
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            assert (await upload(http, app.url, services.ticket().token, ARCHIVE)).status_code == 200
            await asyncio.to_thread(stop, services)
        # It gave up by itself, before it would have been ended.
        assert "telemetry was not taken in time" in app.output()
