"""Convolutions on a processor: each part by the kernel that is fast, frozen batch norm and activation folded in.

The library under torch has fast kernels for some shapes and very slow ones for others: in bf16, the weight gradient of
a 5 x 5 depthwise convolution took 60 times as long as that of a 3 x 3 one. All ways give the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {"relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0])}
"""Activations whose derivative can be read off their result: name -> (name, arguments) of the fused kernel."""

Ways = dict[str, Callable[[], object]]
PLAIN: dict[str, str] = {"forward": "plain", "input": "plain", "weight": "plain"}


class Geometry(NamedTuple):
    """What a convolution does, apart from its numbers."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Norm(NamedTuple):
    """Batch norm with frozen statistics: `(x - mean) * rstd * gamma + beta`."""

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    rstd: Tensor


class How(NamedTuple):
    """A convolution of one layer: its geometry, its result's dtype, the way of each part, and what is folded in."""

    geometry: Geometry
    dtype: torch.dtype
    way: dict[str, str]
    activation: str | None = None


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether this build and processor have the kernels that this file stands on."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def kind(weight: Tensor, geometry: Geometry) -> str:
    """What decides which kernels are fast: "depthwise 5x5 stride 2", "dense 1x1"."""
    outputs, inputs, *size = weight.shape
    form = "dense" if geometry.groups == 1 else "depthwise" if inputs == 1 and outputs == geometry.groups else "grouped"
    stride = f" stride {max(geometry.stride)}" if max(geometry.stride) > 1 else ""
    dilation = f" dilation {max(geometry.dilation)}" if max(geometry.dilation) > 1 else ""
    return f"{form} {size[0]}x{size[1]}{stride}{dilation}"


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, norm: Norm | None, how: How) -> Tensor:
    """`activation(norm(conv(x)))`: [n, c, h, w], channels last, of dtype `how.dtype`.

    Differentiable in x, weight, bias, gamma and beta.
    """
    if not torch.is_grad_enabled():
        return forward(x, *fold(weight, bias, norm), how)
    statistics = (norm.mean, norm.rstd) if norm else (None, None)
    affine = (norm.gamma, norm.beta) if norm else (None, None)
    return _Convolution.apply(how, x, weight, bias, *affine, *statistics)


def fold(weight: Tensor, bias: Tensor | None, norm: Norm | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the one convolution that equals convolution and norm."""
    if norm is None:
        return weight, bias
    scale = norm.gamma * norm.rstd
    shift = norm.mean if bias is None else norm.mean - bias
    return weight * scale.view(-1, 1, 1, 1), torch.addcmul(norm.beta, shift, scale, value=-1)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
    """The convolution and its activation, in one kernel; the bias stays in fp32."""
    dtype = torch.float32 if how.way["forward"] == "fp32" else how.dtype
    stride, padding, dilation, groups = how.geometry
    attribute, scalars = ACTIVATIONS[how.activation] if how.activation else ("none", [])
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    weight = weight.to(dtype)
    out = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, attribute, scalars, ""
    )
    return out.to(how.dtype)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        how: How,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor | None,
        rstd: Tensor | None,
    ) -> Tensor:
        norm = Norm(gamma, beta, mean, rstd) if gamma is not None else None  # type: ignore[arg-type]
        folded, shift = fold(weight, bias, norm)
        folded, x_used = folded.to(how.dtype), x.to(how.dtype)
        out = forward(x_used, folded, shift, how)
        _, need_x, need_weight, _, need_gamma, *_ = ctx.needs_input_grad
        ctx.how, ctx.shape, ctx.x_dtype = how, x.shape, x.dtype
        ctx.save_for_backward(
            x_used if need_weight or need_gamma else None,
            folded if need_x else None,
            weight,
            bias,
            gamma,
            mean,
            rstd,
            out if how.activation else None,
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        how, (x, folded, weight, bias, gamma, mean, rstd, out) = ctx.how, ctx.saved_tensors
        _, need_x, need_weight, need_bias, need_gamma, need_beta, *_ = ctx.needs_input_grad
        grad = grads[0].to(how.dtype).contiguous(memory_format=torch.channels_last)
        if how.activation:
            grad = _activation_gradient(grad, out, how.activation)
        d_x = d_bias = d_gamma = None
        d_weight: Any = None
        d_beta: Any = None
        if need_x:
            d_x = INPUT_WAYS[how.way["input"]](grad, folded, ctx.shape, how.geometry).to(ctx.x_dtype)
        if need_bias or need_gamma or need_beta:
            d_beta = grad.sum((0, 2, 3)).to(weight.dtype)
        if need_weight or need_gamma:
            d_weight = WEIGHT_WAYS[how.way["weight"]](grad, x, weight, how.geometry).to(weight.dtype)
        if gamma is not None:
            scale = gamma * rstd
            if need_gamma:
                shift = mean if bias is None else mean - bias
                d_gamma = rstd * torch.addcmul((d_weight * weight).sum((1, 2, 3)), shift, d_beta, value=-1)
            d_weight = d_weight * scale.view(-1, 1, 1, 1) if need_weight else None
            d_bias = d_beta * scale if need_bias else None
        else:
            d_bias, d_beta = d_beta, None
        return None, d_x, d_weight, d_bias, d_gamma, d_beta, None, None


def _activation_gradient(grad: Tensor, out: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, out, 0)
    return torch.ops.aten.hardtanh_backward(grad, out, *ACTIVATIONS[activation][1])


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, which: list[bool]) -> tuple[Tensor, ...]:
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, [0, 0], groups, which
    )


def _input_plain(grad: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
    x = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
    return _gradients(grad, x, weight, geometry, [True, False, False])[0]


def _input_fp32(grad: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
    return _input_plain(grad.float(), weight.float(), shape, geometry).to(grad.dtype)


def _input_stuffed(grad: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
    """Of a strided depthwise convolution: an unstrided convolution of the gradient, stuffed with zeros."""
    (rows, columns), (height, width), (high, wide) = geometry.stride, weight.shape[2:], shape[2:]
    top, left = height - 1 - geometry.padding[0], width - 1 - geometry.padding[1]
    size = (*shape[:2], high + height - 1, wide + width - 1)
    stuffed = torch.empty(size, dtype=grad.dtype, memory_format=torch.channels_last).zero_()
    stuffed[:, :, top : top + grad.shape[2] * rows : rows, left : left + grad.shape[3] * columns : columns] = grad
    return torch.conv2d(stuffed, weight.flip(2, 3), groups=geometry.groups)


def _weight_plain(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    # The library looks at the weight's shape and dtype only.
    return _gradients(grad, x, weight.to(grad.dtype), geometry, [False, True, False])[1]


def _weight_fp32(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    return _weight_plain(grad.float(), x.float(), weight, geometry)


def _weight_banded(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The weight gradient in bands of at most three kernel columns, each a convolution of its own (undilated only)."""
    bands = []
    for first in range(0, weight.shape[3], 3):
        band = weight[..., first : first + 3]
        left = geometry.padding[1] - first
        right = (grad.shape[3] - 1) * geometry.stride[1] + band.shape[3] - x.shape[3] - left
        shifted = F.pad(x, (left, right)).contiguous(memory_format=torch.channels_last)
        bands.append(_weight_plain(grad, shifted, band, geometry._replace(padding=(geometry.padding[0], 0))))
    return torch.cat(bands, dim=3)


INPUT_WAYS: dict[str, Callable[[Tensor, Tensor, torch.Size, Geometry], Tensor]] = {
    "plain": _input_plain,
    "stuffed": _input_stuffed,
    "fp32": _input_fp32,
}
WEIGHT_WAYS: dict[str, Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]] = {
    "plain": _weight_plain,
    "banded": _weight_banded,
    "fp32": _weight_fp32,
}


def parts(weight: Tensor, geometry: Geometry, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Ways]:
    """For each part of a convolution of inputs [n, c, h, w], the ways to compute it, plain first, ready to be timed."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=draw).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(weight.shape, generator=draw).to(dtype)
    how = How(geometry, dtype, PLAIN)
    grad = forward(x, weight, None, how)
    depthwise = kind(weight, geometry).startswith("depthwise") and max(geometry.dilation) == 1
    inner = all(padding < size for padding, size in zip(geometry.padding, weight.shape[2:], strict=True))
    other = {
        "fp32": dtype != torch.float32,
        "stuffed": depthwise and inner and max(geometry.stride) > 1,
        "banded": depthwise and weight.shape[3] > 3,
    }

    def timed(table: dict[str, Any], *arguments: Any) -> Ways:
        return {way: partial(f, *arguments) for way, f in table.items() if other.get(way, True)}

    whole = {
        way: partial(forward, x, weight, None, how._replace(way={**PLAIN, "forward": way})) for way in ("plain", "fp32")
    }
    return {
        "forward": {way: run for way, run in whole.items() if other.get(way, True)},
        "input": timed(INPUT_WAYS, grad, weight, x.shape, geometry),
        "weight": timed(WEIGHT_WAYS, grad, x, weight, geometry),
    }
