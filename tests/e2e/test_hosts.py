"""Hosts with an object store: they share nothing else but Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.e2e.under_way import LARGE, PACKED_LARGE, Records, Transfers, assert_interrupted, reported
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, upload
from tests.support.hosts import Hosts, running_hosts
from tests.support.manager import Answer
from tests.support.processes import kill
from tests.support.services import Ticket

pytestmark = pytest.mark.anyio

COOKIE = "accessToken=a; refreshToken=r"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, redis_url: str, bucket: Credentials) -> Iterator[Hosts]:
    """Two hosts with loaders, and a third with the distributor."""
    with running_hosts(tmp_path_factory.mktemp("hosts"), redis_url, bucket) as running:
        yield running


@pytest.fixture
def mortal_hosts(tmp_path_factory: pytest.TempPathFactory, redis_url: str, bucket: Credentials) -> Iterator[Hosts]:
    """The same, for a test that ends the first one."""
    with running_hosts(tmp_path_factory.mktemp("mortal-hosts"), redis_url, bucket) as running:
        yield running


async def downloaded(http: httpx.AsyncClient, hosts: Hosts, path: str, **headers: str) -> httpx.Response:
    return await http.get(f"{hosts.distributor.url}/download/{path}", headers={"cookie": COOKIE, **headers})


async def test_one_host_packs_another_one_moves_and_a_third_gives_out(hosts: Hosts, http: httpx.AsyncClient) -> None:
    for content, entries in ((PACKED_LARGE, LARGE), (seven_zip_of(SMALL_MOD), SMALL_MOD)):
        ticket = hosts.services(0).ticket()
        answer = await upload(http, hosts.loaders[0].url, ticket.token, content)
        assert answer.status_code == 200, answer.text
        (callback,) = await reported(hosts.services(0), ticket)
        assert callback.moved
        whole = await downloaded(http, hosts, ticket.path)
        assert whole.status_code == 200 and entries_of(whole.content) == entries
        part = await downloaded(http, hosts, ticket.path, range="bytes=10-99", **{"if-range": whole.headers["etag"]})
        assert (part.status_code, part.content) == (206, whole.content[10:100])
        known = await downloaded(http, hosts, ticket.path, **{"if-none-match": whole.headers["etag"]})
        assert known.status_code == 304
        head = await http.head(f"{hosts.distributor.url}/download/{ticket.path}", headers={"cookie": COOKIE})
        assert head.headers["x-unpacked-bytes"] == str(sum(map(len, entries.values())))
        again = await asyncio.to_thread(
            hosts.manager.move, ticket.job_id, "archive", ticket.path.removeprefix("archive/")
        )
        assert again == callback.moved


async def test_when_a_host_dies_another_one_goes_on(
    mortal_hosts: Hosts, redis_url: str, http: httpx.AsyncClient
) -> None:
    hosts = mortal_hosts
    records = Records(hosts.services(0), redis_url)
    async with AsyncExitStack() as stack:
        transfers = Transfers(hosts.services(0), http, stack)
        fetched = await transfers.fetch(PACKED_LARGE, '"v1"', whole=False)
        uploaded = transfers.upload(aiter(InterruptedBody(zip_of(SMALL_MOD))))
        packed = hosts.services(0).ticket()
        hosts.manager.script(packed.job_id, Answer(500, move=False))
        assert (await upload(http, hosts.loaders[0].url, packed.token, zip_of(SMALL_MOD))).status_code == 200
        await records.until(uploaded.ticket, stage="uploading")
        await records.until(fetched.ticket, stage="downloading")
        kill([hosts.loaders[0].process.pid, *hosts.loaders[0].workers()])
        fetched.file.go_on.set()

        await reported(hosts.services(1), packed, 2)
        assert entries_of((await downloaded(http, hosts, packed.path)).content) == SMALL_MOD
        (ended,) = await reported(hosts.services(1), fetched.ticket)
        assert ended.claims["status"] == "success"
        assert entries_of((await downloaded(http, hosts, fetched.ticket.path)).content) == LARGE
        await assert_interrupted(hosts.services(1), uploaded.ticket)


async def test_files_of_the_manager_are_put_and_deleted(hosts: Hosts, http: httpx.AsyncClient) -> None:
    answer = await asyncio.to_thread(hosts.manager.upload, "resource", "a/b.bin", b"content")
    assert (answer.status_code, answer.text) == (201, "a/b.bin")
    assert (await downloaded(http, hosts, "resource/a/b.bin")).content == b"content"
    form = {"token": hosts.secrets.delete_file, "type": "resource", "path": "a/b.bin"}
    url = f"{hosts.loaders[0].url}/delete"
    for status in (200, 404):
        assert (await http.request("DELETE", url, data=form)).status_code == status
    assert (await downloaded(http, hosts, "resource/a/b.bin")).status_code == 404


async def test_what_is_in_a_zip_is_told_and_given_out_from_the_bucket(hosts: Hosts, http: httpx.AsyncClient) -> None:
    ticket = hosts.services(0).ticket()
    files = {**SMALL_MOD, "large.bin": secrets.token_bytes(700_000), "text.txt": b"some text, " * 100_000}
    assert (await upload(http, hosts.loaders[0].url, ticket.token, zip_of(files))).status_code == 200
    url = f"{hosts.distributor.url}/contents/{ticket.path}"
    listing = await http.get(url, headers={"cookie": COOKIE})
    assert listing.status_code == 200, listing.text
    assert {entry["name"]: entry["bytes"] for entry in listing.json()["entries"]} == {
        name: len(content) for name, content in files.items()
    }
    for name, content in files.items():
        for coding in ("gzip", "identity"):
            headers = {"cookie": COOKIE, "accept-encoding": coding}
            answer = await http.get(url, params={"entry": name}, headers=headers)
            assert (answer.status_code, answer.content) == (200, content)


async def repack(http: httpx.AsyncClient, hosts: Hosts, ticket: Ticket, host: int) -> httpx.Response:
    form = {"token": hosts.secrets.storage_manage_token, "job_id": ticket.job_id, "compression_level": "0"}
    return await http.post(f"{hosts.loaders[host].url}/transfer/repack", data=form)


async def test_a_host_without_the_received_file_repacks_the_packed_one(hosts: Hosts, http: httpx.AsyncClient) -> None:
    ticket = hosts.services(0).ticket()
    hosts.manager.script(ticket.job_id, Answer(move=False))
    assert (await upload(http, hosts.loaders[0].url, ticket.token, seven_zip_of(SMALL_MOD))).status_code == 200
    answer = await repack(http, hosts, ticket, 1)
    assert answer.status_code == 200, answer.text
    moved = await asyncio.to_thread(hosts.manager.move, ticket.job_id, "archive", ticket.path.removeprefix("archive/"))
    assert moved.final_bytes == answer.json()["packed_bytes"]
    assert entries_of((await downloaded(http, hosts, ticket.path)).content) == SMALL_MOD
