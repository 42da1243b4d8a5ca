"""Attention of transformers computed in the way that is fast on a processor; `attending` switches it on.

Measured (benchmarks/bare_text_step.py): the backward pass of torch's fused bf16 attention is eight times as slow as three products,
and a softmax over a row that does not fill whole vectors is ten times as slow as over one padded until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from acclimate.engine.linear import kept

NAME = "acclimate"
"""Of our attention in the tables of transformers."""
LANES = 16
"""A softmax is over rows padded to a multiple of this, the fp32 numbers of a vector register."""
_KNOWN: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()
"""Configurations within a net, so that it is walked through once."""
PART = 1 << 24
"""Without gradients so many scores are computed at a time: of 64 texts of 512 tokens all of them take gigabytes."""
LONGEST = 512
"""Beyond as many keys the scores take more memory than they save time."""


def is_transformer(net: nn.Module) -> bool:
    """Whether part of the net is a model of the library transformers that would use torch's attention."""
    return bool(_configs(net))


def _configs(net: nn.Module) -> list[Any]:
    if net not in _KNOWN:
        found = {id(own): own for module in net.modules() if (own := getattr(module, "config", None)) is not None}
        _KNOWN[net] = list(found.values())
    return [own for own in _KNOWN[net] if getattr(own, "_attn_implementation", None) == "sdpa"]


@contextmanager
def attending(net: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside, models within the net that would use torch's attention use ours; afterwards, what they used before."""
    ours = _configs(net)
    if ours:
        _register()
    try:
        for own in ours:
            own._attn_implementation_internal = f"{NAME}_{'bf16' if dtype == torch.bfloat16 else 'fp32'}"
        yield
    finally:
        for own in ours:
            own._attn_implementation_internal = "sdpa"


@cache
def _register() -> None:
    """Under the names that `attending` sets. Only a net of transformers comes here, so the import costs nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        AttentionInterface.register(f"{NAME}_{name}", _attention(dtype))
        AttentionMaskInterface.register(f"{NAME}_{name}", _mask)


def _mask(*arguments: Any, dtype: torch.dtype = torch.float32, **named: Any) -> Tensor | None:
    """What torch's attention would get, made once for all layers into what ours adds; None: all see all."""
    from transformers.masking_utils import sdpa_mask

    mask = sdpa_mask(*arguments, **{**named, "allow_is_causal_skip": False})
    return None if mask is None else additive(mask)


def width(keys: int) -> int:
    """Columns of a row of scores."""
    return -(-keys // LANES) * LANES


def additive(mask: Tensor) -> Tensor:
    """[..., keys] -> [..., width] in fp32, contiguous: what is forbidden is very low, and padding, lower still, is nothing."""
    keys = mask.shape[-1]
    low = torch.finfo(torch.float32).min
    full = torch.full((*mask.shape[:-1], width(keys)), float("-inf"))
    full[..., :keys] = torch.zeros(()).where(mask, low) if mask.dtype == torch.bool else mask.float().clamp(min=low)
    return full


def _attention(dtype: torch.dtype) -> Callable[..., tuple[Tensor, None]]:
    def run(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **named: Any,
    ) -> tuple[Tensor, None]:
        mask, queries, keys = attention_mask, query.shape[2], key.shape[2]
        extra = any(named.get(one) is not None for one in ("position_bias", "softcap", "s_aux", "cache"))
        if extra or keys > LONGEST:
            from transformers.integrations.sdpa_attention import sdpa_attention_forward

            if mask is not None and mask.dtype != torch.bool:
                mask = mask[..., :keys].to(query.dtype)
            named |= {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
            return sdpa_attention_forward(module, query, key, value, mask, **named)
        if mask is None and queries > 1 and (module.is_causal if is_causal is None else is_causal):
            mask = torch.ones(queries, keys, dtype=torch.bool).tril_()
        if mask is not None and (mask.dtype == torch.bool or mask.shape[-1] != width(keys)):
            mask = additive(mask[..., :keys])
        return attention(query, key, value, mask, dropout, scaling, dtype).transpose(1, 2), None

    return run


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """[batch, heads, queries, size], with fewer key heads where heads share them; `mask` as `additive` gives it.

    The result is laid out as [batch, queries, heads, size], as models read it next.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    drop = round(dropout * 256)
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return _Attention.apply(query, key, value, mask, drop, scaling, dtype)
    return _in_parts(query, key, value, mask, drop, scaling, dtype)


def _in_parts(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, drop: int, scaling: float, dtype: torch.dtype
) -> Tensor:
    """A few samples at a time."""
    batch, heads, queries, size = query.shape
    each = max(1, PART // (heads * queries * width(key.shape[2])))
    if each >= batch:
        return _attend(query, key, value, mask, drop, scaling, dtype)[0]
    whole = torch.empty((batch, queries, heads, size), dtype=query.dtype).transpose(1, 2)
    for start in range(0, batch, each):
        part = slice(start, start + each)
        own = mask[part] if mask is not None and mask.ndim == 4 and len(mask) == batch else mask
        whole[part] = _attend(query[part], key[part], value[part], own, drop, scaling, dtype)[0]
    return whole


def _padded(x: Tensor, heads: int, rows: int, dtype: torch.dtype) -> Tensor:
    """[batch, key heads, keys, size] -> [batch * heads, rows, size], contiguous; rows beyond the keys are zero."""
    batch, own, keys, size = x.shape
    full = torch.empty((batch, own, heads // own, rows, size), dtype=dtype)
    full[..., keys:, :] = 0
    full[..., :keys, :] = x.unsqueeze(2)
    return full.view(batch * heads, rows, size)


def _outer(x: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """[batch * heads, n, size] -> [batch, heads, n, size] that lies in memory as [batch, n, heads, size]."""
    _, n, size = x.shape
    x = x.view(batch, -1, n, size)
    return torch.empty((batch, n, x.shape[1], size), dtype=dtype).transpose(1, 2).copy_(x)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, drop: int, scaling: float, dtype: torch.dtype
) -> tuple[Any, ...]:
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    columns = width(keys)
    q = _padded(query, heads, queries, dtype)
    k = _padded(key, heads, columns, dtype)
    v = _padded(value, heads, columns, dtype)
    if mask is None and columns != keys:
        mask = additive(torch.ones(1, keys, dtype=torch.bool))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=scaling).float()
    if mask is not None:
        scores.view(batch, heads, queries, columns).add_(mask)
    shares = torch.softmax(scores, -1)
    multiplier = kept(shares.shape, drop, dtype) if drop else None
    used = shares.to(dtype)
    if multiplier is not None:
        used = used * multiplier
    return _outer(used @ v, batch, query.dtype), q, k, v, shares, used, multiplier


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        drop: int,
        scaling: float,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.scaling, ctx.kinds = scaling, (query.dtype, key.dtype, value.dtype)
        out, *saved = _attend(query, key, value, mask, drop, scaling, dtype)
        ctx.save_for_backward(*saved)
        ctx.shapes = query.shape, key.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares, used, multiplier = ctx.saved_tensors
        (batch, heads, queries, _), (_, own, keys, _) = ctx.shapes
        g = _padded(grad, heads, queries, q.dtype)

        def inner(x: Tensor, kind: torch.dtype) -> Tensor:
            """The gradient of keys or values: without padding, summed over the heads that share them."""
            x = x.view(batch, own, heads // own, -1, x.shape[-1])[..., :keys, :]
            x = x.squeeze(2) if own == heads else x.sum(2, dtype=torch.float32)
            return torch.empty((batch, keys, own, x.shape[-1]), dtype=kind).transpose(1, 2).copy_(x)

        by_value = inner(used.transpose(1, 2) @ g, ctx.kinds[2])
        by_shares = g @ v.transpose(1, 2)
        if multiplier is not None:
            by_shares = by_shares * multiplier
        by_scores = torch._softmax_backward_data(by_shares.float(), shares, -1, torch.float32).to(q.dtype)
        zero = q.new_empty(1)
        by_query = _outer(torch.baddbmm(zero, by_scores, k, beta=0, alpha=ctx.scaling), batch, ctx.kinds[0])
        by_key = torch.baddbmm(zero, by_scores.transpose(1, 2), q, beta=0, alpha=ctx.scaling)
        return by_query, inner(by_key, ctx.kinds[1]), by_value, None, None, None, None
