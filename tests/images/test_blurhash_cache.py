"""What is remembered of BlurHashes, in a worker and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.images.blurhash_cache import NO_IMAGE, Blurhash, SharedBlurhashes, recent_blurhashes
from open_workshop_storage.services.storage.files import StoredFile

KNOWN = Blurhash("LEHV6nWB2yk8", 12, 34)


def version(number: int, name: str = "resource/\udcff.webp") -> StoredFile:
    return StoredFile(name, StorageType.RESOURCE, 1, 2, (number,), None)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_the_entries_that_were_used_last_stay() -> None:
    recent = recent_blurhashes(2)
    for number in (1, 2):
        recent[version(number).key] = KNOWN
    assert recent[version(1).key] == KNOWN
    recent[version(3).key] = KNOWN
    assert {number for number in (1, 2, 3) if version(number).key in recent} == {1, 3}


@pytest.mark.anyio
async def test_each_version_is_remembered_for_itself(redis: Redis) -> None:
    shared = SharedBlurhashes(redis, "test-cache-versions", 60)
    await shared.put({version(1): KNOWN, version(2): NO_IMAGE})
    wanted = [version(1), version(2), version(3), version(1, "resource/other.webp")]
    assert await shared.get(wanted) == {version(1): KNOWN, version(2): NO_IMAGE}


@pytest.mark.anyio
async def test_services_with_other_prefixes_share_nothing(redis: Redis) -> None:
    await SharedBlurhashes(redis, "test-cache-one", 60).put({version(1): KNOWN})
    assert await SharedBlurhashes(redis, "test-cache-other", 60).get([version(1)]) == {}
