"""What a choice leaves in a folder: choose.json, and a picture of quality against cost with its front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate.core.run import write_whole
from acclimate.verbs import drawing
from acclimate.verbs.drawing import COLOURS

if TYPE_CHECKING:
    from acclimate.verbs.choose import Choice, Judged

GREY = "#8a8a8a"


def write(folder: Path, found: Choice) -> None:
    """choose.json, front.svg and front.png."""
    for name, drawn in pictures(found).items():
        write_whole(folder / name, drawn)
    write_whole(folder / "choose.json", json.dumps(found.json(), indent=1, ensure_ascii=False))


def pictures(found: Choice) -> dict[str, bytes]:
    """Across, what a sample costs in the best batch; up, the quality with its interval. The front is a line of steps."""
    from matplotlib.ticker import FuncFormatter

    figure, axes = drawing.empty(7.4, 4.6)
    costs = [_cost(one) for one in found.candidates]
    middle = (min(costs) * max(costs)) ** 0.5
    for one in found.candidates:
        _drawn(axes, one, one is found.recommended, "left" if _cost(one) <= middle else "right")
    front = found.front
    axes.step(
        [_cost(one) for one in front],
        [one.quality["value"] for one in front],
        where="post",
        color=COLOURS[0],
        linewidth=1,
        zorder=1,
    )
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.set_xlabel("milliseconds a sample, in the best batch on this machine")
    axes.set_ylabel(found.metric.replace("_", " "))
    axes.set_title(f"{found.data}: start from {found.recommended.entrant.title}", fontsize=10)
    return drawing.files(figure, "front")


def _cost(one: Judged) -> float:
    return 1000 * one.entrant.costs.each


def _drawn(axes: Any, one: Judged, recommended: bool, side: str) -> None:
    """`side`: on which the name begins or ends at the dot, so that it stays inside."""
    colour = COLOURS[1] if recommended else COLOURS[0] if one.on_front else GREY
    quality = one.quality
    ends = [[quality["value"] - quality["low"]], [quality["high"] - quality["value"]]]
    axes.errorbar(
        [_cost(one)], [quality["value"]], yerr=ends, fmt="o", color=colour, elinewidth=0.7, markersize=5, zorder=2
    )
    if recommended or one.on_front or one.within:
        place, off = (_cost(one), quality["value"]), (5 if side == "left" else -5, 4)
        axes.annotate(
            one.entrant.title, place, xytext=off, textcoords="offset points", fontsize=7, color=colour, ha=side
        )
