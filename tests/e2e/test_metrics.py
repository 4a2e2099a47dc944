"""Metrics as Prometheus scrapes them (docs/API.md, "Metrics")."""

from __future__ import annotations

import re

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, seven_zip_of
from tests.support.client import eventually, upload
from tests.support.documents import operations
from tests.support.images import saved
from tests.support.processes import children, kill
from tests.support.servers import PROJECT
from tests.support.services import REDIS_WORKERS, Services

pytestmark = pytest.mark.anyio

ARCHIVE = seven_zip_of(SMALL_MOD)
DASHBOARD = PROJECT / "deploy" / "grafana-dashboard.json"
METRIC = re.compile(r"\b(?:storage|http_server)_\w+")


class Scraped:
    """The samples of one scrape.

    Attributes:
        names: Of its metrics.
    """

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        self.names = {sample.name for sample in self._samples}

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 if there are none."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())


async def scrape(service: str) -> Scraped:
    async with httpx.AsyncClient() as fresh:
        answer = await fresh.get(f"{service}/metrics")
        document = (await fresh.get(f"{service}/openapi.json")).json()
    assert answer.status_code == 200
    (described,) = (operation for operation in operations(document) if operation.path.endswith("/metrics"))
    described.check(answer)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scraped(answer.text)


async def ask(services: Services, times: int) -> None:
    """Ask whether the loader lives, over as many connections, which its workers share out among them."""
    for _ in range(times):
        async with httpx.AsyncClient() as fresh:
            assert (await fresh.get(f"{services.loader}/loader/healthz")).status_code == 200


async def test_metrics_are_exact_over_all_workers_and_after_the_death_of_one(
    redis_url: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(redis_url, METRICS_ENABLED=True)
    loader = f"{services.loader}/loader"
    tickets = [services.ticket() for _ in range(2)]
    for ticket in tickets:
        assert (await upload(http, services.loader, ticket.token, ARCHIVE)).status_code == 200
    asked = {"http_route": "/loader/healthz", "http_response_status_code": "200"}
    # The test asks until the service is up.
    before = (await scrape(loader)).sum("http_server_request_duration_seconds_count", **asked)
    await ask(services, 30)

    async def is_exact(healthz: int) -> None:
        scraped = await scrape(loader)
        moved = sum((services.main_dir / ticket.path).stat().st_size for ticket in tickets)
        assert scraped.sum("http_server_request_duration_seconds_count", **asked) - before == healthz
        assert scraped.sum("storage_transfers_total", kind="archive", origin="upload", outcome="success") == 2
        assert scraped.sum("storage_bytes_total", step="received") == 2 * len(ARCHIVE)
        assert scraped.sum("storage_bytes_total", step="moved") == moved
        assert scraped.sum("storage_callbacks_total", outcome="delivered") == 2
        assert scraped.sum("storage_stage_duration_seconds_count", stage="extracting") == 2

    await is_exact(30)
    services.stored("resource/a.png", saved(Image.new("RGB", (8, 8)), "PNG"))
    await http.post(f"{services.distributor}/blurhashes", json={"paths": ["/download/resource/a.png"]})
    scraped = [await scrape(loader), await scrape(f"{services.distributor}/distributor")]
    shown = set(METRIC.findall(DASHBOARD.read_text()))
    assert shown and shown <= {name for one in scraped for name in one.names}
    server = services.servers["loader"]
    kill(children(server.process.pid)[:1])
    # The server loses a signal to end that comes while a worker starts.
    await eventually(lambda: server.output().count("Started worker-") == REDIS_WORKERS + 1)
    await ask(services, 12)
    await is_exact(42)


async def test_without_the_setting_there_are_no_metrics(services: Services, http: httpx.AsyncClient) -> None:
    for url in (f"{services.loader}/loader/metrics", f"{services.distributor}/distributor/metrics"):
        answer = await http.get(url)
        assert (answer.status_code, answer.text) == (404, "Not Found")
