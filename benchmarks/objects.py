"""What an object store costs through the services, beside the store itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks.load import cpu_seconds, download, requests_per_second
from benchmarks.report import Findings, Measure, Row, interleaved, ratio
from benchmarks.stage import bare_app
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.support.nginx import OBJECT_PREFIX, nginx, object_site_for
from tests.support.object_store import running_object_store, settings_of
from tests.support.servers import Server
from tests.support.services import running_services

_LARGE, _SMALL = "resource/large.bin", "resource/small.webp"
_LARGE_BYTES, _SMALL_BYTES, _PACKED_BYTES = 64 * 1024 * 1024, 20_000, 1 << 30
_ROUNDS, _PUT_ROUNDS = 9, 6
_LOOPS, _GETS = 16, 40


def measure(folder: Path) -> Findings:
    """Compare downloads with the same from the store, and a put with one by obstore alone."""
    packed = folder / "packed.zip"
    block = os.urandom(1 << 24)
    with packed.open("wb") as file:
        for _ in range(_PACKED_BYTES // len(block)):
            file.write(block)
    with ExitStack() as stack:
        (folder / "store").mkdir()
        bucket = stack.enter_context(running_object_store(folder / "store")).bucket()
        for name, size in ((_LARGE, _LARGE_BYTES), (_SMALL, _SMALL_BYTES)):
            obstore.put(_store(bucket), name, (block * 4)[:size])
        plain = _distributor(stack, folder / "plain", bucket)
        behind = _distributor(stack, folder / "behind", bucket, ACCEL_REDIRECT_PREFIX=OBJECT_PREFIX)
        told = {name: str(value) for name, value in settings_of(bucket).items()}
        bare = stack.enter_context(bare_app("benchmarks.bare_objects", folder, told, f"/{_SMALL}"))
        front = stack.enter_context(nginx(folder, object_site_for(bucket.endpoint), behind.port))

        def rate(url: str) -> Measure:
            def measured() -> float:
                received, seconds = download([(url, "")])
                return received / seconds / 1e6

            return measured

        def cost_behind_nginx() -> float:
            before = cpu_seconds([behind])
            received, _ = download([(f"{front.url}/download/{_LARGE}", "")] * 16)
            return (cpu_seconds([behind]) - before) / (received / (1 << 30))

        rates = interleaved(
            _ROUNDS,
            {
                "large": rate(f"{plain.url}/download/{_LARGE}"),
                "large, store": rate(signed_url(bucket.key, "GET", bucket.url(_LARGE), 3600)),
                "large, bare": rate(f"{bare.url}/{_LARGE}"),
                "large, nginx": rate(f"{front.url}/download/{_LARGE}"),
                "small": lambda: requests_per_second(f"{plain.url}/download/{_SMALL}", connections=_LOOPS),
                "small, bare": lambda: requests_per_second(f"{bare.url}/{_SMALL}", connections=_LOOPS),
                "small, obstore": lambda: asyncio.run(_gets_per_second(bucket)),
                "nginx": cost_behind_nginx,
            },
        )
        puts = interleaved(
            _PUT_ROUNDS,
            {
                "ours": lambda: asyncio.run(_seconds_of_put(bucket, packed)),
                "obstore": lambda: asyncio.run(_seconds_of_put_by_obstore(bucket, packed)),
            },
        )
    rows = [
        ratio("64 MiB object through a distributor, over the store", 0.85, rates, "large", "large, store", "MB/s"),
        ratio("20 KB objects, over obstore's own loop", 0.6, rates, "small", "small, obstore", "req/s"),
        Row("objects through `X-Accel-Redirect`: Python's CPU s/GiB", 0.02, rates["nginx"], at_most=True),
        ratio("put of 1 GiB, over obstore alone", 1.05, puts, "ours", "obstore", "s", at_most=True),
    ]
    large = ratio("", 0.85, rates, "large, bare", "large, store", "MB/s")
    front_only = ratio("", 0.85, rates, "large, nginx", "large, store", "MB/s")
    small = ratio("", 0.6, rates, "small, bare", "small, obstore", "req/s")
    notes = f"""
The store, its client and the distributor share the machine's cores here, so what the store and the client take is
missing to the distributor. An app that does nothing but pass on what obstore reads reaches {large.median:.2f} of the
store's own rate ({large.detail}) with the large object, and {small.median:.2f} of obstore's loop ({small.detail}) with
the small one: that is the floor for bytes that pass through obstore and granian. nginx, which passes the large one on
by itself (`X-Accel-Redirect`), reaches {front_only.median:.2f} ({front_only.detail}) with no Python at all. Other
settings do not help nginx: in 45 rounds of one run it reached 0.80 with the buffers of `deploy/`, 0.79 with 8 of 1 MiB
and 0.81 with none, always with connections kept open and no file; a distributor reached 0.80 in the same rounds.
The store alone keeps more than one core busy, so whatever stands between it and its client slows it down where there
are two. Ranges of 2 to 8 MiB that are read two or three at once are no faster than one stream: they cost the store
more.

A whole file that needs no permission takes one request to the store. Others are looked up first (HEAD).

Downloads from a disk were compared once with those of f318411, the last commit without object storage, in turns on an
idle machine (goal: 0.98 of its rate). Requests per second: 1.31 with files of 20 KB, 1.75 with answers of 304, 1.23
with protected files (15 turns). Bytes per second: 1.03 with one file of 256 MiB, 1.02 with four at once (0.93 in 15
turns before), 0.97 with four ranges of 128 MiB at once (35 turns, half of them between 0.92 and 1.06), for which a
byte takes as much CPU time as it did.
"""
    return Findings("Objects", rows, notes)


def _store(bucket: Credentials) -> S3Store:
    return S3Store(
        bucket.bucket,
        aws_endpoint_url_s3=bucket.endpoint,
        region=bucket.key.region,
        access_key_id=bucket.key.access_key_id,
        secret_access_key=bucket.key.secret_access_key,
        client_options={"allow_http": True},
    )


def _distributor(stack: ExitStack, folder: Path, bucket: Credentials, **others: object) -> Server:
    folder.mkdir()
    settings: dict[str, Any] = settings_of(bucket, **others)
    return stack.enter_context(running_services(folder, "", ("distributor",), None, **settings)).servers["distributor"]


async def _gets_per_second(bucket: Credentials) -> float:
    store = _store(bucket)

    async def loop() -> None:
        for _ in range(_GETS):
            await (await obstore.get_async(store, _SMALL)).bytes_async()

    return _LOOPS * _GETS / await _seconds_of(asyncio.gather(*(loop() for _ in range(_LOOPS))))


async def _seconds_of_put(bucket: Credentials, packed: Path) -> float:
    # A worker opens its bucket once, and reads the system's certificates then.
    async with aclosing(Bucket(bucket)) as opened:
        return await _seconds_of(opened.put(packed, "ours", None))


async def _seconds_of_put_by_obstore(bucket: Credentials, packed: Path) -> float:
    store = _store(bucket)
    return await _seconds_of(obstore.put_async(store, "obstore", packed))


async def _seconds_of(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began
