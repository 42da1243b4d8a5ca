"""A run at a glance, as HTML for a notebook: the verdict, the figures with their intervals, validation as it went."""

from __future__ import annotations

from html import escape
from typing import Any

from acclimate.core.run import Run

WIDTH, HEIGHT, EDGE = 420, 110, 14
"""Of the curve, in pixels, and what is kept free around it."""


def html(run: Run) -> str:
    """One element without scripts or files; its colours are those of the text around it, so that it is light or dark as that is."""
    name = f"<strong>{escape(run.path.name)}</strong> <code>{escape(str(run.path))}</code>"
    if not run.finished:
        return f"<div><p>{name}: not finished</p></div>"
    result = run.metrics()
    said = escape(result.get("verdict", ""))
    told = ", ".join(str(result[key]) for key in ("model", "strategy", "chosen"))
    parts = (
        f"<p>{name}: {escape(told)}</p>",
        said and f"<p><strong>{said}</strong></p>",
        _table(result),
        _curve(_seen(result), result["primary"].replace("_", " ")),
    )
    return f"<div>{''.join(parts)}</div>"


def _table(result: dict[str, Any]) -> str:
    rows = (
        f"<tr><th scope='row' style='text-align: left'>{escape(name.replace('_', ' '))}</th><td>{metric['value']:.3f}</td>"
        f"<td>{metric['low']:.3f} to {metric['high']:.3f}</td><td>{metric['n']:,}</td></tr>"
        for name, metric in result["metrics"].items()
    )
    heads = (
        f"<th scope='col'>{head}</th>"
        for head in (f"on {escape(result['split'])}", "value", "95 % interval", "samples")
    )
    return (
        f"<table style='color: inherit'><thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _seen(result: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """(phase, its values on validation) in the order of the run: of each epoch, or the one of a phase that is solved."""
    judged = [one for one in result.get("phases", []) if one["value"] is not None]
    epochs = ([point["value"] for point in one.get("curve", []) if "value" in point] for one in judged)
    return [(one["name"], values or [one["value"]]) for one, values in zip(judged, epochs, strict=True)]


def _curve(seen: list[tuple[str, list[float]]], primary: str) -> str:
    """Validation over epochs, a line a phase; nothing where there is but one value."""
    values = [value for _, each in seen for value in each]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    across, up = (WIDTH - 2 * EDGE) / (len(values) - 1), (HEIGHT - 2 * EDGE) / ((high - low) or 1.0)
    drawn, place = [], 0
    for name, each in seen:
        points = [(EDGE + across * (place + i), HEIGHT - EDGE - up * (value - low)) for i, value in enumerate(each)]
        place += len(each)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="currentColor"/>' for x, y in points)
        title = f"{name}: {', '.join(f'{value:.3f}' for value in each)}"
        drawn.append(
            f'<g><title>{escape(title)}</title><polyline points="{line}" fill="none" stroke="currentColor"/>{dots}</g>'
        )
    told = f"{primary} on validation by epoch, from {values[0]:.3f} to {values[-1]:.3f}; lowest {low:.3f}, highest {high:.3f}"
    return (
        f'<svg role="img" aria-label="{escape(told)}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(drawn)}</svg><div><small>{escape(told)}</small></div>"
    )
