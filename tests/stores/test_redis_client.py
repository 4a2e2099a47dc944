"""The one connection over which a worker asks Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError, ResponseError

from open_workshop_storage.stores import redis_client as redis_clients
from open_workshop_storage.stores.redis_client import SharedClient, redis_client, usual_options
from tests.support.proxy import Fault, running_proxy

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    """A client with connections of its own."""
    async with Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


@pytest.fixture
async def pool(redis_url: str) -> AsyncIterator[ConnectionPool]:
    """Two connections at most."""
    made = ConnectionPool.from_url(redis_url, **usual_options(), max_connections=2)
    yield made
    await made.aclose()


@pytest.fixture
async def client(pool: ConnectionPool) -> AsyncIterator[Redis]:
    made = SharedClient(connection_pool=pool)
    yield made
    await made.aclose()


@pytest.fixture
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no connection count as silent while a test lasts."""
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 2 * PATIENCE_SECONDS)


async def ask(client: Redis, *command: str | int | bytes) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


class Unanswered:
    """A command that Redis answers when it is told to."""

    def __init__(self, client: Redis, other: Redis) -> None:
        self._other = other
        self._key = f"test-{uuid.uuid4().hex}"
        self.asked = asyncio.create_task(ask(client, "BLPOP", self._key, 0))

    @classmethod
    async def begun(cls, client: Redis, other: Redis) -> Self:
        """Send one, and wait until Redis has it."""
        unanswered = cls(client, other)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(each["cmd"] == "blpop" for each in await other.client_list()):
                await asyncio.sleep(0.01)
        return unanswered

    async def answer(self) -> None:
        await self._other.rpush(self._key, "answer")
        assert await self.asked == (self._key, "answer")


async def test_callers_that_ask_at_once_get_each_its_own_answer_over_one_connection(client: Redis) -> None:
    numbers = [str(number) for number in range(200)]
    assert await asyncio.gather(*(ask(client, "ECHO", number) for number in numbers)) == numbers
    assert len({*await asyncio.gather(*(ask(client, "CLIENT ID") for _ in range(20)))}) == 1


async def test_a_refused_command_fails_alone(client: Redis) -> None:
    before = await ask(client, "CLIENT ID")
    asked = ask(client, "NO-SUCH-COMMAND"), ask(client, "ECHO", "heard")
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], ResponseError) and answers[1] == "heard"
    assert await ask(client, "CLIENT ID") == before


@pytest.mark.usefixtures("no_silence")
async def test_the_answer_to_a_caller_that_was_cancelled_goes_to_no_other(client: Redis, other: Redis) -> None:
    before = await ask(client, "CLIENT ID")
    unanswered = await Unanswered.begun(client, other)
    echo = asyncio.create_task(ask(client, "ECHO", "heard"))
    unanswered.asked.cancel()
    await asyncio.wait([unanswered.asked])
    await other.client_unblock(before)
    assert await echo == "heard"
    assert await ask(client, "CLIENT ID") == before


@pytest.mark.usefixtures("no_silence")
async def test_a_connection_that_breaks_fails_those_that_wait_and_later_callers_get_another(
    client: Redis, other: Redis
) -> None:
    before = await ask(client, "CLIENT ID")
    unanswered = await Unanswered.begun(client, other)
    echo = asyncio.create_task(ask(client, "ECHO", "unheard"))
    await asyncio.sleep(0)
    await other.client_kill_filter(_id=before)
    ends = await asyncio.gather(unanswered.asked, echo, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionError] * 2
    assert await ask(client, "CLIENT ID") != before


async def test_a_silent_connection_is_left_to_those_that_wait_and_is_free_again_after_the_last_answer(
    client: Redis, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 0)
    for _ in range(3):
        unanswered = await Unanswered.begun(client, other)
        assert await ask(client, "ECHO", "heard") == "heard"
        await unanswered.answer()


async def test_a_silent_connection_is_closed_when_a_caller_waits_no_more(
    client: Redis, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 0)
    before = await ask(client, "CLIENT ID")
    unanswered = await Unanswered.begun(client, other)
    unanswered.asked.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(each["id"] == str(before) for each in await other.client_list()):
            await asyncio.sleep(0.01)
    assert await ask(client, "ECHO", "heard") == "heard"


async def test_a_caller_that_is_cancelled_before_its_command_is_sent_ends_no_other(client: Redis) -> None:
    before = await ask(client, "CLIENT ID")
    # More than the sockets take at once.
    big = asyncio.create_task(ask(client, "ECHO", "x" * 20_000_000))
    echo = asyncio.create_task(ask(client, "ECHO", "heard"))
    await asyncio.sleep(0)
    big.cancel()
    assert await echo == "heard"
    assert await ask(client, "CLIENT ID") == before


async def test_a_silent_connection_is_not_closed_while_another_caller_waits(
    client: Redis, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 2 * PATIENCE_SECONDS)
    unanswered = await Unanswered.begun(client, other)
    echo = asyncio.create_task(ask(client, "ECHO", "unheard"))
    await asyncio.sleep(0)
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 0)
    echo.cancel()
    await asyncio.wait([echo])
    await unanswered.answer()


async def test_a_caller_that_hangs_while_it_connects_does_not_hold_up_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_clients, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(redis_clients, "_CONNECT_SECONDS", 2 * PATIENCE_SECONDS)
    address = urlsplit(redis_url)
    assert address.port is not None
    async with running_proxy(address.port) as network:
        network.plan(Fault.STALL, after_bytes=1)
        async with redis_client(address._replace(netloc=f"127.0.0.1:{network.port}").geturl()) as client:
            hangs = asyncio.create_task(ask(client, "ECHO", "unheard"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(network.passed_bytes):
                    await asyncio.sleep(0.01)
            waits = [asyncio.create_task(ask(client, "ECHO", number)) for number in range(50)]
            assert await asyncio.gather(*waits) == [str(number) for number in range(50)]
            assert not hangs.done()
            hangs.cancel()
            await asyncio.wait([hangs])


async def test_an_answer_that_is_no_text_fails_no_other_caller(client: Redis) -> None:
    before, key = await ask(client, "CLIENT ID"), f"test-{uuid.uuid4().hex}"
    await ask(client, "SET", key, b"\xff")
    no_text, heard = await asyncio.gather(ask(client, "GET", key), ask(client, "ECHO", "heard"))
    assert (no_text, heard) == ("\udcff", "heard")
    await ask(client, "DEL", key)
    assert await ask(client, "CLIENT ID") == before


async def test_a_client_that_is_closed_at_any_point_of_a_call_gives_its_connection_back(pool: ConnectionPool) -> None:
    await pool.release(await pool.get_connection())  # type: ignore[no-untyped-call]
    for steps in range(20):
        client = SharedClient(connection_pool=pool)
        asked = asyncio.create_task(ask(client, "BLPOP", "test-nothing", 0))
        for _ in range(steps):
            await asyncio.sleep(0)
        await client.aclose()
        asked.cancel()
        await asyncio.wait([asked])
        await client.aclose()
        assert not pool._in_use_connections
