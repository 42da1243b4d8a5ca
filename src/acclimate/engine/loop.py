"""The training loop, the only one of the project: for every task, strategy and objective."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from acclimate.core.seeds import key
from acclimate.engine.batches import Batch, Batches
from acclimate.engine.optim import Average, set_rates, share
from acclimate.engine.phase import Phase
from acclimate.engine.precision import Precision
from acclimate.models.backbone import Net
from acclimate.objectives.objective import Objective


class NonFinite(Exception):
    """The loss or the gradient of a step was not finite; the weights were not changed by it."""

    def __init__(self, step: int, rows: np.ndarray) -> None:
        super().__init__(f"the loss of step {step} is not finite")
        self.step, self.rows = step, rows


@dataclass(frozen=True)
class Step:
    """What happened. `loss`: mean over the targets, a tensor so that nobody waits for a device who does not look."""

    number: int
    loss: torch.Tensor
    rate: float
    samples: int
    micro: int


@dataclass
class State:
    """All of a phase that changes while it trains; a checkpoint is exactly this."""

    net: Net
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: Average | None = None
    extra: nn.Module = field(default_factory=nn.Module)
    """What the objective needs beside the net; it learns along, and is left behind."""
    micro: int = sys.maxsize
    """Samples that are computed at a time, at most: a batch goes through whole, of however many short samples, until memory runs out."""
    step: int = 0
    end: int | None = None
    """The step that the schedule ends at, where a budget ends it before the phase's last."""
    best: dict[str, torch.Tensor] | None = None
    """The values of the best epoch so far, where a phase stops early."""
    moving: dict[str, torch.Tensor] = field(init=False)
    """The trained parameters and the statistics that go with them, which averages and the best epoch are of."""

    def __post_init__(self) -> None:
        kept = {name: value for name, value in self.buffers().items() if value.is_floating_point()}
        self.moving = {**self.trained, **kept}

    def buffers(self) -> dict[str, torch.Tensor]:
        """Buffers of the modules that learn, which batch norm may move; those of frozen stages never change."""
        homes = {name.rpartition(".")[0] for name in self.trained}
        return {name: value for name, value in self.net.named_buffers() if name.rpartition(".")[0] in homes}


def train(
    phase: Phase, state: State, streams: list[Batches], objective: Objective, precision: Precision, device: torch.device
) -> Generator[Step, None, None]:
    """Train from `state.step` to the end of the phase. The state is whole whenever a Step is yielded; whoever takes it may set its end.

    Raises NonFinite one step after a loss that is not finite; that step changed nothing.
    """
    steps = streams[0].steps
    bad: tuple[torch.Tensor, int, np.ndarray] | None = None
    for batches in zip(*(stream.batches(state.step) for stream in streams), strict=False):
        torch.manual_seed(key("step", phase.seed, state.step))
        end = state.end or steps
        objective.progress = state.step / end
        set_rates(state.optimizer, share(phase, state.step, end))
        with precision.training(state.net):
            total, count, state.micro = accumulate(state, objective, phase.first, batches, precision, device)
        loss = total / count
        norm = nn.utils.get_total_norm([p.grad for p in state.trained.values() if p.grad is not None]) / count
        if bad is not None and bool(bad[0]):
            raise NonFinite(*bad[1:])
        bad = (~torch.isfinite(loss + norm), state.step, batches[0].rows)
        # A fused optimizer divides the gradients by the one, which saves two passes over them, and makes no step where the other is 1.
        clipped = (norm / (phase.clip or float("inf"))).clamp_min(1)
        state.optimizer.__dict__.update(grad_scale=count * clipped, found_inf=bad[0].float())
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if state.average is not None and state.step > end * (1 - (phase.average or 1.0)):
            state.average.update(state.moving)
        yield Step(state.step, loss, state.optimizer.param_groups[-1]["lr"], len(batches[0].rows), state.micro)
    if bad is not None and bool(bad[0]):
        raise NonFinite(*bad[1:])


def accumulate(
    state: State,
    objective: Objective,
    first: int,
    batches: tuple[Batch, ...],
    precision: Precision,
    device: torch.device,
) -> tuple[torch.Tensor, int, int]:
    """Gradients of the summed loss over the whole batch, in micro-batches: (the sum, the number of targets, micro-batch that fitted).

    The step divides by the number of targets of the whole window, so accumulation equals one big batch. Where memory does not
    suffice the micro-batch is halved and the window begun anew.
    """
    micro = state.micro
    while True:
        try:
            total, count = torch.zeros((), device=device), 0
            largest, smallest = (of(len(batch.rows) for batch in batches) for of in (max, min))
            pieces = min(-(-largest // micro), smallest)
            for parts in zip(*(batch.parts(pieces) for batch in batches), strict=True):
                moved = [
                    Batch(precision.move(p.inputs, device), precision.move(p.targets, device), p.rows) for p in parts
                ]
                loss, targets = objective(state.net, first, *moved)
                loss.backward()
                total, count = total + loss.detach(), count + targets
            return total, max(1, count), micro
        except RuntimeError as error:
            largest = min(micro, largest)
            if not out_of_memory(error) or largest == 1:
                raise
            state.optimizer.zero_grad(set_to_none=True)
            micro = largest // 2


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA and MPS raise their own class; the CPU allocator says so in words."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    )
