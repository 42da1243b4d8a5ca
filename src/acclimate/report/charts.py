"""Small drawings as inline SVG: their colours are the page's, so that they are legible in light, in dark and in print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 34
TICKS = 5
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points (x, y), joined; `kind` is a class of the page's style sheet: "first", "second", "third"."""

    name: str
    points: Sequence[Point]
    kind: str = "first"
    whiskers: Sequence[tuple[float, float]] = ()
    """(low, high) of each point; none where empty."""


@dataclass(frozen=True)
class Axes:
    """Where numbers lie in a drawing."""

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.across
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.up
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def plot(
    lines: Sequence[Line],
    title: str,
    across: str,
    up: str,
    *,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    diagonal: bool = False,
    marks: Iterable[tuple[float, str]] = (),
) -> str:
    """Lines over common axes, with a legend where there are several.

    `limits`: (low, high) of x and of y (default: what the points need). `diagonal`: where x and y are equal. `marks`: vertical
    lines, (x, what begins there). Empty where there is no finite point.
    """
    finite = [Line(one.name, _finite(one.points), one.kind, one.whiskers) for one in lines]
    lines = [line for line in finite if line.points]
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    marks = list(marks)
    starts = [x for x, _ in marks]
    axes = Axes(*limits) if limits else Axes(_range([*starts, *(x for x, _ in points)]), _range(y for _, y in points))
    body = [*_grid(axes, across, up), *(_mark(axes, *mark) for mark in marks)]
    if diagonal:
        low, high = axes.across
        body.append(f'<path class="diagonal" d="{_path(axes, [(low, low), (high, high)])}"/>')
    body += [part for line in lines for part in _drawn(axes, line)]
    legend = "".join(f'<span class="key {line.kind}">{escape(line.name)}</span>' for line in lines if line.name)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
    return f'<figure class="chart"><figcaption>{escape(title)} {legend}</figcaption>{svg}</figure>'


def bar(metric: dict[str, Any], low: float = 0.0, high: float = 1.0) -> str:
    """A figure with its interval on a short line from `low` to `high`; numbers stand beside it, so it is hidden from readers."""
    ends = [min(1.0, max(0.0, (metric[end] - low) / (high - low))) for end in ("low", "value", "high")]
    first, middle, last = (round(100 * end, 1) for end in ends)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="track" d="M0 4H100"/><path class="range" d="M{first} 4H{max(last, first + 0.5)}"/>'
        f'<path class="value" d="M{middle} 0V8"/></svg>'
    )


def _finite(points: Iterable[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _range(values: Iterable[float]) -> tuple[float, float]:
    """From the least to the largest, with room; of equal ones around them."""
    known = list(values)
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return low - room, high + room


def ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Round numbers between two, `most` or a few fewer."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= most)
    first = math.ceil(low / step)
    return [round(step * place, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(axes: Axes, across: str, up: str) -> list[str]:
    parts = []
    for value in ticks(*axes.up):
        y = round(axes.y(value), 1)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in ticks(*axes.across):
        x, y = round(axes.x(value), 1), HEIGHT - BOTTOM + 15
        parts.append(f'<text class="tick" x="{x}" y="{y}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>')
    parts.append(f'<text class="axis" x="2" y="{TOP - 4}">{escape(up)}</text>')
    return parts


def _mark(axes: Axes, x: float, name: str) -> str:
    place = round(axes.x(x), 1)
    line = f'<path class="mark" d="M{place} {TOP}V{HEIGHT - BOTTOM}"/>'
    return f'{line}<text class="axis" x="{place + 4}" y="{HEIGHT - BOTTOM - 6}">{escape(name)}</text>'


def _drawn(axes: Axes, line: Line) -> list[str]:
    parts = [f'<path class="line {line.kind}" d="{_path(axes, line.points)}"/>']
    for (x, _), (low, high) in zip(line.points, line.whiskers, strict=False):
        place = round(axes.x(x), 1)
        parts.append(
            f'<path class="whisker {line.kind}" d="M{place} {axes.y(low):.1f}V{axes.y(high):.1f}" aria-hidden="true"/>'
        )
    parts += [
        f'<circle class="dot {line.kind}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3"/>' for x, y in line.points
    ]
    return parts


def _path(axes: Axes, points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in points)
