"""The probe: the head fitted to cached features by full-batch L-BFGS, over a path of penalties from strong to weak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from acclimate.tasks.task import Task

PENALTIES = tuple(10.0**power for power in np.arange(1.0, -4.6, -0.5))
"""lambda of (1/n) sum(loss) + lambda/2 |W|^2 on standardised features, from strong to weak."""
FLOOR = 1e-3
"""Least spread of a feature, as a share of the median spread: a constant feature must not blow the weights up."""


@dataclass(frozen=True)
class Solved:
    """One point of the path. `weight` [outputs, D] and `bias` [outputs] act on raw (unstandardised) features."""

    penalty: float
    weight: torch.Tensor
    bias: torch.Tensor
    loss: float


def path(task: Task, features: torch.Tensor, targets: np.ndarray, outputs: int) -> Iterator[Solved]:
    """Multinomial (or whatever the task's loss is) regression on `features` [n, D], warm-started from strong to weak penalties.

    Features are standardised per column; the scale is folded back into the weights. The objective is convex for a convex loss,
    so the result does not depend on the start. Float64 would cost twice the time for nothing that validation sees: float32 here,
    float64 in the optimizer's own state.
    """
    mean, spread = features.mean(0), features.std(0)
    spread = spread.clamp_min(FLOOR * float(spread.median().clamp_min(1e-12)))
    standard = (features - mean) / spread
    wanted = task.targets(targets)
    width = features.shape[1]
    flat = np.zeros(outputs * (width + 1))
    for penalty in PENALTIES:

        def objective(values: np.ndarray, penalty: float = penalty) -> tuple[float, np.ndarray]:
            parameters = torch.from_numpy(values).float().requires_grad_()
            weight, bias = parameters[: outputs * width].view(outputs, width), parameters[outputs * width :]
            total, count = task.loss(standard @ weight.T + bias, wanted)
            loss = total / count + penalty / 2 * weight.square().sum()
            (slope,) = torch.autograd.grad(loss, parameters)
            return loss.item(), slope.double().numpy()

        found = minimize(
            objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-4, "ftol": 1e-8}
        )
        flat = found.x
        parameters = torch.from_numpy(flat).float()
        weight = parameters[: outputs * width].view(outputs, width) / spread
        yield Solved(penalty, weight, parameters[outputs * width :] - weight @ mean, float(found.fun))


def fold_in(linear: nn.Linear, solved: Solved) -> None:
    """Copy a point of the path into the head."""
    with torch.no_grad():
        linear.weight.copy_(solved.weight)
        linear.bias.copy_(solved.bias)
