"""Reports the end of each transfer to the Manager until it is settled (docs/API.md, "Callback")."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from enum import StrEnum
from http import HTTPStatus
from typing import NoReturn

import httpx

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import RENEW_SECONDS, Outbox
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.metrics import CALLBACKS
from open_workshop_storage.observability.tracing import job_span, mark_failed, trace_headers
from open_workshop_storage.utils.auth.json_web_tokens import sign_callback_token
from open_workshop_storage.utils.http.dates import retry_after
from open_workshop_storage.utils.net.http_connections import AllBusy, Connections
from open_workshop_storage.utils.processes.task_groups import run_beside

_logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 300.0
# Together with the polling interval, the second attempt comes within 2 seconds.
_FIRST_PAUSE_SECONDS = 1.2
_MOST_DOUBLINGS = 10
_AT_ONCE = 4
_POLL_SECONDS = 0.5
# Thousands may be due after an absence of the Manager, and requests get their turn between any two.
_PAUSE_SECONDS = 0.008
_MOST_READ_BYTES = 64 * 1024
_TRY_AGAIN = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
)


class Outcome(StrEnum):
    """The outcome of one attempt at a callback; any but `FAILED` ends the callback."""

    DELIVERED = "delivered"
    SETTLED = "settled"
    REFUSED = "refused"
    FAILED = "failed"


class Callbacks:
    """Delivers the callbacks in the store's outbox.

    Args:
        connections: To the Manager. A callback for which none is free, and that may not wait, is sent again later.
    """

    def __init__(self, settings: Settings, outbox: Outbox, connections: Connections) -> None:
        self._settings = settings
        self._outbox = outbox
        self._connections = connections

    async def run(self) -> None:
        """Deliver due callbacks until cancelled."""
        running: set[asyncio.Task[Outcome]] = set()
        async with asyncio.TaskGroup() as deliveries:
            while True:
                wanted, due = _AT_ONCE - len(running), list[Callback]()
                if wanted:
                    with suppress(ServiceUnavailable):
                        due = await self._outbox.claim(wanted)
                for callback in due:
                    running.add(delivery := deliveries.create_task(self.deliver(callback)))
                    delivery.add_done_callback(running.discard)
                    await asyncio.sleep(_PAUSE_SECONDS)
                await asyncio.sleep(_POLL_SECONDS if len(due) < wanted else _PAUSE_SECONDS)

    async def deliver(self, callback: Callback) -> Outcome:
        """Make one attempt at a callback that this worker holds; store the outcome and return it."""
        with job_span("callback", callback.job_id, callback.traceparent, {"attempt": callback.attempts + 1}) as span:
            async with run_beside(self._hold(callback)):
                outcome, pause = await self._attempt(callback)
            CALLBACKS.add(1, {"outcome": outcome})
            try:
                if outcome in (Outcome.FAILED, Outcome.REFUSED):
                    mark_failed(span, outcome)
                if outcome is Outcome.FAILED:
                    await self._again(callback, pause)
                else:
                    await self._outbox.settle(callback)
            except ServiceUnavailable:
                # The callback comes due again when the hold on it runs out.
                job_log(_logger, callback.job_id).warning("outcome of the callback not stored")
        return outcome

    async def _attempt(self, callback: Callback) -> tuple[Outcome, float]:
        log = job_log(_logger, callback.job_id)
        seconds = self._settings.transfer_callback_timeout_seconds
        token = sign_callback_token(
            callback.claims,
            callback.jti,
            self._settings.transfer_jwt_secret,
            self._settings.transfer_callback_ttl_seconds,
        )
        headers = {"Authorization": f"Bearer {token}", **trace_headers()}
        status = None
        try:
            async with self._connections.one() as http, asyncio.timeout(seconds):
                async with http.stream("POST", self._settings.callback_url, headers=headers) as answer:
                    status = answer.status_code
                    await _read_short(answer)
        except (httpx.HTTPError, TimeoutError, OSError, AllBusy) as error:
            if status is None:
                log.warning("callback failed: %s", type(error).__name__)
                return Outcome.FAILED, 0.0
        if status in _TRY_AGAIN:
            log.warning("callback answered %d", status)
            return Outcome.FAILED, retry_after(answer.headers.get("retry-after"))
        if 200 <= status < 300:
            log.info("callback delivered")
            return Outcome.DELIVERED, 0.0
        if status == HTTPStatus.CONFLICT:
            log.info("callback already settled")
            return Outcome.SETTLED, 0.0
        log.error("callback refused with status %d", status)
        return Outcome.REFUSED, 0.0

    async def _again(self, callback: Callback, least_pause: float) -> None:
        attempts = callback.attempts + 1
        doublings = min(callback.attempts, _MOST_DOUBLINGS)
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**doublings, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
        pause = max(pause, least_pause)
        if time.time() + pause > callback.created_at + self._settings.callback_retry_window_seconds:
            job_log(_logger, callback.job_id).error("callback given up after %d attempts", attempts)
            await self._outbox.settle(callback)
            return
        await self._outbox.retry(callback.model_copy(update={"attempts": attempts}), pause)

    async def _hold(self, callback: Callback) -> NoReturn:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(ServiceUnavailable):
                await self._outbox.hold(callback)


async def _read_short(answer: httpx.Response) -> None:
    """Read an answer to its end if it is short: else its connection cannot be used again."""
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= _MOST_READ_BYTES:
        async for _ in answer.aiter_raw():
            pass
