"""Has files judged by a malware scanner before they are handed on (docs/API.md, "Malware")."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from open_workshop_storage.core.errors import MalwareFound, ScannerUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.metrics import SCANS
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.utils.net.clamd import Cause, Clean, Malware, NotJudged, Verdict, parse_address, scan
from open_workshop_storage.utils.processes.threads import run_to_end

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

_AGAIN_SECONDS = 1.0
# A file that makes the scanner break off is not to do so for an hour.
_MOST_CUTS = 3


async def _now() -> float:
    return time.time()


class Scanner:
    """Asks the scanner that `CLAMD_ADDRESS` names, and judges by `SCAN_FAILURE` what it cannot."""

    def __init__(self, settings: Settings) -> None:
        self._address = parse_address(settings.clamd_address) if settings.clamd_address else None
        self._failure = settings.scan_failure
        self._timeout_seconds = settings.scan_timeout_seconds
        self._wait_seconds = settings.scan_wait_seconds

    @property
    def is_set(self) -> bool:
        """Whether there is a scanner at all."""
        return self._address is not None

    async def require_clean(self, file: Path, log: Log, away_since: Callable[[], Awaitable[float]] = _now) -> None:
        """Return if a file may be handed on: it is clean, there is no scanner, or none is needed.

        Args:
            file: A file of this host that nobody changes.
            log: Hears what was found.
            away_since: Called when the scanner is away and is waited for; returns the Unix time, in seconds, at which
                this wait began.

        Raises:
            MalwareFound: Something is in it.
            ScannerUnavailable: It could not be judged, and has to be.
        """
        if self._address is None:
            return
        with span("scan"):
            verdict = await self._verdict(file, log, away_since)
        match verdict:
            case Clean():
                SCANS.add(1, {"verdict": "clean"})
            case Malware(name):
                SCANS.add(1, {"verdict": "malware"})
                log.warning("malware found: %s", name)
                raise MalwareFound(name)
            case NotJudged(cause, detail):
                SCANS.add(1, {"verdict": "not_judged", "cause": cause})
                passes = self._failure == "pass"
                log.warning("%s without a scan (%s): %s", "passed" if passes else "refused", cause, detail)
                if not passes:
                    raise ScannerUnavailable

    async def _verdict(self, file: Path, log: Log, away_since: Callable[[], Awaitable[float]]) -> Verdict:
        """Have a file judged, and wait for a scanner that is away if that is what to do."""
        cuts, began = 0, None
        while True:
            verdict = await self.scan(file)
            if self._failure != "wait" or not isinstance(verdict, NotJudged):
                return verdict
            cuts += verdict.cause is Cause.CUT
            if verdict.cause not in (Cause.AWAY, Cause.CUT) or cuts == _MOST_CUTS:
                return verdict
            if began is None:
                log.warning("waiting for the scanner (%s): %s", verdict.cause, verdict.detail)
                began = await away_since()
            if time.time() >= began + self._wait_seconds:
                return verdict
            await asyncio.sleep(_AGAIN_SECONDS)

    async def scan(self, file: Path) -> Verdict:
        """Have a file of this host judged once.

        Raises:
            OSError: The file cannot be opened.
        """
        assert self._address is not None
        with ExitStack() as stack:
            # Opened into the stack, since a cancellation loses what `run_to_end` returns.
            opened = await run_to_end(lambda: stack.enter_context(file.open("rb")))
            return await scan(self._address, opened, self._timeout_seconds)
