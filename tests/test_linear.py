"""Layers, attention and dropout our way: equal to plain up to rounding, with the same gradients, repeatable."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from acclimate.engine import attention, linear
from acclimate.models.swap import swapped

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(not linear.available(torch.float32), reason="without oneDNN")
KINDS = [torch.float32] + ([torch.bfloat16] if linear.available(torch.bfloat16) else [])
COMMON = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def bert() -> nn.Module:
    return transformers.BertModel(transformers.BertConfig(**COMMON))


def roberta() -> nn.Module:
    return transformers.RobertaModel(transformers.RobertaConfig(**COMMON))


def modernbert() -> nn.Module:
    tokens = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "cls", "sep")}
    return transformers.ModernBertModel(transformers.ModernBertConfig(**COMMON, **tokens, local_attention=8))


def gpt2() -> nn.Module:
    sizes = {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2Model(transformers.GPT2Config(**sizes))


def llama() -> nn.Module:
    return transformers.LlamaModel(transformers.LlamaConfig(**COMMON, num_key_value_heads=2))


def deberta() -> nn.Module:
    return transformers.DebertaV2Model(transformers.DebertaV2Config(**COMMON))


ARCHITECTURES = [bert, roberta, modernbert, gpt2, llama, deberta]


@pytest.fixture(autouse=True)
def small_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "SMALL", 100)


def texts() -> dict[str, torch.Tensor]:
    mask = (torch.arange(22) < torch.tensor([[22], [19], [3], [8], [5], [12]])).long()
    return {"input_ids": torch.randint(3, 90, mask.shape) * mask + 1 - mask, "attention_mask": mask}


def built(make: object) -> nn.Module:
    """In eval mode, with weights so large that the attention matters."""
    torch.manual_seed(0)
    net = make().eval()  # type: ignore[operator]
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    return net


def ours(net: nn.Module, kind: torch.dtype) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(swapped(linear.forwards(net, kind)))
    stack.enter_context(attention.attending(net, kind))
    stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16))
    return stack


def ran(net: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the text, and all gradients as one vector."""
    states = net(**batch).last_hidden_state[batch["attention_mask"].bool()].float()
    total = (states * torch.linspace(-1, 1, states.shape[-1])).sum()
    grads = torch.autograd.grad(total, [one for one in net.parameters() if one.requires_grad], allow_unused=True)
    return states.detach(), torch.cat([one.flatten() for one in grads if one is not None]).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", ARCHITECTURES)
def test_any_model_gives_the_same_states_and_gradients(make: object, kind: torch.dtype) -> None:
    net = built(make)
    batch = texts()
    states, grads = ran(net, batch)
    with ours(net, kind):
        first, second = ran(net, batch), ran(net, batch)
    assert torch.dist(states, first[0]) < (1e-5 if kind == torch.float32 else 0.03) * states.norm()
    assert torch.cosine_similarity(grads, first[1], 0) > 0.9995
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    again = ran(net, batch)
    assert torch.equal(again[0], states) and torch.equal(again[1], grads)


def test_frozen_weights_get_no_gradient_and_changed_ones_a_new_copy() -> None:
    layer = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 32))
    layer[0].requires_grad_(False)
    x = torch.randn(5, 32)
    with ours(layer, KINDS[-1]):
        before = layer(x)
        before.float().sum().backward()
        assert layer[0].weight.grad is None and layer[1].weight.grad is not None
        torch.optim.AdamW(layer[1].parameters(), lr=0.1, fused=True).step()
        after = layer(x)
    assert torch.allclose(after.float(), layer(x), atol=0.2) and torch.dist(before, after) > 1


def test_attention_with_shared_heads_and_a_mask_equals_torch() -> None:
    for queries, keys in ((7, 7), (3, 18), (16, 16)):
        q, k, v = (torch.randn(2, heads, n, 8) for heads, n in ((4, queries), (2, keys), (2, keys)))
        mask = torch.rand(2, 1, queries, keys) > 0.3
        mask[..., 0] = True
        leaves = [one.requires_grad_() for one in (q, k, v)]
        plain = nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        mine = attention.attention(q, k, v, attention.additive(mask))
        assert torch.allclose(mine, plain, atol=1e-5)
        for a, b in zip(
            torch.autograd.grad(mine.square().sum(), leaves),
            torch.autograd.grad(plain.square().sum(), leaves),
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-4)


def test_dropout_drops_the_share_asked_and_keeps_the_mean() -> None:
    x = torch.ones(100_000, requires_grad=True)
    out = linear.dropout(x, 0.1)
    seen = out.detach()
    assert abs(float((seen == 0).float().mean()) - 0.1) < 0.01 and abs(float(seen.mean()) - 1) < 0.01
    out.sum().backward()
    assert torch.equal(x.grad, out)
    torch.manual_seed(3)
    one = linear.dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(one, linear.dropout(x, 0.5)) and not torch.equal(one, linear.dropout(x, 0.5))
    assert torch.equal(linear.dropout(x, 0.0), x) and not linear.dropout(x, 1.0).any()


def test_dropout_inside_the_attention_has_the_gradient_of_its_draw() -> None:
    q, k, v = (torch.randn(1, 2, 5, 4, requires_grad=True) for _ in range(3))

    def run() -> torch.Tensor:
        torch.manual_seed(1)
        return attention.attention(q, k, v, None, dropout=0.3).square().sum()

    grad = torch.autograd.grad(run(), v)[0]
    with torch.no_grad():
        step = 1e-3 * grad / grad.norm()
        v += step
        more = run()
        v -= 2 * step
        assert float(more - run()) == pytest.approx(2e-3 * float(grad.norm()), rel=0.02)


def test_attention_of_many_samples_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (torch.randn(5, 4, 22, 8) for _ in range(3))
    mask = attention.additive((torch.arange(22) < torch.tensor([[22], [19], [3], [8], [5]]))[:, None, None])
    whole = attention.attention(query, key, value, mask)
    monkeypatch.setattr(attention, "PART", 2 * 4 * 22 * 32)
    rows: list[int] = []
    attend = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda query, *rest: (rows.append(len(query)), attend(query, *rest))[1])
    in_parts = attention.attention(query, key, value, mask)
    assert rows == [2, 2, 1] and in_parts.stride() == whole.stride()
    assert torch.allclose(in_parts, whole, atol=1e-6)
