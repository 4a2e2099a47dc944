"""What a worker does for clients, and whether it is about to go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.tasks import Tasks
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio


async def test_requests_and_sockets_are_counted_until_they_end(tmp_path: Path) -> None:
    async with Tasks() as tasks:
        lifetime = Lifetime(make_settings(tmp_path, Secrets()), tasks)
        with lifetime.attending():
            with pytest.raises(ConnectionError), lifetime.holding_socket("job"):
                assert (lifetime.attended, lifetime.open_sockets) == (2, 1)
                raise ConnectionError
            assert (lifetime.attended, lifetime.open_sockets) == (1, 0)
        assert lifetime.attended == 0


@pytest.mark.parametrize(("most", "most_per_job", "full"), [(2, 0, "another"), (0, 2, "job"), (0, 0, None)])
async def test_sockets_are_limited_for_the_worker_and_for_each_job(
    most: int, most_per_job: int, full: str | None, tmp_path: Path
) -> None:
    limits = {"transfer_max_sockets": most, "transfer_max_sockets_per_job": most_per_job}
    async with Tasks() as tasks:
        lifetime = Lifetime(make_settings(tmp_path, Secrets(), **limits), tasks)
        with lifetime.holding_socket("job"):
            assert not lifetime.sockets_are_full("job")
            with lifetime.holding_socket("job"):
                assert lifetime.sockets_are_full("job") == (full is not None)
                assert lifetime.sockets_are_full("another") == (full == "another")
        assert not lifetime.sockets_are_full("job")


async def test_a_stop_wakes_those_that_wait_for_it(tmp_path: Path) -> None:
    async with Tasks() as tasks:
        lifetime = Lifetime(make_settings(tmp_path, Secrets()), tasks)
        await asyncio.sleep(0)
        assert not lifetime.told_to_stop.done()
        lifetime.stopping.set()
        await lifetime.told_to_stop
