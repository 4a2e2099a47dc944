"""How measures are taken in turns, compared, and shown."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One measure.

    Attributes:
        goal: What the median is to be at least, or at most if `at_most`.
        values: What each round gave.
        detail: The measurements behind the ratio.
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


@dataclass(frozen=True)
class Findings:
    """What one group of measures found.

    Attributes:
        title: What was measured.
        notes: What limits it, with a profile, as Markdown.
    """

    title: str
    rows: Sequence[Row]
    notes: str


def interleaved(rounds: int, measures: Mapping[str, Measure], *, alternating: bool = True) -> dict[str, list[float]]:
    """Take all measures in each round, so that what disturbs one disturbs all, and return the values of each.

    Args:
        alternating: Whether every second round goes backwards; not if one measure has to come before another.
    """
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)
        for name in reversed(names) if alternating and number % 2 else names:
            values[name].append(measures[name]())
    return values


def ratio(
    name: str,
    goal: float,
    values: Mapping[str, Sequence[float]],
    ours: str,
    reference: str,
    unit: str,
    *,
    at_most: bool = False,
) -> Row:
    """Compare two measures round by round.

    Args:
        values: As `interleaved` returns them; `ours` and `reference` are names in it.
        unit: Of both measures.
    """
    ratios = [value / base for value, base in zip(values[ours], values[reference], strict=True)]
    medians = [statistics.median(values[key]) for key in (ours, reference)]
    detail = " / ".join(f"{median:,.0f}" if median >= 100 else f"{median:.3g}" for median in medians)
    return Row(name, goal, ratios, f"{detail} {unit}", at_most)


def report(where: str, findings: Sequence[Findings]) -> str:
    """Return one table of all rows, and the notes below it, as Markdown."""
    rows = [row for group in findings for row in group.rows]
    sections = [f"## {group.title}\n\n{group.notes.strip()}\n" for group in findings]
    return "\n".join([f"# Results\n\n{where}\n\n{table(rows)}\n", *sections])


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
