"""The one connection over which a worker asks Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError, ResponseError

from open_workshop_storage.stores import redis_line
from open_workshop_storage.stores.redis_client import usual_options
from open_workshop_storage.stores.redis_line import RedisLine

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    """A client with connections of its own."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[RedisLine]:
    """A line that has two connections at most."""
    pool = ConnectionPool.from_url(redis_url, **usual_options(), max_connections=2)
    made = RedisLine(pool)
    try:
        yield made
    finally:
        await made.aclose()
        await pool.aclose()


async def ask(line: RedisLine, *command: str | int) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await line.ask(command)


class Unanswered:
    """A command that Redis answers when it is told to."""

    def __init__(self, line: RedisLine, other: Redis) -> None:
        self._other = other
        self._key = f"test-{uuid.uuid4().hex}"
        self.asked = asyncio.create_task(ask(line, "BLPOP", self._key, 0))

    async def until_redis_has_it(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(client["cmd"] == "blpop" for client in await self._other.client_list()):
                await asyncio.sleep(0.01)

    async def answer(self) -> None:
        await self._other.rpush(self._key, "answer")
        assert await self.asked == [self._key, "answer"]


async def test_callers_that_ask_at_once_get_each_its_own_answer_over_one_connection(line: RedisLine) -> None:
    numbers = [str(number) for number in range(200)]
    assert await asyncio.gather(*(ask(line, "ECHO", number) for number in numbers)) == numbers
    assert len({*await asyncio.gather(*(ask(line, "CLIENT ID") for _ in range(20)))}) == 1


async def test_a_refused_command_fails_alone(line: RedisLine) -> None:
    before = await ask(line, "CLIENT ID")
    asked = ask(line, "NO-SUCH-COMMAND"), ask(line, "ECHO", "heard")
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], ResponseError) and answers[1] == "heard"
    assert await ask(line, "CLIENT ID") == before


async def test_the_answer_to_a_caller_that_was_cancelled_goes_to_no_other(
    line: RedisLine, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 2 * PATIENCE_SECONDS)
    before = await ask(line, "CLIENT ID")
    unanswered = Unanswered(line, other)
    await unanswered.until_redis_has_it()
    echo = asyncio.create_task(ask(line, "ECHO", "heard"))
    unanswered.asked.cancel()
    await asyncio.wait([unanswered.asked])
    await other.client_unblock(before)
    assert await echo == "heard"
    assert await ask(line, "CLIENT ID") == before


async def test_a_connection_that_breaks_fails_those_that_wait_and_later_callers_get_another(
    line: RedisLine, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 2 * PATIENCE_SECONDS)
    before = await ask(line, "CLIENT ID")
    unanswered = Unanswered(line, other)
    await unanswered.until_redis_has_it()
    echo = asyncio.create_task(ask(line, "ECHO", "unheard"))
    await asyncio.sleep(0)
    await other.client_kill_filter(_id=before)
    ends = await asyncio.gather(unanswered.asked, echo, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionError] * 2
    assert await ask(line, "CLIENT ID") != before


async def test_a_silent_connection_is_left_to_those_that_wait_and_is_free_again_after_the_last_answer(
    line: RedisLine, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 0)
    for _ in range(3):
        unanswered = Unanswered(line, other)
        await unanswered.until_redis_has_it()
        assert await ask(line, "ECHO", "heard") == "heard"
        await unanswered.answer()


async def test_a_silent_connection_is_closed_when_a_caller_waits_no_more(
    line: RedisLine, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 0)
    before = await ask(line, "CLIENT ID")
    unanswered = Unanswered(line, other)
    await unanswered.until_redis_has_it()
    unanswered.asked.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(client["id"] == str(before) for client in await other.client_list()):
            await asyncio.sleep(0.01)
    assert await ask(line, "ECHO", "heard") == "heard"


async def test_a_caller_that_is_cancelled_before_its_command_is_sent_ends_no_other(line: RedisLine) -> None:
    before = await ask(line, "CLIENT ID")
    # More than the sockets take at once.
    big = asyncio.create_task(ask(line, "ECHO", "x" * 20_000_000))
    echo = asyncio.create_task(ask(line, "ECHO", "heard"))
    await asyncio.sleep(0)
    big.cancel()
    assert await echo == "heard"
    assert await ask(line, "CLIENT ID") == before


async def test_a_silent_connection_is_not_closed_while_another_caller_waits(
    line: RedisLine, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 2 * PATIENCE_SECONDS)
    unanswered = Unanswered(line, other)
    await unanswered.until_redis_has_it()
    echo = asyncio.create_task(ask(line, "ECHO", "unheard"))
    await asyncio.sleep(0)
    monkeypatch.setattr(redis_line, "_SILENCE_SECONDS", 0)
    echo.cancel()
    await asyncio.wait([echo])
    await unanswered.answer()
