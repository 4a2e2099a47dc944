"""How a figure grows, as a row of the table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.report import Row

_WIDTH, _HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 40, 34
_COLUMNS = 3
_STYLE = """
text { font: 11px sans-serif; fill: #333 } .name { font-weight: bold }
path { fill: none; stroke: #06c; stroke-width: 2 } circle { fill: #06c } line { stroke: #bbb }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } path { stroke: #6bf } circle { fill: #6bf } line { stroke: #666 }
}
"""


@dataclass(frozen=True)
class Curve:
    """A figure at several sizes.

    Attributes:
        name: What is measured.
        unit: Of the values.
        sizes: What grows.
        points: Each size with the figure there, from the smallest on.
        goal: How many times the first value the last one may be.
        most: What the last value may be; None for any.
    """

    name: str
    unit: str
    sizes: str
    points: Sequence[tuple[int, float]]
    goal: float = 1.5
    most: float | None = None

    def rows(self) -> Iterator[Row]:
        """Yield the last value over the first one, and the last one itself if it has a limit."""
        (fewest, first), *_, (most, last) = self.points
        detail = " / ".join(f"{value:,.3g}" for _, value in self.points) + f" {self.unit}"
        name = f"{self.name}, at {most:,} {self.sizes} over {fewest:,}"
        yield Row(name, self.goal, [last / first], detail, at_most=True)
        if self.most is not None:
            yield Row(f"the same, in {self.unit}", self.most, [last], at_most=True)


def picture(curves: Sequence[Curve]) -> str:
    """Return all curves as an SVG that is readable on light and on dark pages: sizes as powers, values from 0 on."""
    panels = [_panel(curve, number) for number, curve in enumerate(curves)]
    width, height = _COLUMNS * _WIDTH, math.ceil(len(curves) / _COLUMNS) * _HEIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *panels, "</svg>\n"])


def _panel(curve: Curve, number: int) -> str:
    smallest, largest = (math.log10(curve.points[index][0]) for index in (0, -1))
    highest = max(value for _, value in curve.points) * 1.1
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    floor = _TOP + down

    def place(size: int, value: float) -> tuple[float, float]:
        share = (math.log10(size) - smallest) / (largest - smallest)
        return round(_LEFT + share * across, 1), round(floor - value / highest * down, 1)

    places = [place(*point) for point in curve.points]
    marks = [f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in places]
    labels = [
        f'<text x="{x}" y="{floor + 14}" text-anchor="middle">{_short(size)}</text>'
        for (x, _), (size, _) in zip(places, curve.points, strict=True)
    ]
    row, column = divmod(number, _COLUMNS)
    return "\n".join(
        [
            f'<g transform="translate({column * _WIDTH} {row * _HEIGHT})">',
            f'<text class="name" x="8" y="16">{escape(curve.name)}</text>',
            f'<text x="8" y="32">{escape(curve.unit)}</text>',
            f'<line x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>',
            f'<text x="{_LEFT - 6}" y="{places[-1][1] + 4}" text-anchor="end">{_short(curve.points[-1][1])}</text>',
            f'<text x="{_LEFT - 6}" y="{floor + 4}" text-anchor="end">0</text>',
            f'<path d="M{" L".join(f"{x} {y}" for x, y in places)}"/>',
            *marks,
            *labels,
            f'<text x="{_WIDTH - _RIGHT}" y="{floor + 28}" text-anchor="end">{escape(curve.sizes)}</text>',
            "</g>",
        ]
    )


def _short(value: float) -> str:
    """Return a number as a few characters: 1.2k for 1,200."""
    for power, letter in ((6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g}{letter}"
    return f"{value:.3g}"
