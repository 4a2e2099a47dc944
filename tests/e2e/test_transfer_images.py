"""Images as transfers, uploaded and fetched."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO

import httpx
import pytest
from PIL import Image

from open_workshop_storage.client import StorageError
from tests.conftest import ServiceStarter
from tests.support.client import eventually, upload, watching
from tests.support.images import gif
from tests.support.origins import reply, running_origin
from tests.support.processes import python_children, send_signal
from tests.support.servers import Server
from tests.support.services import Services, Ticket

pytestmark = pytest.mark.anyio

ORIENTATION = 0x0112


def picture(image_format: str = "PNG", size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """Return a picture that is red on the left and transparent, or blue, on the right."""
    image = Image.new("RGBA", size, (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (size[0] // 2, 0, *size))
    file = BytesIO()
    (image if image_format in ("PNG", "WEBP") else image.convert("RGB")).save(file, image_format, **options)
    return file.getvalue()


def image_ticket(services: Services, **claims: object) -> Ticket:
    return services.ticket(**{"transfer_kind": "img", "mod_id": None, "storage_type": "resource", **claims})


@asynccontextmanager
async def stopped_children(server: Server) -> AsyncIterator[None]:
    """Stop what decodes images now, and let it go on at the end."""
    stopped = python_children(server.process.pid)
    send_signal(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(stopped, signal.SIGCONT)


async def test_images_of_transfers_do_not_delay_the_managers(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=("loader",), TRANSFER_UPLOAD_CONCURRENCY=0)
    loader, cores = services.servers["loader"], len(os.sched_getaffinity(0))
    tickets = [image_ticket(services, target_path=f"covers/{number}.webp") for number in range(2 * cores)]
    photo = BytesIO()
    Image.effect_noise((2000, 2000), 60).save(photo, "PNG")
    sending = [
        asyncio.create_task(upload(http, services.loader, ticket.token, photo.getvalue(), "photo.png"))
        for ticket in tickets
    ]
    await eventually(lambda: len(python_children(loader.process.pid)) == cores)
    async with stopped_children(loader):
        form = {"token": services.secrets.upload_file, "type": "avatar", "path": "me.webp", "file_kind": "img"}
        answer = await http.post(f"{services.loader}/upload", data=form, files={"file": picture()})
        assert answer.status_code == 201
        assert not any(task.done() for task in sending)
    assert [answer.status_code for answer in await asyncio.gather(*sending)] == 2 * cores * [200]


async def stored(http: httpx.AsyncClient, services: Services, path: str) -> Image.Image:
    answer = await http.get(f"{services.distributor}/download/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    return Image.open(BytesIO(answer.content), formats=["WEBP"])


@pytest.mark.parametrize(
    ("storage_type", "kind"), [("resource", {}), ("avatar", {"file_kind": "img"})], ids=["resource", "avatar"]
)
async def test_an_image_is_normalised_shown_reported_and_moved(
    storage_type: str, kind: dict[str, object], services: Services, http: httpx.AsyncClient
) -> None:
    path = f"covers/{storage_type}.webp"
    ticket = image_ticket(services, storage_type=storage_type, target_path=path, added_later=1, **kind)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    sent = picture("JPEG", exif=exif)
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await upload(http, services.loader, ticket.token, sent, "photo.jpg")
        messages = await watcher.finish()
    assert (answer.status_code, answer.json()) == (
        200,
        {"job_id": ticket.job_id, "bytes": len(sent), "total": len(sent)},
    )
    stages = list(dict.fromkeys(message["stage"] for message in messages))
    assert stages == ["pending", "uploading", "uploaded", "processing", "packed"]
    assert {message["status"] for message in messages if message["stage"] == "processing"} == {"processing"}
    assert all(message["percent"] is None for message in messages)
    assert messages[-1]["event"] == "complete"
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    expected = {
        "status": "success",
        "transfer_kind": "img",
        "packed_format": "webp",
        "storage_type": storage_type,
        "file_kind": "img",
        "target_path": path,
        "bytes": len(sent),
        "total": len(sent),
        "mod_id": None,
        "pack_format": None,
        "pack_level": None,
        "mode": None,
        "update_only": False,
        "added_later": 1,
    }
    assert {name: callback.claims.get(name, "absent") for name in expected} == expected
    assert callback.moved.final_path == f"{storage_type}/{path}"
    image = await stored(http, services, f"{storage_type}/{path}")
    assert image.size == (48, 64)
    assert not image.getexif()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
async def test_an_image_of_each_usual_format_becomes_webp(
    image_format: str, services: Services, http: httpx.AsyncClient
) -> None:
    path = f"pictures/{image_format}.webp"
    ticket = image_ticket(services, target_path=path)
    assert (await upload(http, services.loader, ticket.token, picture(image_format), "any name")).status_code == 200
    image = await stored(http, services, f"resource/{path}")
    assert image.size == (64, 48)
    assert image.mode == ("RGBA" if image_format in ("PNG", "WEBP") else "RGB")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    size = (services.main_dir / "resource" / path).stat().st_size
    assert (callback.moved.final_bytes, callback.claims["unpacked_bytes"]) == (size, size)
    digest = sha256((services.main_dir / "resource" / path).read_bytes()).hexdigest()
    assert (callback.claims["packed_bytes"], callback.claims["sha256"]) == (size, digest)
    assert callback.moved.sha256 == digest


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 5000):
        yield content[start : start + 5000]


@pytest.mark.parametrize(
    ("sent", "status", "text", "reason"),
    [
        pytest.param(b"no image", 400, "Image expected", "not_image", id="text"),
        pytest.param(picture()[:-60], 400, "Image expected", "not_image", id="cut off"),
        pytest.param(picture(size=(16_384, 1)), 413, "Image too large", "size_limit", id="too wide"),
        pytest.param(gif(16_000, 16_000, 1), 413, "Image too large", "size_limit", id="too many pixels"),
    ],
)
@pytest.mark.parametrize("how", ["upload", "fetch"])
async def test_what_is_no_usable_image_is_refused_reported_and_shown(
    sent: bytes, status: int, text: str, reason: str, how: str, services: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(reply(200, body=sent)) as origin:
        ticket = image_ticket(services, **{} if how == "upload" else {"download_url": f"{origin.url}/image.png"})
        async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
            if how == "upload":
                answer = await upload(http, services.loader, ticket.token, in_pieces(sent), "image.png")
                assert (answer.status_code, answer.text) == (status, text)
            else:
                await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})
            end = (await watcher.finish())[-1]
    assert (end["event"], end["status"], end["stage"], end["message"]) == ("error", "error", "error", text)
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", reason)
    assert (callback.claims["bytes"], callback.claims["file_kind"]) == (len(sent), "img")
    assert not (services.main_dir / "temp" / ticket.job_id).exists()


async def test_an_image_token_that_will_not_do_begins_nothing(services: Services, http: httpx.AsyncClient) -> None:
    ticket = image_ticket(services, download_url="http://127.0.0.1/", storage_type="archive")
    answers = (
        await upload(http, services.loader, ticket.token, picture()),
        await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token}),
    )
    for answer in answers:
        assert (answer.status_code, answer.text) == (400, "Invalid storage type")
    with pytest.raises(StorageError, match="404 Job not found"):
        await asyncio.to_thread(services.manager.move, ticket.job_id, "resource", "x.webp")
    assert not services.manager.callbacks(ticket.job_id)
