"""What is away for a while: clients in mid-body, the storage root, Redis."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import upload, watching
from tests.support.manager import Answer
from tests.support.object_store import running_object_store, settings_of
from tests.support.restarts import RestartableRedis
from tests.support.services import Services

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send_no_more(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def send_nonsense(connection: socket.socket) -> None:
    connection.sendall(b"no chunk\r\n")


@pytest.mark.parametrize(
    ("header", "leave"),
    [
        ("Content-Length: 1000", close),
        ("Content-Length: 1000", reset),
        ("Content-Length: 1000", send_no_more),
        ("Transfer-Encoding: chunked", close),
        ("Transfer-Encoding: chunked", send_no_more),
        ("Transfer-Encoding: chunked", send_nonsense),
    ],
)
async def test_a_body_that_breaks_off_ends_the_job_and_may_be_sent_again(
    header: str, leave: Callable[[socket.socket], None], services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    # A Manager that takes the second attempt, too.
    services.manager.script(ticket.job_id, Answer(), Answer())
    head = f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: storage\r\n{header}\r\n\r\n"
    url = httpx.URL(services.loader)
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        with socket.create_connection((url.host, url.port)) as connection:
            connection.sendall(head.encode() + b"3\r\nabc\r\n")
            await watcher.until(stage="uploading")
            leave(connection)
            end = (await watcher.finish())[-1]
    assert (end["event"], end["status"]) == ("error", "error")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")
    assert not (services.main_dir / "temp" / ticket.job_id).exists()
    assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200


async def test_calls_that_need_the_storage_root_wait_for_it_and_do_not_make_it(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], TRANSFER_MOVE_WAIT_SECONDS=0.5)
    packed, sent, fetched = services.ticket(), services.ticket(), services.ticket(download_url="http://127.0.0.1:1/")
    services.manager.script(packed.job_id, Answer(move=False))
    assert (await upload(http, services.loader, packed.token, MOD)).status_code == 200

    away = services.main_dir.with_name("away")
    services.main_dir.rename(away)
    manage = {"token": services.secrets.storage_manage_token, "job_id": packed.job_id}
    answers = (
        await upload(http, services.loader, sent.token, MOD),
        await http.get(f"{services.loader}/transfer/start", params={"token": fetched.token}),
        await http.post(f"{services.loader}/transfer/repack", data=manage),
        await http.post(f"{services.loader}/transfer/move", data={**manage, "type": "resource", "path": "a.zip"}),
    )
    for answer in answers:
        assert (answer.status_code, answer.text) == (503, "Service unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert not services.main_dir.exists()

    away.rename(services.main_dir)
    await asyncio.to_thread(services.manager.move, packed.job_id, "resource", "a.zip")
    assert (await upload(http, services.loader, sent.token, MOD)).status_code == 200
    assert [callback.claims["status"] for callback in services.manager.callbacks(sent.job_id)] == ["success"]


async def test_an_object_store_that_dies_breaks_downloads_off_and_puts_others_off(
    tmp_path: Path, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    size = 100_000_000
    with running_object_store(tmp_path) as store:
        bucket = store.bucket()
        url = signed_url(bucket.key, "PUT", bucket.url("resource/x"), 60)
        (await http.put(url, content=bytes(size))).raise_for_status()
        distributor = start_services(apps=["distributor"], **settings_of(bucket)).servers["distributor"]
        reader, writer = await asyncio.open_connection("127.0.0.1", distributor.port)
        writer.write(b"GET /download/resource/x HTTP/1.1\r\nHost: storage\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert len(await reader.read()) < size
    writer.close()
    answer = await http.get(f"{distributor.url}/download/resource/x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "broken off" in distributor.output() and "Traceback" not in distributor.output()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RestartableRedis]:
    """A Redis that outlives the services of a test which asks for it first."""
    with ExitStack() as stack:
        yield RestartableRedis(tmp_path, stack)


async def test_nothing_of_an_absence_of_redis_is_left_once_it_is_back(
    redis: RestartableRedis, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(redis.url, redis_workers=1, TRANSFER_MOVE_WAIT_SECONDS=0.5)

    async def statuses() -> set[int]:
        tickets = [services.ticket(download_url="http://127.0.0.1:1/") for _ in range(20)]
        url = f"{services.loader}/transfer/start"
        answers = await asyncio.gather(*(http.get(url, params={"token": ticket.token}) for ticket in tickets))
        return {answer.status_code for answer in answers}

    assert await statuses() == {200}  # and the worker has several connections
    redis.stop()
    ticket = services.ticket()
    manage = {"token": services.secrets.storage_manage_token, "job_id": ticket.job_id}
    for answer in (
        await upload(http, services.loader, ticket.token, MOD),
        await http.get(
            f"{services.loader}/transfer/start", params={"token": services.ticket(download_url="http://x/").token}
        ),
        await http.post(f"{services.loader}/transfer/repack", data=manage),
        await http.post(f"{services.loader}/transfer/move", data={**manage, "type": "resource", "path": "a.zip"}),
        await http.get(f"{services.loader}/loader/status", headers={"Authorization": f"Bearer {manage['token']}"}),
    ):
        assert (answer.status_code, answer.text) == (503, "Service unavailable")
        assert int(answer.headers["retry-after"]) > 0
    for ready in (f"{services.loader}/loader/readyz", f"{services.distributor}/distributor/readyz"):
        answer = await http.get(ready)
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "missing": ["redis"]})
    url = f"{services.loader.replace('http', 'ws')}/transfer/ws/{ticket.job_id}?token={ticket.token}"
    async with connect(url) as leaves:
        pass
    assert leaves.close_code is not None
    async with connect(url) as stays:
        redis.start()
        assert await statuses() == {200}
        assert json.loads(await stays.recv())["stage"] == "pending"
        assert (await upload(http, services.loader, ticket.token, MOD)).status_code == 200
        while json.loads(await stays.recv())["event"] != "complete":
            pass
    assert len(services.manager.callbacks(ticket.job_id)) == 1
