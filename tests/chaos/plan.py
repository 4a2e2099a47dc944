"""What a run does, and when: all of it follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.payloads import KINDS

LOADER_WORKERS = 3
LONGER_THAN_A_LEASE_SECONDS = 16.5
_SLOWEST_BODY_SECONDS = 6.0


@dataclass(frozen=True)
class PlannedTransfer:
    """One transfer.

    Attributes:
        number: Its place in the plan.
        at: When it begins, in seconds from the start of the run.
        kind: One of `payloads.KINDS`.
        way: `upload`, `fetch` from an origin that can go on where a fetch broke off, or `fetch without ranges`.
        seconds: How long its bytes take on their way.
        seed: Of its content.
    """

    number: int
    at: float
    kind: str
    way: str
    seconds: float
    seed: int

    def __str__(self) -> str:
        return f"{self.at:5.1f}  transfer {self.number}: {self.kind}, {self.way}, {self.seconds:.1f} s"


@dataclass(frozen=True)
class PlannedFault:
    """Something that goes wrong.

    Attributes:
        at: When, in seconds from the start of the run.
        kind: A method of `faults.Faults`.
        seconds: How long it lasts.
        choice: Picks among whom or what it may hit, 0 to 1.
    """

    at: float
    kind: str
    seconds: float
    choice: float

    def __str__(self) -> str:
        return f"{self.at:5.1f}  {self.kind}, {self.seconds:.1f} s, choice {self.choice:.2f}"


@dataclass(frozen=True)
class Size:
    """How much happens in a run, and within how many seconds it begins."""

    transfers: int
    seconds: float
    kills: int
    pauses: int
    redis_absences: int
    manager_absences: int
    held_commands: int
    failovers: int = 0


SHORT = Size(transfers=28, seconds=12, kills=3, pauses=1, redis_absences=1, manager_absences=1, held_commands=2)
LONG = Size(transfers=150, seconds=100, kills=16, pauses=4, redis_absences=5, manager_absences=5, held_commands=10)
FAILOVERS = Size(
    transfers=1000,
    seconds=1500,
    kills=25,
    pauses=7,
    redis_absences=0,
    manager_absences=15,
    held_commands=30,
    failovers=40,
)
"""Sentinels lead the Redis of such a run."""


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    seed: int
    transfers: list[PlannedTransfer]
    faults: list[PlannedFault]

    @property
    def has_sentinels(self) -> bool:
        """Whether Redis fails over."""
        return any(fault.kind == "fail_over" for fault in self.faults)

    @property
    def seconds(self) -> float:
        """How long it lasts until all faults are over."""
        return max(fault.at + fault.seconds for fault in self.faults)

    def __str__(self) -> str:
        return "\n".join([f"The plan of seed {self.seed}:", *map(str, self.transfers), *map(str, self.faults)])


def make_plan(seed: int, size: Size) -> Plan:
    """Return the plan of a seed."""
    rng = random.Random(seed)
    return Plan(seed, _transfers(rng, size), _faults(rng, size))


def _transfers(rng: random.Random, size: Size) -> list[PlannedTransfer]:
    # Each kind comes, those that arrive more often than those that are refused.
    refused = KINDS.index("no image")
    others = rng.choices((KINDS[:refused], KINDS), (3, 1), k=size.transfers - len(KINDS))
    kinds = [*KINDS, *map(rng.choice, others)]
    rng.shuffle(kinds)
    times = sorted(rng.uniform(0, size.seconds) for _ in kinds)
    ways = ("upload", "upload", "fetch", "fetch without ranges")
    return [
        PlannedTransfer(number, at, kind, rng.choice(ways), rng.uniform(0, _SLOWEST_BODY_SECONDS), rng.getrandbits(32))
        for number, (at, kind) in enumerate(zip(times, kinds, strict=True), start=1)
    ]


def _faults(rng: random.Random, size: Size) -> list[PlannedFault]:
    def of(kind: str, count: int, seconds: Callable[[], float], latest: float = 1) -> list[PlannedFault]:
        # One in each part of the run, so that they are spread over it.
        part = size.seconds / max(count, 1)
        times = [part * i + rng.uniform(0, part * latest) for i in range(count)]
        return [PlannedFault(at, kind, seconds(), rng.random()) for at in times]

    return sorted(
        [
            *of("kill_worker", size.kills, lambda: 0),
            # Early in their part, since they last.
            *of("pause_worker", size.pauses, lambda: LONGER_THAN_A_LEASE_SECONDS + rng.uniform(0, 2), 0.25),
            *of("stop_redis", size.redis_absences, lambda: rng.uniform(0.2, 4)),
            *of("stop_manager", size.manager_absences, lambda: rng.uniform(1, 6)),
            *of("hold_seven_zip", size.held_commands, lambda: rng.uniform(0.5, 3)),
            *of("fail_over", size.failovers, lambda: rng.uniform(0, 2)),
        ],
        key=lambda fault: fault.at,
    )
