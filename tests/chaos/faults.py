"""What goes wrong around and in a loader."""

from __future__ import annotations

import asyncio
import signal

from tests.chaos.plan import PlannedFault
from tests.chaos.timeline import Timeline
from tests.support.manager import Answer
from tests.support.processes import age_seconds, children, send_signal
from tests.support.restarts import RestartableRedis
from tests.support.sentinel import SentinelRedis
from tests.support.services import Services
from tests.support.seven_zip_gate import SevenZipGate

# granian gives up when a worker dies that it has just started, and leaves it to systemd to begin again.
_GROWN_UP_SECONDS = 7
_ONE_OF_THEM = 0.8
_SILENT = 0.3
_COMMANDS = "txa"
_ABSENT_MANAGERS = (
    None,
    Answer(500, move=False),
    Answer(503, {"Retry-After": "1"}, move=False),
    # It has moved the file, and fails afterwards.
    Answer(500),
    Answer(delay=3),
)
"""How the Manager answers while it is away; `None` refuses connections."""


class Faults:
    """Has faults happen; each ends by itself, and with the run."""

    def __init__(
        self, services: Services, redis: RestartableRedis | SentinelRedis, gate: SevenZipGate, timeline: Timeline
    ) -> None:
        self._services = services
        self._redis = redis
        self._gate = gate
        self._timeline = timeline
        self._one_redis = asyncio.Lock()
        self._one_manager = asyncio.Lock()
        self._one_gate = asyncio.Lock()

    async def happen(self, fault: PlannedFault) -> None:
        """Begin a fault, and return when it is over."""
        match fault.kind:
            case "kill_worker":
                self._kill_worker(fault)
            case "pause_worker":
                await self._pause_worker(fault)
            case "stop_redis":
                await self._stop_redis(fault)
            case "fail_over":
                await self._fail_over(fault)
            case "stop_manager":
                await self._stop_manager(fault)
            case "hold_seven_zip":
                await self._hold_seven_zip(fault)

    def _grown_up_workers(self) -> list[int]:
        started = children(self._services.servers["loader"].process.pid)
        return sorted(pid for pid in started if age_seconds(pid) > _GROWN_UP_SECONDS)

    def _kill_worker(self, fault: PlannedFault) -> None:
        workers = self._grown_up_workers()
        if fault.choice < _ONE_OF_THEM:
            workers = _chosen(workers, fault.choice / _ONE_OF_THEM)
        send_signal(workers, signal.SIGKILL)
        self._timeline.note(f"fault: killed workers {workers}")

    async def _pause_worker(self, fault: PlannedFault) -> None:
        workers = _chosen(self._grown_up_workers(), fault.choice)
        send_signal(workers, signal.SIGSTOP)
        self._timeline.note(f"fault: paused worker {workers}")
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            send_signal(workers, signal.SIGCONT)
            self._timeline.note(f"fault: woke worker {workers}")

    async def _stop_redis(self, fault: PlannedFault) -> None:
        assert isinstance(self._redis, RestartableRedis)
        async with self._one_redis:
            if fault.choice < _SILENT:
                self._timeline.note("fault: Redis is silent")
                with self._redis.silent():
                    await asyncio.sleep(fault.seconds)
            else:
                self._timeline.note("fault: Redis goes away")
                await asyncio.to_thread(self._redis.stop)
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    await asyncio.to_thread(self._redis.start)
            self._timeline.note("fault: Redis is back")

    async def _fail_over(self, fault: PlannedFault) -> None:
        assert isinstance(self._redis, SentinelRedis)
        async with self._one_redis:
            old = await asyncio.to_thread(self._redis.until_whole)
            self._timeline.note(f"fault: killed the primary, {old}")
            self._redis.kill(old)
            new = await asyncio.to_thread(self._redis.until_failover, old)
            self._timeline.note(f"fault: {new} is the primary")
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(self._redis.start, old, "--replicaof", "127.0.0.1", str(new))
            self._timeline.note(f"fault: {await asyncio.to_thread(self._redis.until_whole)} has a replica")

    async def _stop_manager(self, fault: PlannedFault) -> None:
        manager = self._services.manager
        async with self._one_manager:
            answer = _ABSENT_MANAGERS[int(fault.choice * len(_ABSENT_MANAGERS))]
            self._timeline.note(f"fault: the Manager goes away: {answer or 'connections are refused'}")
            if answer is None:
                await asyncio.to_thread(manager.stop)
            else:
                manager.usual = answer
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                manager.usual = Answer()
                if answer is None:
                    await asyncio.to_thread(manager.start)
                self._timeline.note("fault: the Manager is back")

    async def _hold_seven_zip(self, fault: PlannedFault) -> None:
        letter = _COMMANDS[int(fault.choice * len(_COMMANDS))]
        async with self._one_gate:
            self._timeline.note(f"fault: 7z is slow with '{letter}'")
            self._gate.hold(letter)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                self._gate.release(letter)


def _chosen(workers: list[int], choice: float) -> list[int]:
    return [workers[int(choice * len(workers))]] if workers else []
