"""Linear layers and dropout of transformers computed in the way that is fast on a processor.

`forwards` gives what to swap in; no weight changes, and no architecture is known by name. In bf16 they run inside autocast, which
sees to what is not ours. Why it is as it is was measured (benchmarks/bare_text_step.py): torch multiplies fp32 matrices with MKL,
which leaves AVX-512 unused on AMD, where oneDNN is twice as fast; autocast casts each weight at each use; Bernoulli numbers cost
seven times as much as bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

SMALL = 16384
"""A weight of fewer numbers is left alone: there, calling costs more than multiplying."""


# --- which layers


def forwards(net: nn.Module, dtype: torch.dtype) -> dict[nn.Module, Callable[..., Any]]:
    """What to swap in for linear layers (transformers' `Conv1D` too) and dropouts."""
    swap: dict[nn.Module, Callable[..., Any]] = {}
    for module in net.modules():
        turned = type(module).__name__ == "Conv1D"
        weight = getattr(module, "weight", None)
        if (type(module) is nn.Linear or turned) and isinstance(weight, Tensor) and weight.numel() >= SMALL:
            swap[module] = _layer(module, dtype, turned)
        elif type(module) is nn.Dropout and not module.inplace:
            swap[module] = _dropping(module)
    return swap


def _layer(module: nn.Module, dtype: torch.dtype, turned: bool) -> Callable[[Tensor], Tensor]:
    copy = Copy(dtype)

    def run(x: Tensor) -> Tensor:
        weight, bias = module.weight, module.bias
        return linear(x, weight.t() if turned else weight, bias, copy)  # type: ignore[operator, arg-type]

    return run


def _dropping(module: nn.Dropout) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return dropout(x, module.p) if module.training else x

    return run


# --- products


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether this build and processor have the kernels that this file stands on."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


_steps = 0
"""Of all optimizers of the process: a fused update changes a weight without raising its version."""


@cache
def _count_steps() -> None:
    def count(*_: Any) -> None:
        global _steps
        _steps += 1

    register_optimizer_step_post_hook(count)


class Copy:
    """A weight in the dtype it is multiplied in, kept until the weight changes: once a step."""

    def __init__(self, dtype: torch.dtype) -> None:
        _count_steps()
        self.dtype = dtype
        self.known: tuple[Any, ...] | None = None
        self.value: Tensor | None = None

    def of(self, weight: Tensor) -> Tensor:
        """A new tensor where the weight changed, so what a backward pass still holds stays as it was."""
        if weight.dtype == self.dtype:
            return weight.detach()
        if weight.is_inference():  # has no version
            return weight.to(self.dtype)
        known = (weight._version, weight.data_ptr(), _steps)
        if known != self.known or self.value is None:
            with torch.inference_mode(False), torch.no_grad():
                self.value, self.known = weight.detach().to(self.dtype), known
        return self.value


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, copy: Copy) -> Tensor:
    """`F.linear(x, weight, bias)`, multiplied in the dtype of the copy; the result has that dtype."""
    own = copy.of(weight)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Linear.apply(x, weight, bias, own)
    return product(_rows(x, own.dtype), own, bias).view(*x.shape[:-1], -1)


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.reshape(-1, x.shape[-1]).to(dtype)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """`a @ b.t() + bias`; oneDNN for fp32 too, where torch would call MKL."""
    if a.dtype == torch.float32 and available(torch.float32):
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return torch.addmm(bias.to(a.dtype), a, b.t()) if bias is not None else a @ b.t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, own: Tensor) -> Tensor:
        rows = _rows(x, own.dtype)
        ctx.save_for_backward(rows if weight.requires_grad else None, own)
        ctx.shape, ctx.kinds = x.shape, (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        return product(rows, own, bias).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, own = ctx.saved_tensors
        needs, (kind, weight_kind, bias_kind) = ctx.needs_input_grad, ctx.kinds
        grad = grad.reshape(-1, grad.shape[-1])
        by_bias = grad.sum(0).to(bias_kind) if needs[2] else None
        grad = grad.to(own.dtype)
        by_x = product(grad, own.t()).to(kind).view(ctx.shape) if needs[0] else None
        by_weight = product(grad.t(), rows.t()).to(weight_kind) if needs[1] else None
        return by_x, by_weight, by_bias, None


# --- dropout


def dropout(x: Tensor, p: float) -> Tensor:
    """`F.dropout(x, p)`, with p rounded to 256ths; drawn from the global generator."""
    drop = round(p * 256)
    if drop in (0, 256):
        return x if drop == 0 else x * 0
    return x * kept(x.shape, drop, x.dtype)


def kept(shape: torch.Size, drop: int, dtype: torch.dtype) -> Tensor:
    """Zero with probability drop / 256, else its inverse complement: what a dropout multiplies with.

    Eight elements a drawn number; compared by clamping, which stays within bytes.
    """
    count = shape.numel()
    drawn = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    ones = drawn.view(torch.uint8)[:count].clamp_(drop - 1, drop).sub_(drop - 1)
    return ones.to(dtype).mul_(256 / (256 - drop)).view(shape)
