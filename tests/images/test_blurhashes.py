"""`/blurhashes` and its caches."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from open_workshop_storage.api.documents.blurhashes import MAX_PATHS
from open_workshop_storage.api.routes.blurhashes import router
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.services.images.blurhashes import NO_IMAGE, Blurhash, Blurhashes, SharedBlurhashes
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import StorageType, StoredFile
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.objects import ObjectFiles
from tests.support.configs import Secrets
from tests.support.in_process import make_settings, serving
from tests.support.origins import Request, reply, running_origin
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio

NOTHING = {"blurhash": None, "width": None, "height": None}

Put = Callable[..., Path]


@pytest.fixture(scope="module")
def shared_secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def main_dir(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def put(main_dir: Path) -> Put:
    """Stores an image of one colour."""

    def run(path: str, colour: str = "red", size: tuple[int, int] = (40, 30), image_format: str = "WEBP") -> Path:
        target = main_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        file = BytesIO()
        Image.new("RGB", size, colour).save(file, image_format)
        target.write_bytes(file.getvalue())
        return target

    return run


@pytest.fixture
async def client(main_dir: Path, shared_secrets: Secrets) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(router, make_settings(main_dir, shared_secrets)) as (_, client):
        yield client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url, decode_responses=True)
    async with client:
        yield client


async def ask(client: httpx.AsyncClient, *paths: str) -> list[dict[str, Any]]:
    answer = await client.post("/blurhashes", json={"paths": paths})
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    assert [item.pop("path") for item in items] == list(paths)
    return items


class CountingImages(Images):
    """Counts how often an image is decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded: list[str] = []

    async def blurhash(self, path: Path) -> tuple[str, int, int]:
        """Count, and compute."""
        self.decoded.append(path.name)
        return await super().blurhash(path)


@pytest.fixture
async def worker(
    main_dir: Path, shared_secrets: Secrets
) -> AsyncIterator[Callable[..., tuple[Blurhashes, CountingImages]]]:
    """Makes what one worker has."""
    async with AsyncExitStack() as stack:

        def run(redis: Redis | None = None, **changes: object) -> tuple[Blurhashes, CountingImages]:
            settings, images = make_settings(main_dir, shared_secrets, **changes), CountingImages()
            stack.push_async_callback(images.aclose)
            return Blurhashes(LocalFiles(settings.main_dir), images, settings, redis), images

        yield run


# Addresses


async def test_every_form_of_an_address_leads_to_the_image(client: httpx.AsyncClient, put: Put) -> None:
    put("resource/covers/7 ü.webp", size=(400, 200))
    items = await ask(
        client,
        "/download/resource/covers/7 ü.webp",
        "download/resource/covers/7 ü.webp",
        "/download/resource/covers/7%20%C3%BC.webp",
        "https://storage.example/download/resource/covers/7%20%C3%BC.webp?filename=x&a=/download/avatar/y#z",
        "//storage.example:8080/download/resource/covers/7 ü.webp",
        "/download/resource/covers/../covers/7 ü.webp",
    )
    assert all(item == items[0] for item in items)
    assert items[0]["blurhash"].startswith("L")
    assert (items[0]["width"], items[0]["height"]) == (400, 200)


async def test_what_leads_to_no_image_is_null(client: httpx.AsyncClient, put: Put, main_dir: Path) -> None:
    good = put("resource/good.webp")
    put("archive/mods/7/cover.webp")
    put("archive/mods/x/cover.webp")
    put("temp/secret.webp")
    (main_dir / "resource/text.webp").write_text("no image")
    (main_dir / "resource/cut.webp").write_bytes(good.read_bytes()[:-30])
    (main_dir / "resource/link.webp").symlink_to(main_dir / "temp/secret.webp")
    (main_dir / "resource/protected.webp").symlink_to(main_dir / "archive/mods/7/cover.webp")
    addresses = [
        "",
        "/",
        "good.webp",
        "/download/resource/",
        "/download/resource",
        "/download/nonsense/good.webp",
        "/other/download/resource/good.webp",
        "/download/resource/missing.webp",
        "/download/resource/text.webp",
        "/download/resource/cut.webp",
        "/download/resource/link.webp",
        "/download/resource/protected.webp",
        "/download/archive/mods/7/cover.webp",
        "/download/archive/mods/x/cover.webp",
        "/download/temp/secret.webp",
        "/download/resource/../temp/secret.webp",
        "/download/resource/%2e%2e/temp/secret.webp",
        f"/download/resource/{main_dir}/resource/good.webp",
        "/download/resource/good.webp%00",
        "/download/resource/good%ff.webp",
        "http://[broken/download/resource/good.webp",
        "/download/resource/" + "x" * 5000,
    ]
    *items, item = await ask(client, *addresses, "/download/resource/good.webp")
    assert items == [NOTHING] * len(addresses)
    assert item["blurhash"] is not None


async def test_an_address_is_decoded_once(client: httpx.AsyncClient, put: Put) -> None:
    put("resource/100%25.webp")
    [once, twice] = await ask(client, "/download/resource/100%2525.webp", "/download/resource/100%25.webp")
    assert once["blurhash"] is not None
    assert twice == NOTHING


async def test_an_archive_that_is_no_mods_is_looked_at(client: httpx.AsyncClient, put: Put) -> None:
    put("archive/pictures/x.png", image_format="PNG")
    [item] = await ask(client, "/download/archive/pictures/x.png")
    assert item["blurhash"] is not None


# Requests


async def test_no_paths_are_no_items(client: httpx.AsyncClient) -> None:
    assert await ask(client) == []


async def test_a_thousand_paths_are_answered_in_their_order(client: httpx.AsyncClient, put: Put) -> None:
    for number in range(3):
        put(f"resource/{number}.webp", size=(10 + number, 10))
    items = await ask(client, *[f"/download/resource/{number % 4}.webp" for number in range(MAX_PATHS)])
    assert [item["width"] for item in items] == [(10, 11, 12, None)[number % 4] for number in range(MAX_PATHS)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"paths": null}',
        b'{"paths": "x"}',
        b'{"paths": [1]}',
        b'{"paths": [null]}',
        b'{"paths": ["\\ud800"]}',
        b'{"paths": ["\xff"]}',
        json.dumps({"paths": ["x"] * (MAX_PATHS + 1)}).encode(),
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_an_invalid_body_is_refused(body: bytes, client: httpx.AsyncClient) -> None:
    answer = await client.post("/blurhashes", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.text == "Invalid body: a list of at most 1000 paths expected"
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_huge_body_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/blurhashes", json={"paths": ["x" * 10_000] * 1000})
    assert (answer.status_code, answer.text) == (400, "Request body too large")


async def test_a_missing_storage_root_is_waited_for(client: httpx.AsyncClient, main_dir: Path) -> None:
    main_dir.rename(main_dir.with_name("elsewhere"))
    answer = await client.post("/blurhashes", json={"paths": ["/download/resource/x.webp"]})
    assert (answer.status_code, answer.text) == (503, "Service unavailable")


async def test_a_store_that_goes_away_is_not_remembered_as_one_without_images(
    bucket: Credentials, main_dir: Path, shared_secrets: Secrets
) -> None:
    found = reply(200, 'ETag: "5e"', "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", length=5)

    async def serve(request: Request, writer: asyncio.StreamWriter) -> bytes:
        # Only reads name a version.
        return reply(503) if "if-match" in request.headers else found

    settings = make_settings(main_dir, shared_secrets)
    async with (
        running_origin(serve) as store,
        aclosing(Bucket(bucket._replace(endpoint=store.url))) as opened,
        aclosing(Images()) as images,
    ):
        blurhashes = Blurhashes(ObjectFiles(opened), images, settings, None)
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                await blurhashes.compute(["/download/resource/x.webp"])


async def test_the_documents_show_the_body(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/blurhashes"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["paths"]["maxItems"] == MAX_PATHS


# Caches


async def test_equal_targets_are_computed_once(worker: Any, put: Put) -> None:
    put("resource/x.webp")
    blurhashes, images = worker()
    await blurhashes.compute(["/download/resource/x.webp", "download/resource/x.webp", "/download/resource/./x.webp"])
    await blurhashes.compute(["/download/resource/x.webp"])
    assert images.decoded == ["x.webp"]


async def test_requests_at_the_same_time_compute_an_image_once(worker: Any, put: Put) -> None:
    for number in range(4):
        put(f"resource/{number}.webp", size=(500, 500))
    blurhashes, images = worker()
    paths = [f"/download/resource/{number}.webp" for number in range(4)]
    answers = await asyncio.gather(*[blurhashes.compute(paths) for _ in range(10)])
    assert sorted(images.decoded) == [f"{number}.webp" for number in range(4)]
    assert all(answer == answers[0] for answer in answers)


async def test_a_request_that_is_cancelled_does_not_fail_one_that_waits_for_it(worker: Any, put: Put) -> None:
    put("resource/x.webp", size=(2000, 2000))
    blurhashes, images = worker()
    first = asyncio.create_task(blurhashes.compute(["/download/resource/x.webp"]))
    while not images.decoded:
        await asyncio.sleep(0)
    second = asyncio.create_task(blurhashes.compute(["/download/resource/x.webp"]))
    await asyncio.sleep(0.01)
    first.cancel()
    [item] = await second
    assert item.width == 2000


async def test_one_image_does_not_wait_for_a_large_batch(worker: Any, put: Put) -> None:
    batch = [f"/download/resource/{number}.webp" for number in range(100)]
    for number in range(101):
        put(f"resource/{number}.webp")
    blurhashes, images = worker()
    first = asyncio.create_task(blurhashes.compute(batch))
    while not images.decoded:
        await asyncio.sleep(0)
    second = asyncio.create_task(blurhashes.compute(["/download/resource/100.webp"]))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert done == {second}
    await first


async def test_a_changed_file_is_computed_again(worker: Any, put: Put) -> None:
    blurhashes, _ = worker()
    put("resource/x.webp", size=(10, 10))
    [before] = await blurhashes.compute(["/download/resource/x.webp"])
    os.utime(put("resource/x.webp", size=(20, 10)), ns=(1, 1))
    [after] = await blurhashes.compute(["/download/resource/x.webp"])
    assert (before.width, after.width) == (10, 20)


async def test_only_as_many_entries_are_kept_as_the_setting_says(worker: Any, put: Put) -> None:
    for name in "abc":
        put(f"resource/{name}.webp")
    blurhashes, images = worker(blurhash_cache_size=2)
    for name in "abcacb":
        await blurhashes.compute([f"/download/resource/{name}.webp"])
    assert "".join(name[0] for name in images.decoded) == "abcab"


async def test_a_cache_of_no_entries_is_allowed(worker: Any, put: Put) -> None:
    put("resource/x.webp")
    blurhashes, _ = worker(blurhash_cache_size=0)
    [item] = await blurhashes.compute(["/download/resource/x.webp"])
    assert item.blurhash is not None


async def test_that_a_file_is_no_image_is_remembered_too(worker: Any, main_dir: Path) -> None:
    blurhashes, images = worker()
    (main_dir / "resource/text.webp").write_text("no image")
    for _ in range(2):
        assert await blurhashes.compute(["/download/resource/text.webp"]) == [NO_IMAGE]
    assert images.decoded == ["text.webp"]


async def test_another_worker_does_not_compute_it_again(worker: Any, put: Put, redis: Redis, main_dir: Path) -> None:
    put("resource/x.webp", size=(12, 34))
    (main_dir / "resource/text.webp").write_text("no image")
    paths = ["/download/resource/x.webp", "/download/resource/text.webp", "/download/resource/missing.webp"]
    first, _ = worker(redis, redis_prefix=f"test-{main_dir}")
    second, images = worker(redis, redis_prefix=f"test-{main_dir}")
    expected = await first.compute(paths)
    assert (expected[0].width, expected[0].height) == (12, 34)
    assert await second.compute(paths) == expected
    assert images.decoded == []


async def test_each_version_and_each_prefix_is_remembered_for_itself(redis: Redis) -> None:
    def version(number: int, name: str = "resource/\udcff.webp") -> StoredFile:
        return StoredFile(name, StorageType.RESOURCE, 1, 2, (number,), None)

    known = {version(1): Blurhash("LEHV6nWB2yk8", 12, 34), version(2): NO_IMAGE}
    await SharedBlurhashes(redis, "test-versions", 60).put(known)
    wanted = [version(1), version(2), version(3), version(1, "resource/other.webp")]
    assert await SharedBlurhashes(redis, "test-versions", 60).get(wanted) == known
    assert await SharedBlurhashes(redis, "test-other", 60).get(wanted) == {}


async def test_what_is_kept_in_redis_expires(worker: Any, put: Put, redis: Redis, main_dir: Path) -> None:
    put("resource/x.webp")
    (main_dir / "resource/text.webp").write_text("no image")
    prefix = f"test-{main_dir}"
    blurhashes, _ = worker(redis, redis_prefix=prefix, blurhash_cache_ttl_seconds=1000)
    await blurhashes.compute(["/download/resource/x.webp", "/download/resource/text.webp"])
    keys = [key async for key in redis.scan_iter(f"{prefix}:blurhash:*")]
    lives = sorted([await redis.ttl(key) for key in keys])
    assert len(lives) == 2
    assert 0 < lives[0] <= 60 < lives[1] <= 1000


async def test_redis_is_asked_once_for_a_batch(worker: Any, put: Put, redis: Redis, main_dir: Path) -> None:
    for number in range(20):
        put(f"resource/{number}.webp")
    paths = [f"/download/resource/{number}.webp" for number in range(20)]
    blurhashes, _ = worker(redis, redis_prefix=f"test-{main_dir}")
    await redis.config_resetstat()
    await blurhashes.compute(paths)
    await blurhashes.compute(paths)
    assert (await redis.info("commandstats"))["cmdstat_mget"]["calls"] == 1


async def test_redis_that_is_away_is_done_without(worker: Any, put: Put) -> None:
    put("resource/x.webp")
    redis: Redis = Redis(port=free_port(), decode_responses=True, retry=Retry(NoBackoff(), 0))
    async with redis:
        blurhashes, _ = worker(redis)
        [item] = await blurhashes.compute(["/download/resource/x.webp"])
    assert item.blurhash is not None


async def test_redis_that_does_not_answer_is_done_without(worker: Any, put: Put) -> None:
    put("resource/x.webp")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        redis: Redis = Redis(port=silent.getsockname()[1], decode_responses=True)
        async with redis:
            blurhashes, _ = worker(redis)
            [item] = await blurhashes.compute(["/download/resource/x.webp"])
    assert item.blurhash is not None


async def test_nothing_is_kept_of_addresses_that_are_too_long(worker: Any, put: Put) -> None:
    put("resource/x.webp")
    blurhashes, _ = worker(None)
    padding = "x" * (16 * 1024)
    await blurhashes.compute(["/download/resource/x.webp"])
    tracemalloc.start()
    for number in range(128):
        [item] = await blurhashes.compute([f"http://h/download/resource/x.webp?{number}{padding}"])
        assert item == NO_IMAGE
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000
    # Other characters of a name may each take up to three of an address.
    [item] = await blurhashes.compute([f"http://h/download/resource/x.webp?{padding[100:]}"])
    assert item != NO_IMAGE
