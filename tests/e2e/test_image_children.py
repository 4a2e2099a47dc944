"""The processes in which the services decode images: they may die, and never outlive their worker."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest
from PIL import Image

from tests.conftest import ServiceStarter
from tests.e2e.test_transfer_images import image_ticket, picture
from tests.support.client import eventually, upload
from tests.support.images import saved
from tests.support.processes import is_running, python_children, send_signal
from tests.support.servers import Server
from tests.support.services import Services

pytestmark = pytest.mark.anyio


def photo() -> bytes:
    """Return a picture that takes a second or so to encode."""
    return saved(Image.effect_noise((2400, 1800), 60), "JPEG")


async def test_a_decoder_that_crashes_ends_its_own_job_only(services_memory: Services, http: httpx.AsyncClient) -> None:
    loader, ticket = services_memory.servers["loader"], image_ticket(services_memory, target_path="covers/crash.webp")
    workers = set(loader.workers()) - set(python_children(loader.process.pid))
    sending = asyncio.create_task(upload(http, services_memory.loader, ticket.token, photo(), "photo.jpg"))
    while not sending.done():
        send_signal(python_children(loader.process.pid), signal.SIGSEGV)
        await asyncio.sleep(0.02)
    answer = await sending
    assert (answer.status_code, answer.text) == (500, "Image preparation failed")
    (callback,) = services_memory.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "image_prepare_failed")
    other = image_ticket(services_memory, target_path="covers/other.webp")
    answer = await upload(http, services_memory.loader, other.token, picture(), "picture.png")
    assert answer.status_code == 200
    assert workers <= set(loader.workers())


async def with_a_decoder(start_services: ServiceStarter, http: httpx.AsyncClient) -> tuple[Server, int]:
    """Return a distributor, and the process in which it has decoded an image."""
    services = start_services(apps=("distributor",))
    services.stored("resource/picture.png", picture())
    await http.post(f"{services.distributor}/blurhashes", json={"paths": ["/download/resource/picture.png"]})
    (child,) = python_children(services.servers["distributor"].process.pid)
    return services.servers["distributor"], child


async def test_no_decoder_outlives_a_worker_that_is_killed(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    distributor, child = await with_a_decoder(start_services, http)
    # It cannot notice anything by itself now, like one that is caught in an endless loop.
    send_signal([child], signal.SIGSTOP)
    workers = set(distributor.workers()) - {child}
    assert workers and is_running(child)
    send_signal(workers, signal.SIGKILL)
    await eventually(lambda: not is_running(child))


async def test_no_decoder_outlives_a_service_that_is_stopped(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    distributor, child = await with_a_decoder(start_services, http)
    assert is_running(child)
    distributor.process.terminate()
    await eventually(lambda: not is_running(child))
