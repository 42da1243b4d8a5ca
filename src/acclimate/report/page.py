"""`page`: report.html, one self-contained file made of what a run's metrics.json tells and of samples that were drawn."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import acclimate
from acclimate.core.legible import legible
from acclimate.core.units import duration, size
from acclimate.report import exhibit_html
from acclimate.report.charts import Line, Point, bar, plot

if TYPE_CHECKING:
    from jinja2 import Environment

MATRIX = 30
"""Classes up to which the whole table of what is taken for what is shown."""
NAME = 60
"""Letters of a class's name that headings show."""
CLASSES = 200
"""Classes that are shown one by one, the lowest."""
WORST = 6
"""Pairs of classes that are shown with samples."""
KINDS = {
    "none": "no shift",
    "shares": "class shares differ",
    "looks": "samples look different",
    "unknown": "it cannot be told what differs",
}
"""What `engine.phase.Comparison.kind` means."""
ON = {"test": "test samples", "val": "validation samples, since no test samples were given", "all": "all samples"}


@dataclass(frozen=True)
class Group:
    """Samples that were drawn, as HTML, under a title."""

    id: str
    title: str
    about: str
    items: Sequence[str]


@dataclass(frozen=True)
class Drawn:
    """All samples that the page shows."""

    groups: Sequence[Group] = ()
    pairs: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """Samples of one class that are taken for another, by (what it is, what was answered)."""


def page(told: dict[str, Any], drawn: Drawn, recipe: str = "", title: str = "", example: str = '"new.jpg"') -> str:
    """The HTML of a run's report.

    `told`: what metrics.json says. `recipe`: the text of recipe.yaml. `title`: what the data are called. `example`: what
    `predict` is given in the lines to be copied, as Python. Whatever comes from outside is escaped; nothing is loaded from anywhere.
    """
    from markupsafe import Markup

    primary = told["primary"]
    classes, figures, more = _classes(told.get("by class", {}))
    parts = {
        "told": told,
        "title": title or told["run"],
        "version": acclimate.__version__,
        "style": Markup(_text("page.css") + exhibit_html.CSS),
        "script": Markup(_text("page.js")),
        "tone": tone(told),
        "split_words": f"Judged on {ON.get(told['split'], told['split'] + ' samples')}.",
        "split_said": ON.get(told["split"], told["split"] + " samples"),
        "primary": primary,
        "kinds": KINDS,
        "curves": Markup(curves(told.get("phases", []), primary)),
        "classes": classes,
        "class_figures": figures,
        "more_classes": more,
        "confusion": confusion(told.get("confusion", {}), drawn),
        "reliability": Markup(reliability(told.get("calibration", {}))),
        "groups": [{**vars(one), "items": [Markup(item) for item in one.items]} for one in drawn.groups if one.items],
        "recipe": recipe,
        "example": example,
    }
    parts["sections"] = _sections(parts)
    return _environment().get_template("page.html").render(parts)


def tone(told: dict[str, Any]) -> str:
    """How the verdict is coloured: "good" where it is told better than every baseline, "bad" where worse than one, else "unsure"."""
    beside = [one["better by"] for one in told.get("baselines", [])]
    if not beside:
        return "plain"
    if any(one["high"] < 0 for one in beside):
        return "bad"
    return "good" if all(one["low"] > 0 for one in beside) else "unsure"


def curves(phases: Sequence[dict[str, Any]], primary: str) -> str:
    """The primary figure and both losses by epoch, one phase after the other."""
    there = [one for one in phases if one.get("curve")]
    if not there:
        return ""
    values, training, held = list[Point](), list[Point](), list[Point]()
    marks, past = list[tuple[float, str]](), 0
    for phase in there:
        marks.append((past, phase["name"]))
        for point in phase["curve"]:
            at = past + point["epoch"]
            for name, kept in (("value", values), ("loss", training), ("val_loss", held)):
                if point.get(name) is not None:
                    kept.append((at, point[name]))
        past += max(point["epoch"] for point in phase["curve"])
    name = primary.replace("_", " ")
    return plot([Line("", values)], f"{name} on validation", "epoch", name, marks=marks) + plot(
        [Line("training", training), Line("validation", held, "second")], "loss", "epoch", "loss", marks=marks
    )


def reliability(calibration: dict[str, Any]) -> str:
    """Of samples by how sure the model is, the share that is right, before and after the temperature."""
    lines = []
    same = calibration.get("temperature") == 1
    for when, kind in (("before", "second"), ("after", "first"))[same:]:
        bins = [one for one in calibration.get(when, {}).get("bins", []) if one["accuracy"]["n"]]
        points = [(one["confidence"], one["accuracy"]["value"]) for one in bins]
        whiskers = [(one["accuracy"]["low"], one["accuracy"]["high"]) for one in bins] if when == "after" else ()
        if bins:
            lines.append(Line("" if same else when, points, kind, whiskers))
    limits = ((0.0, 1.0), (0.0, 1.0))
    return plot(lines, "share that is right by confidence", "confidence", "right", limits=limits, diagonal=True)


def confusion(found: dict[str, Any], drawn: Drawn) -> dict[str, Any]:
    """{"given", "table": rows of cells, where there are not too many classes, "worst": pairs}; empty without one."""
    if not found:
        return {}
    names, given, counts = found["classes"], found["given"], found["counts"]
    rows = []
    for name, row, total in zip(names, counts, found["there"], strict=True):
        cells = [
            {"count": n, "share": round(math.sqrt(n / (total or 1)), 3), "right": name == to}
            for to, n in zip(given, row, strict=True)
        ]
        rows.append({"name": name, "cells": cells})
    pairs = [
        (count, name, to, total)
        for name, row, total in zip(names, counts, found["there"], strict=True)
        for to, count in zip(given, row, strict=True)
        if name != to and count
    ]
    worst = [
        {"true": name, "given": to, "count": count, "of": total, "samples": _marked(drawn.pairs.get((name, to), ()))}
        for count, name, to, total in sorted(pairs, key=lambda pair: -pair[0])[:WORST]
    ]
    return {"given": given, "table": rows if len(given) <= MATRIX else [], "worst": worst}


def _marked(items: Sequence[str]) -> list[Any]:
    from markupsafe import Markup

    return [Markup(item) for item in items]


def _classes(found: dict[str, Any]) -> tuple[list[tuple[str, Any]], list[str], int]:
    """(classes with their figures, the names of these, how many classes there are where not all are shown)."""
    found = {name: each for name, each in found.items() if each}  # of a class that no sample has there may be none
    figures = list(dict.fromkeys(name for each in found.values() for name in each))
    if len(found) <= CLASSES:
        return list(found.items()), figures, 0

    def first(item: tuple[str, Any]) -> float:
        return item[1].get(figures[0], {"value": 1.0})["value"]

    return sorted(found.items(), key=first)[:CLASSES], figures, len(found)


def _sections(parts: dict[str, Any]) -> list[tuple[str, str]]:
    told = parts["told"]
    there = [
        ("figures", "figures", True),
        ("chosen", "what was chosen", told.get("phases")),
        ("classes", "by class", parts["classes"]),
        ("confusion", "what is taken for what", parts["confusion"]),
        ("reliability", "calibration", parts["reliability"]),
        ("slices", "by what samples are like", told.get("slices")),
        *((one["id"], one["title"].lower(), True) for one in parts["groups"]),
        ("target", "the target", told.get("target")),
        ("data", "the data", told.get("findings") or told.get("samples")),
        ("cost", "costs", told.get("cost")),
        ("use", "how to use it", True),
        ("recipe", "the recipe", parts["recipe"]),
    ]
    return [(id, name) for id, name, shown in there if shown]


# --- how values are written


def large(value: float) -> str:
    """ "1.2 billion"."""
    steps = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
    return next((f"{value / step:.3g} {name}" for step, name in steps if value >= step), f"{value:.3g}")


FORMS: dict[str, Callable[[Any], str]] = {
    "count": "{:,}".format,
    "figure": "{:.3f}".format,
    "gain": "{:+.3f}".format,
    "duration": duration,
    "ms": "{:.2f} ms".format,
    "bytes": size,
    "large": large,
}


WORDS = {"ece": "calibration error (ECE)", "top5": "among the five likeliest"}
PARTS = {"f1": "F1", "map": "mAP", "ap": "AP", "map50": "mAP50", "map75": "mAP75", "ap50": "AP50"}


def brief(name: str) -> Any:
    """A long name cut, with the whole as its title."""
    from markupsafe import Markup

    if len(name) <= NAME:
        return name
    return Markup('<span title="{}">{}…</span>').format(_plain(name), _plain(name[: NAME - 1]))


def words(name: str) -> str:
    """A figure's name as a person says it: "macro F1"."""
    if name in WORDS:
        return WORDS[name]
    return " ".join(PARTS.get(part, part) for part in name.split("_"))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    found = Environment(loader=PackageLoader("acclimate.report"), autoescape=True, finalize=_plain)
    found.filters |= {
        "short": "{:.3f}".format,
        "signed": "{:+.3f}".format,
        "shown": lambda value, form: FORMS[form](value),
        "words": words,
        "brief": brief,
        "bar": lambda metric: Markup(bar(metric)),
        "quoted": json.dumps,
        "shell": shlex.quote,
    }
    return found


def _plain(value: Any) -> Any:
    """Names and texts without what would turn a page around; what is HTML already stays."""
    return legible(value, "\t\n") if isinstance(value, str) and not hasattr(value, "__html__") else value


def _text(name: str) -> str:
    return (files("acclimate.report") / "templates" / name).read_text(encoding="utf-8")
