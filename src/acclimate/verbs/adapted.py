"""What a run with a target leaves to be told: how the target differed, what is answered there now, and what its labels say."""

from __future__ import annotations

from typing import Any

import numpy as np

from acclimate.core.run import Run
from acclimate.engine.learned import entries
from acclimate.engine.phase import Outcome, Phase
from acclimate.strategies import adaptation
from acclimate.verbs.harmonise import DECISION
from acclimate.verbs.job import Job

BY_CLASS = ("source", "predicted", "entropy")
"""What of a comparison has a number a class."""


def told(run: Run, job: Job, chosen: Outcome) -> dict[str, Any]:
    """{"target": {"data", "samples", "adapted", "harmonised", "looks"[, "right"]}}; nothing without a target.

    "harmonised": how samples were shown (`verbs.harmonise.Harmony`), null where nothing was looked for.

    "looks": how it differed before, and what was answered there after each step that was looked at (`engine.phase.Comparison`, with
    numbers a class by name). "right": how many of its labels each model had right that these decided between.
    """
    if job.target is None:
        return {}
    known, classes = run.decisions(), job.task.spec["classes"]
    looks, audits = (
        [known[name] for name in sorted(known, key=len) if name.startswith(kind)] for kind in ("compare ", "audit ")
    )
    shown = [
        {name: dict(zip(classes, value, strict=True)) if name in BY_CLASS else value for name, value in look.items()}
        for look in looks
    ]
    right = {
        name: {"right": round(sum(scores)), "of": len(scores)}
        for name, scores in zip(adaptation.TRIED, audits, strict=False)
    }
    said = {
        "data": job.options.target,
        "samples": len(job.target.rows),
        "adapted": chosen.adapted,
        "harmonised": known.get(DECISION),
        "looks": shown,
    }
    return {"target": {**said, **({"right": right} if right else {})}}


def learned(job: Job, phase: Phase) -> np.ndarray | None:
    """The target's samples whose labels a phase learned, as `engine.learned.entries` gives them; None where it learned none."""
    if job.target is None or phase.align != adaptation.LEARNED:
        return None
    return entries(job.task, job.target.dataset, job.target.known)
