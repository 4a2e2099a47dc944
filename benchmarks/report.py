"""The table of all measures."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measure.

    Attributes:
        goal: What the median is to be at least, or at most if `at_most`.
        values: What each round gave.
        detail: The figures behind the ratio.
    """

    name: str
    goal: float
    values: Sequence[float]
    detail: str = ""
    at_most: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        return self.median <= self.goal if self.at_most else self.median >= self.goal

    def cells(self) -> tuple[str, ...]:
        """Return the row as it stands in the table."""
        spread = f"{_short(min(self.values))} – {_short(max(self.values))}"
        goal = f"{'≤' if self.at_most else '≥'} {_short(self.goal)}"
        return self.name, _short(self.median), goal, "yes" if self.is_met else "**no**", spread, self.detail


def table(rows: Sequence[Row]) -> str:
    """Return all rows as a Markdown table."""
    lines = [("measure", "median", "goal", "met", "spread", "behind it"), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def machine() -> str:
    """Return when and where this runs."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}: {len(os.sched_getaffinity(0))} cores of {cpu}, "
        f"{memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}; "
        f"load before the run {load:.1f}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
