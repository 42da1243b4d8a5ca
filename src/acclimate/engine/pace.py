"""`Pace`: how fast a phase makes its steps, so that it can end where the budget does."""

from __future__ import annotations

import time

LOOK, SURE = 16, 0.95
"""The steps after which it is seen first how many the budget leaves, and the share of them that is counted on."""


class Pace:
    """How fast steps are made, what lies between them included; begun at a step, of a phase that was resumed not its first."""

    def __init__(self, step: int) -> None:
        self.step, self.began = step, time.monotonic()

    def known(self, step: int) -> bool:
        """Whether it is time to look: after LOOK steps, and whenever they have doubled."""
        return step >= LOOK and step & (step - 1) == 0 and step - self.step >= LOOK // 2

    def last(self, deadline: float, step: int) -> int:
        """The step that will be reached by the deadline (a time.monotonic())."""
        now = time.monotonic()
        left = max(0.0, deadline - now) * (step - self.step) / max(now - self.began, 1e-9)
        return step + int(SURE * left)
