"""Linear layers, attention and dropout of transformers computed in the way that is fast on a processor.

`forwards` gives what to swap in for layers and whole models, `attending` switches the attention; neither changes a weight,
and no architecture is known by name. In bf16 both run inside autocast, which sees to what is not ours.

Why each part is as it is was measured (benchmarks/bare_text_step.py): torch multiplies fp32 matrices with MKL, which
leaves AVX-512 unused on AMD, where oneDNN is twice as fast; autocast casts each weight at each use, and the backward
pass of the fused bf16 attention is eight times as slow as three products; a softmax over a row that does not fill
whole vectors is ten times as slow as over one padded until it does; Bernoulli numbers cost seven times as much as bytes;
and every layer but the attention works on padding as if it were text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from acclimate.engine.layers import swapped

NAME = "acclimate"
"""Of our attention in the tables of transformers."""
LANES = 16
"""A softmax is over rows padded to a multiple of this, the fp32 numbers of a vector register."""
LONGEST = 512
"""Beyond as many keys the scores take more memory than they save time."""
STEP = 32
"""Tokens of a packed batch are a multiple of this, so that oneDNN prepares kernels for few sizes."""
SMALL = 16384
"""A weight of fewer numbers is left alone: there, calling costs more than multiplying."""


# --- which layers


def forwards(net: nn.Module, dtype: torch.dtype) -> dict[nn.Module, Callable[..., Any]]:
    """What to swap in for linear layers (transformers' `Conv1D` too), dropouts, and models that can run without padding."""
    swap: dict[nn.Module, Callable[..., Any]] = {}
    for module in net.modules():
        turned = type(module).__name__ == "Conv1D"
        weight = getattr(module, "weight", None)
        if (type(module) is nn.Linear or turned) and isinstance(weight, Tensor) and weight.numel() >= SMALL:
            swap[module] = _layer(module, dtype, turned)
        elif type(module) is nn.Dropout and not module.inplace:
            swap[module] = _dropping(module)
        elif _packable(module):
            swap[module] = _packing(module)
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
    return _product(_rows(x, own.dtype), own, bias).view(*x.shape[:-1], -1)


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.reshape(-1, x.shape[-1]).to(dtype)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """`a @ b.t() + bias`; oneDNN for fp32 too, where torch would call MKL."""
    if a.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return torch.addmm(bias.to(a.dtype), a, b.t()) if bias is not None else a @ b.t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, own: Tensor) -> Tensor:
        rows = _rows(x, own.dtype)
        ctx.save_for_backward(rows if weight.requires_grad else None, own)
        ctx.shape, ctx.kinds = x.shape, (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        return _product(rows, own, bias).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, own = ctx.saved_tensors
        needs, (kind, weight_kind, bias_kind) = ctx.needs_input_grad, ctx.kinds
        grad = grad.reshape(-1, grad.shape[-1])
        by_bias = grad.sum(0).to(bias_kind) if needs[2] else None
        grad = grad.to(own.dtype)
        by_x = _product(grad, own.t()).to(kind).view(ctx.shape) if needs[0] else None
        by_weight = _product(grad.t(), rows.t()).to(weight_kind) if needs[1] else None
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


# --- padding


class Layout(NamedTuple):
    """Where the tokens of a packed batch [1, tokens] lie in the padded one [batch, length]."""

    slots: Tensor
    """Place of each token in the padded batch, counted through; a few places of padding among them."""
    mask: Tensor
    """[batch, length], true where there is text."""

    @classmethod
    def of(cls, mask: Tensor) -> Layout | None:
        """None where there would be nothing to leave out."""
        flat = mask.reshape(-1).bool()
        filled = int(flat.sum())
        tokens = -(-filled // STEP) * STEP
        if tokens >= flat.numel():
            return None
        order = torch.sort(flat.logical_not().to(torch.uint8), stable=True).indices[:tokens]
        return cls(order.sort().values, mask.bool())

    def pack(self, x: Tensor) -> Tensor:
        """[batch, length, ...] -> [1, tokens, ...]"""
        return x.reshape(-1, *x.shape[2:]).index_select(0, self.slots).unsqueeze(0)

    def unpack(self, x: Tensor) -> Tensor:
        """[1, tokens, ...] -> [batch, length, ...], zero where nothing is."""
        full = x.new_zeros((self.mask.numel(), *x.shape[2:]))
        return full.index_copy(0, self.slots, x[0]).view(*self.mask.shape, *x.shape[2:])


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def without_padding(layout: Layout | None) -> Iterator[None]:
    """Inside, our attention takes its inputs to be packed that way, and puts each sample in a row of its own."""
    before = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(before)


def _packable(module: nn.Module) -> bool:
    """Whether this is a model of transformers without a head, that can be told where in its text a token stands."""
    if not hasattr(module, "_supports_sdpa") or getattr(module, "base_model", None) is not module:
        return False
    return {"input_ids", "attention_mask", "position_ids"} <= signature(type(module).forward).parameters.keys()


def _packing(module: nn.Module) -> Callable[..., Any]:
    ordinary = type(module).forward
    numbering = next((own for own in module.modules() if hasattr(own, "create_position_ids_from_input_ids")), None)

    def run(input_ids: Any = None, attention_mask: Any = None, **named: Any) -> Any:
        layout = None
        if _plain(module, input_ids, attention_mask, named):
            layout = Layout.of(attention_mask)
        if layout is None:
            return ordinary(module, input_ids, attention_mask, **named)
        if numbering is None:
            places = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
        else:  # RoBERTa and its kin count from behind the padding
            places = numbering.create_position_ids_from_input_ids(input_ids, numbering.padding_idx)  # type: ignore[operator]
        shape = input_ids.shape
        inputs = {
            name: layout.pack(one) if getattr(one, "shape", None) == shape else one for name, one in named.items()
        }
        inputs |= {"input_ids": layout.pack(input_ids), "position_ids": layout.pack(places)}
        with without_padding(layout):
            # A mask of ones: without any, transformers would look for joints in the positions.
            out = ordinary(module, attention_mask=torch.ones_like(inputs["input_ids"]), **inputs)
        out.last_hidden_state = layout.unpack(out.last_hidden_state)
        if getattr(module, "pooler", None) is not None:
            out.pooler_output = module.pooler(out.last_hidden_state)  # type: ignore[operator]
        return out

    return run


def _plain(module: nn.Module, ids: Any, mask: Any, named: dict[str, Any]) -> bool:
    """Whether the call asks for the last states of padded texts and nothing else, and the attention is ours."""
    if not str(module.config._attn_implementation).startswith(NAME) or ids is None or mask is None or ids.ndim != 2:  # type: ignore[union-attr]
        return False
    given = {name for name, one in named.items() if one is not None and one is not False}
    allowed = {"token_type_ids", "return_dict"} | ({"use_cache"} if not module.training else set())
    return mask.shape == ids.shape and ids.shape[1] <= LONGEST and given <= allowed


# --- attention


@contextmanager
def attending(net: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside, models within the net that would use torch's attention use ours; afterwards, what they used before."""
    configs = {id(own): own for module in net.modules() if (own := getattr(module, "config", None)) is not None}
    ours = [own for own in configs.values() if getattr(own, "_attn_implementation", None) == "sdpa"]
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

    if (layout := _LAYOUT.get()) is not None:
        batch, length = layout.mask.shape
        named |= {"batch_size": batch, "q_length": length, "kv_length": length, "attention_mask": layout.mask}
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
        layout, mask = _LAYOUT.get(), attention_mask
        queries, keys = (query.shape[2], key.shape[2]) if layout is None else (layout.mask.shape[1],) * 2
        extra = any(named.get(one) is not None for one in ("position_bias", "softcap", "s_aux", "cache"))
        if layout is None and (extra or keys > LONGEST):
            from transformers.integrations.sdpa_attention import sdpa_attention_forward

            if mask is not None and mask.dtype != torch.bool:
                mask = mask[..., :keys].to(query.dtype)
            named |= {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
            return sdpa_attention_forward(module, query, key, value, mask, **named)
        if mask is None and queries > 1 and (module.is_causal if is_causal is None else is_causal):
            mask = torch.ones(queries, keys, dtype=torch.bool).tril_()
        if mask is not None and (mask.dtype == torch.bool or mask.shape[-1] != width(keys)):
            mask = additive(mask[..., :keys])
        return attention(query, key, value, mask, dropout, scaling, dtype, layout).transpose(1, 2), None

    return run


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    dtype: torch.dtype = torch.float32,
    layout: Layout | None = None,
) -> Tensor:
    """[batch, heads, queries, size], with fewer key heads where heads share them; `mask` as `additive` gives it.

    The result is laid out as [batch, queries, heads, size], as models read it next. With a layout query, key, value and
    result are packed; the mask is not.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    drop = round(dropout * 256)
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return _Attention.apply(query, key, value, mask, drop, scaling, dtype, layout)
    query, key, value = (_spread(one, layout) for one in (query, key, value))
    out = _attend(query, key, value, mask, drop, scaling, dtype)[0]
    return _gathered(out, layout)


def _spread(x: Tensor, layout: Layout | None) -> Tensor:
    """[1, heads, tokens, size] -> [batch, heads, length, size]"""
    return x if layout is None else layout.unpack(x.transpose(1, 2)).transpose(1, 2)


def _gathered(x: Tensor, layout: Layout | None) -> Tensor:
    """The inverse."""
    return x if layout is None else layout.pack(x.transpose(1, 2)).transpose(1, 2)


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
        layout: Layout | None,
    ) -> Tensor:
        ctx.scaling, ctx.layout, ctx.kinds = scaling, layout, (query.dtype, key.dtype, value.dtype)
        query, key, value = (_spread(one, layout) for one in (query, key, value))
        out, *saved = _attend(query, key, value, mask, drop, scaling, dtype)
        ctx.save_for_backward(*saved)
        ctx.shapes = query.shape, key.shape
        return _gathered(out, layout)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares, used, multiplier = ctx.saved_tensors
        (batch, heads, queries, _), (_, own, keys, _) = ctx.shapes
        g = _padded(_spread(grad, ctx.layout), heads, queries, q.dtype)

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
        grads = (_gathered(one, ctx.layout) for one in (by_query, inner(by_key, ctx.kinds[1]), by_value))
        return *grads, None, None, None, None, None


# --- words


@contextmanager
def trimmed(embedding: nn.Embedding, ids: Tensor) -> Iterator[nn.Parameter]:
    """Inside, the weight is a new, small parameter: the rows of these ids (and of padding); other ids raise IndexError.

    So the gradient, its norm and the optimizer's update are not over a vocabulary of which most never occurs. Equal to
    training the whole table but for weight decay, which the rows left out do not get. Afterwards the rows are written
    back, and the weight is the parameter it was.
    """
    whole, padding = embedding.weight, embedding.padding_idx
    extra = [] if padding is None else [padding]
    used = torch.cat([ids.reshape(-1), torch.tensor(extra, dtype=ids.dtype)]).unique()
    place = torch.full((len(whole),), len(used)).index_copy(0, used, torch.arange(len(used)))
    small = nn.Parameter(whole.detach()[used], requires_grad=whole.requires_grad)
    own_padding = None if padding is None else int(place[padding])

    def run(x: Tensor) -> Tensor:
        return nn.functional.embedding(place[x], embedding.weight, own_padding)

    embedding.weight = small
    try:
        with swapped({embedding: run}):
            yield small
    finally:
        embedding.weight = whole
        with torch.no_grad():
            whole[used] = small.detach()
