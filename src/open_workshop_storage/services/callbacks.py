"""Reports the end of each transfer to the Manager until it is settled (wire contract, section 5, "Callback")."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import RENEW_SECONDS, JobStore
from open_workshop_storage.utils.tokens import sign_callback_token

_logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 300.0
# With the wait until someone looks, the second attempt still comes within 2 seconds.
_FIRST_PAUSE_SECONDS = 1.2
_MOST_DOUBLINGS = 10
_AT_ONCE = 8
_POLL_SECONDS = 0.5
_TRY_AGAIN = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
)


class Callbacks:
    """Delivers what waits in the store's outbox."""

    def __init__(self, settings: Settings, store: JobStore, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._store = store
        self._http = http

    async def run(self) -> None:
        """Deliver due callbacks until cancelled."""
        free = _AT_ONCE

        async def deliver(callback: Callback) -> None:
            nonlocal free
            try:
                await self.deliver(callback)
            finally:
                free += 1

        async with asyncio.TaskGroup() as deliveries:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                if not free:
                    continue
                try:
                    callbacks = await self._store.claim_callbacks(free)
                except ServiceUnavailable:
                    continue
                free -= len(callbacks)
                for callback in callbacks:
                    deliveries.create_task(deliver(callback))

    async def deliver(self, callback: Callback) -> None:
        """Make one attempt at a callback that this worker holds, and write down what came of it."""
        async with self._held(callback):
            outcome, retry_after = await self._attempt(callback)
        try:
            if outcome is None:
                await self._again(callback, retry_after)
            else:
                _logger.info("job %s: callback %s", callback.job_id, outcome)
                await self._store.settle_callback(callback)
        except ServiceUnavailable:
            # It comes due again when the hold on it runs out.
            _logger.warning("job %s: outcome of the callback not stored", callback.job_id)

    async def _attempt(self, callback: Callback) -> tuple[str | None, float]:
        token = sign_callback_token(
            callback.claims,
            callback.jti,
            self._settings.transfer_jwt_secret,
            self._settings.transfer_callback_ttl_seconds,
        )
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with asyncio.timeout(self._settings.transfer_callback_timeout_seconds):
                async with self._http.stream("POST", self._settings.callback_url, headers=headers) as answer:
                    status = answer.status_code
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            _logger.warning("job %s: callback failed: %s", callback.job_id, type(error).__name__)
            return None, 0.0
        if status in _TRY_AGAIN:
            _logger.warning("job %s: callback answered %d", callback.job_id, status)
            return None, _retry_after(answer.headers.get("retry-after"))
        if 200 <= status < 300:
            return "delivered", 0.0
        if status == HTTPStatus.CONFLICT:
            return "already settled", 0.0
        return f"refused with status {status}", 0.0

    async def _again(self, callback: Callback, retry_after: float) -> None:
        attempts = callback.attempts + 1
        doublings = min(callback.attempts, _MOST_DOUBLINGS)
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**doublings, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
        pause = max(pause, retry_after)
        if time.time() + pause > callback.created_at + self._settings.callback_retry_window_seconds:
            _logger.error("job %s: callback given up after %d attempts", callback.job_id, attempts)
            await self._store.settle_callback(callback)
            return
        await self._store.retry_callback(callback.model_copy(update={"attempts": attempts}), pause)

    @asynccontextmanager
    async def _held(self, callback: Callback) -> AsyncIterator[None]:
        async def hold() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                try:
                    await self._store.hold_callback(callback)
                except ServiceUnavailable:
                    continue

        async with asyncio.TaskGroup() as group:
            holding = group.create_task(hold())
            try:
                yield
            finally:
                holding.cancel()


def _retry_after(value: str | None) -> float:
    """Return the seconds of a `Retry-After` (RFC 9110 section 10.2.3), 0 for none or nonsense."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
