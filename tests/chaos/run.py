"""Carries a plan out, and judges what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from tests.chaos.checks import leftovers, problem_with_file, problems_with_ends, strange_files
from tests.chaos.faults import Faults
from tests.chaos.payloads import FILE_NAME, Payload, payload
from tests.chaos.plan import LOADER_WORKERS, Plan, PlannedTransfer
from tests.chaos.senders import Sender, SlowOrigin, Transfer
from tests.chaos.timeline import Timeline
from tests.support.origins import running_origin
from tests.support.restarts import RestartableRedis
from tests.support.sentinel import SentinelRedis
from tests.support.services import Services, running_services
from tests.support.seven_zip_gate import SevenZipGate

_JOB_TTL_SECONDS = 8
_SETTINGS = {
    "JOB_TTL_SECONDS": _JOB_TTL_SECONDS,
    "CLEANUP_INTERVAL_SECONDS": 1,
    "TRANSFER_UPLOAD_CONCURRENCY": 6,
    "TRANSFER_REPACK_CONCURRENCY": 2,
}
_ENDS_SECONDS = 90
_LEFTOVERS_SECONDS = 60
_POLL_SECONDS = 0.2


class PromiseBroken(Exception):
    """A run that did not end as it must; the text says all that helps to see why."""


async def run(plan: Plan, folder: Path) -> str:
    """Carry a plan out, with a Redis, a loader and a Manager of its own.

    Args:
        folder: Takes all files.

    Returns:
        What happened, in a line.

    Raises:
        PromiseBroken: Something is not as it must be.
    """
    payloads = [await asyncio.to_thread(payload, one.kind, one.seed) for one in plan.transfers]
    async with AsyncExitStack() as stack:
        gate = SevenZipGate(folder / "gate")
        redis = _sentinel_redis(folder, stack) if plan.has_sentinels else RestartableRedis(folder, stack)
        (folder / "services").mkdir()
        services = stack.enter_context(
            running_services(folder / "services", redis.url, ["loader"], gate.environment, LOADER_WORKERS, **_SETTINGS)
        )
        # Clients send again what came to nothing, and each attempt is to end as its file deserves.
        services.manager.is_final = False
        # No worker answers a move after its death. One that is answered must be done: the Manager does not ask twice.
        services.manager.repeats_moves = True
        origin = SlowOrigin()
        url = (await stack.enter_async_context(running_origin(origin))).url
        # All are signed at the start, and the last transfers of a long plan begin later than the usual 15 minutes.
        expiry = int(time.time() + plan.seconds + _ENDS_SECONDS)
        transfers = [
            _transfer(services, one, made, url, expiry) for one, made in zip(plan.transfers, payloads, strict=True)
        ]
        origin.serve(transfers)
        # Longer than a worker sleeps that holds the connection, and for as many connections as there are transfers.
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, limits=httpx.Limits()))

        timeline = Timeline()
        following = asyncio.create_task(_follow_log(services, timeline))
        sender = Sender(services, http, timeline)
        faults = Faults(services, redis, gate, timeline)
        tasks = [_at(one.planned.at, sender.send(one)) for one in transfers]
        tasks += [_at(fault.at, faults.happen(fault)) for fault in plan.faults]
        problems = []
        try:
            async with asyncio.timeout(plan.seconds + _ENDS_SECONDS):
                await asyncio.gather(*tasks)
        except TimeoutError:
            problems.append("Not all ended in time.")
        problems += _problems(services, transfers)
        problems += await _left_behind(services, redis, timeline)
        following.cancel()
        if problems:
            raise PromiseBroken("\n".join([*problems, "", str(plan), "", str(timeline)]))
        return _summary(services, transfers, timeline)


def _sentinel_redis(folder: Path, stack: AsyncExitStack) -> SentinelRedis:
    # A primary that is only slow, on a busy machine, must not be replaced: what it takes in until it knows is lost.
    return SentinelRedis(folder, stack, down_after_seconds=3)


def _transfer(services: Services, planned: PlannedTransfer, made: Payload, origin_url: str, expiry: int) -> Transfer:
    source = (
        {} if planned.way == "upload" else {"download_url": f"{origin_url}/{planned.number}", "filename": FILE_NAME}
    )
    ticket = services.ticket(**made.claims, **source, exp=expiry)
    return Transfer(planned, made, ticket, made.path or ticket.path)


async def _at(seconds: float, work: Coroutine[None, None, None]) -> None:
    await asyncio.sleep(seconds)
    await work


async def _follow_log(services: Services, timeline: Timeline) -> None:
    with services.servers["loader"].log.open(errors="replace") as log:
        while True:
            for line in log:
                timeline.note(f"loader: {line.rstrip()}")
            await asyncio.sleep(_POLL_SECONDS)


def _problems(services: Services, transfers: list[Transfer]) -> list[str]:
    problems = []
    for transfer in transfers:
        callbacks = services.manager.callbacks(transfer.ticket.job_id)
        wrong = problems_with_ends(transfer, callbacks)
        if (problem := problem_with_file(transfer, services.main_dir)) is not None:
            wrong.append(problem)
        if wrong:
            problems.append(
                f"{transfer.name} {'; '.join(wrong)}. It is {transfer.ticket.job_id}, of {transfer.planned}"
            )
            problems += [f"    {callback.claims}, moved: {callback.move}" for callback in callbacks]
    return problems + strange_files(transfers, services.main_dir) + services.manager.refused


async def _left_behind(services: Services, redis: RestartableRedis | SentinelRedis, timeline: Timeline) -> list[str]:
    """Wait until nothing is left; return what is still there after that."""
    began = timeline.now
    while left := await asyncio.to_thread(leftovers, services, redis.client()):
        if timeline.now > began + _LEFTOVERS_SECONDS:
            return left
        await asyncio.sleep(_POLL_SECONDS)
    return []


def _summary(services: Services, transfers: list[Transfer], timeline: Timeline) -> str:
    callbacks = [one for transfer in transfers for one in services.manager.callbacks(transfer.ticket.job_id)]
    ends = {one.claims["jti"]: one.claims.get("reason", "success") for one in callbacks}
    counts = ", ".join(f"{count} {end}" for end, count in Counter(ends.values()).most_common())
    requests = sum(transfer.requests for transfer in transfers)
    log = services.servers["loader"].output()
    taken = log.count("taken at") - sum(transfer.planned.way != "upload" for transfer in transfers)
    return (
        f"{len(transfers)} transfers in {timeline.now:.0f} seconds: {requests} requests, {taken} take-overs, "
        f"{len(callbacks)} callbacks of {len(ends)} ends ({counts})"
    )
