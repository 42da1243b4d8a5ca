"""`fit --model choose`: what stands for it, chosen once; a resume and a replay take what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acclimate.core.recipe import Options
from acclimate.engine.watcher import Watcher
from acclimate.verbs import folder
from acclimate.verbs.choose import among
from acclimate.verbs.field import Budget
from acclimate.verbs.job import CHOOSE

DECISION = "chosen model"
"""What the choice is called among the decisions of a run."""
SHARE = 1 / 3
"""Of the budget, at most."""
OWN = ("model", "minutes", "target", "adapt", "harmonise", "target_shares", "target_labels")
"""What is asked of the fit and not of a race, which follows the strategy as it is without a budget and without adapting."""


def settle(
    data: Any,
    options: Options,
    decisions: dict[str, Any],
    out: str | Path | None,
    resume: bool,
    *,
    began: float,
    watcher: Watcher,
    target: Any,
) -> dict[str, Any]:
    """Options to set in place of `--model choose`: model, size, and more where the candidate takes it; none where a model was named.

    `decisions`: of the recipe that is replayed. `began`: time.monotonic() from which the budget counts. `target`: samples from elsewhere,
    or None. Raises `UserError`.
    """
    if options.model != CHOOSE:
        return {}
    known = folder.decided(DECISION, decisions, data, out, options, resume)
    if known is not None:
        return dict(known)
    asked = Options.check({name: value for name, value in options.asked().items() if name not in OWN})
    found = among(data, asked, Budget(options.minutes, began, SHARE), watcher, target=target)
    watcher.say(found.why)
    return found.settings
