"""What a service may have to wait for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.services.operations.readiness import Readiness
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio


def readiness(root: Path, *, loads: bool, reserve_bytes: int = 0) -> Readiness:
    return Readiness(LocalFiles(root), Workspaces(root, reserve_bytes), MemoryJobStore(), loads=loads)


async def test_a_service_with_all_that_it_needs_is_ready(tmp_path: Path) -> None:
    assert await readiness(tmp_path, loads=True).missing() == []


async def test_a_distributor_needs_the_storage_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await readiness(tmp_path, loads=False, reserve_bytes=10**18).missing() == []
    assert await readiness(tmp_path / "missing", loads=False).missing() == ["storage"]


async def test_a_loader_names_all_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await readiness(tmp_path, loads=True, reserve_bytes=10**18).missing() == ["7z", "disk"]


async def test_a_call_is_refused_only_for_want_of_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    await readiness(tmp_path, loads=True).require("storage")
    with pytest.raises(ServiceUnavailable):
        await readiness(tmp_path, loads=True).require("storage", "7z")


async def test_calls_look_once_a_second_for_what_is_there_and_each_time_for_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = tmp_path / "7z"
    looking = readiness(tmp_path, loads=True)
    with pytest.raises(ServiceUnavailable):
        await looking.require("7z")
    command.touch(0o755)
    await looking.require("7z")
    command.unlink()
    now += 0.9
    await looking.require("7z")
    assert await looking.missing() == ["7z"]
    now += 0.2
    with pytest.raises(ServiceUnavailable):
        await looking.require("7z")


async def test_each_call_looks_for_the_storage_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    looking = readiness(root, loads=True)
    await looking.require("storage")
    root.rmdir()
    with pytest.raises(ServiceUnavailable):
        await looking.require("storage")


async def test_a_redis_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    async with redis_client(f"redis://127.0.0.1:{free_port()}") as client:
        store = RedisJobStore(client, "test", 60)
        assert await Readiness(LocalFiles(tmp_path), Workspaces(tmp_path, 0), store, loads=False).missing() == ["redis"]
