"""Language models cut into stages: whatever the architecture, any prefix with its suffix is the whole model, padding or not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from texts import DECODERS, FAMILIES, LENGTH, bare, tiny
from torch import nn

from acclimate.core.errors import UserError
from acclimate.core.tree import Tree
from acclimate.models.backbone import Backbone, Net
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.language import EMBEDDINGS, POOLED, READ, cut
from acclimate.models.load import load, rebuild
from acclimate.models.texts import Texts
from acclimate.tasks.read_head import READINGS, ReadHead

TEXTS = Texts(LENGTH, LENGTH, 400)
LENGTHS = (12, 3, 1, 7, 12, 2)


def batch(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Texts of random tokens, padded on the right as `TextInputs.collate` does it."""
    lengths = lengths or LENGTHS
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, 400, (length,), generator=draw) for length in lengths]
    mask = [torch.ones(length, dtype=torch.long) for length in lengths]
    padded = [nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (ids, mask)]
    return dict(zip(("input_ids", "attention_mask"), padded, strict=True))


def one(inputs: Tree, row: int) -> dict[str, torch.Tensor]:
    """A row alone, without padding."""
    length = int(inputs["attention_mask"][row].sum())
    return {name: leaf[row : row + 1, :length] for name, leaf in inputs.items()}


def backbone_of(kind: str, **changed: Any) -> Backbone:
    return cut(bare(kind, **changed), TEXTS.example(4))


@pytest.fixture(scope="module")
def known() -> dict[str, Backbone]:
    return {}


@pytest.fixture(params=FAMILIES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def backbone(kind: str, known: dict[str, Backbone]) -> Backbone:
    """Of every family; tests that change it copy it."""
    if kind not in known:
        known[kind] = backbone_of(kind)
    return known[kind]


def close(first: torch.Tensor, second: torch.Tensor, most: float = 1e-4) -> None:
    assert float((first - second).abs().max()) < most


@torch.no_grad()
def test_features_are_poolings_of_the_models_own_states(kind: str, backbone: Backbone) -> None:
    inputs, own = batch(), bare(kind)
    features = backbone(inputs)
    width = features.shape[-1]
    assert features.shape == (len(LENGTHS), min(READ, len(backbone.stages) - 1) * len(POOLED), width)
    for row in range(len(LENGTHS)):
        states = own(**one(inputs, row)).last_hidden_state[0]
        edge = states[-1] if kind in DECODERS else states[0]
        close(features[row, : len(POOLED)], torch.stack([edge, states.mean(0), states.amax(0)]))


@torch.no_grad()
def test_prefix_and_suffix_are_the_whole_at_every_boundary(backbone: Backbone) -> None:
    inputs = batch()
    whole, order = backbone(inputs), torch.tensor([3, 5, 0, 2])
    for boundary in range(1, len(backbone.stages)):
        state = backbone.run(inputs, 0, boundary)
        close(backbone.run(state, boundary), whole)
        parts = backbone.split(state)
        assert [len(part["states"]) for part in parts] == list(LENGTHS), "padding is not kept"
        others = backbone.join([parts[int(row)] for row in order])
        close(backbone.run(others, boundary), whole[order])
        alone = backbone.run(backbone.join(parts[3:4]), boundary)
        close(alone, whole[3:4])
    features = backbone.split(whole)
    close(backbone.join(features), whole, 1e-12)


@torch.no_grad()
def test_a_state_goes_on_from_the_next_boundary_as_well(backbone: Backbone) -> None:
    inputs = batch()
    state: Any = inputs
    for stage in range(len(backbone.stages)):
        state = backbone.run(state, stage, stage + 1)
        if stage + 1 < len(backbone.stages):
            state = backbone.join(backbone.split(state))
    close(state, backbone(inputs))


@torch.no_grad()
def test_a_batch_of_one_is_as_in_company(backbone: Backbone) -> None:
    inputs = batch()
    whole = backbone(inputs)
    for row in range(len(LENGTHS)):
        close(backbone(one(inputs, row)), whole[row : row + 1])


@torch.no_grad()
def test_the_side_of_the_padding_does_not_matter(backbone: Backbone) -> None:
    if not backbone.program.causal:
        pytest.skip("encoders are padded on the right")
    right = batch()
    left = {
        name: torch.stack([leaf[row].roll(leaf.shape[1] - length) for row, length in enumerate(LENGTHS)])
        for name, leaf in right.items()
    }
    assert not torch.equal(left["attention_mask"], right["attention_mask"])
    close(backbone(left), backbone(right))


def test_decoders_read_from_their_last_token_and_encoders_from_the_first(kind: str, backbone: Backbone) -> None:
    assert backbone.program.causal == (kind in DECODERS)


def test_stages_part_the_parameters_that_count(kind: str, backbone: Backbone) -> None:
    assert backbone.stages[0].name == EMBEDDINGS and len(backbone.stages) == 4
    named = [name for stage in backbone.stages for name in stage.parameters]
    everything = dict(backbone.named_parameters())
    left_out = {f"trunk.{name}" for name in backbone.dropped}
    assert len(named) == len(set(named))
    assert set(named) == set(everything), "a stage holds each parameter, once"
    features = ReadHead.of(backbone(batch()), 3)(backbone(batch()))
    slopes = torch.autograd.grad(features.square().sum(), list(everything.values()), allow_unused=True)
    unreached = {name for name, slope in zip(everything, slopes, strict=True) if slope is None}
    assert unreached <= left_out, "what is called dropped is what features do not depend on"


@pytest.mark.parametrize("trained", [1, 2, 3])
def test_frozen_means_frozen(trained: int, backbone: Backbone) -> None:
    net = Net(copy.deepcopy(backbone), ReadHead(9, 32, 3))
    names = [stage.name for stage in net.backbone.stages]
    freeze(net.backbone, set(names[trained:]))
    marks = {name: fingerprint(net.backbone, [name]) for name in names}
    rows = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(rows, lr=0.01, weight_decay=0.1)
    for step in range(2):
        net.train()
        loss = nn.functional.cross_entropy(net(batch(seed=step)), torch.arange(len(LENGTHS)) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = [name for name in names if fingerprint(net.backbone, [name]) != marks[name]]
    assert changed == names[trained:]


def test_frozen_boundaries_do_not_depend_on_the_mode(backbone: Backbone) -> None:
    """Dropout of frozen blocks is silent in training."""
    net = copy.deepcopy(backbone)
    freeze(net, {net.stages[-1].name})
    with torch.no_grad():
        quiet = net.eval().run(batch(), 0, 3)["states"]
        assert torch.equal(net.train().run(batch(), 0, 3)["states"], quiet)


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "gpt2", "qwen2"])
def test_gradients_of_a_suffix_are_those_of_the_whole(kind: str) -> None:
    """What a last stage learns from cached states is what it would learn from texts."""
    backbone = backbone_of(kind)
    freeze(backbone, {backbone.stages[-1].name})
    own = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    with torch.no_grad():
        state = backbone.join(backbone.split(backbone.run(batch(), 0, 3)))
    from_states = torch.autograd.grad(backbone.run(state, 3).square().sum(), own, allow_unused=True)
    from_texts = torch.autograd.grad(backbone(batch()).square().sum(), own, allow_unused=True)
    for first, second in zip(from_states, from_texts, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            close(first, second, 1e-3 * float(second.abs().max()) + 1e-6)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_card_rebuilds_the_same_stages(kind: str, tmp_path: Any) -> None:
    backbone, card = load(str(tiny(kind, tmp_path / "model")))
    again = rebuild(card.json(), card.preprocessing)
    assert again.stages == backbone.stages
    shapes = {name: value.shape for name, value in backbone.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes
    again.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        close(again(batch()), backbone(batch()), 1e-6)
    assert card.preprocessing.most == LENGTH and card.preprocessing.vocabulary == 400


def test_a_model_that_is_no_row_of_blocks_is_refused(tmp_path: Any) -> None:
    import transformers
    from texts import COMMON

    config = transformers.AlbertConfig(**COMMON, embedding_size=16)
    with pytest.raises(UserError, match="cannot be cut") as caught:
        cut(transformers.AlbertModel(config), TEXTS.example(4))
    assert len(caught.value.problems) == 1


# --- what a head does not read is not computed


@torch.no_grad()
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("deep", [("bert", "num_hidden_layers"), ("gpt2", "n_layer")], ids=lambda deep: deep[0])
def test_a_head_gets_what_it_reads(reading: str, deep: tuple[str, str], known: dict[str, Backbone]) -> None:
    kind, layers = deep
    if f"deep {kind}" not in known:
        known[f"deep {kind}"] = backbone_of(kind, **{layers: READ + 2})
    backbone = known[f"deep {kind}"]
    features = backbone(batch())
    head = ReadHead.of(features, 3).eval()
    assert reading in head.readings
    width = head.read(features, reading).shape[1]
    weight, bias = torch.randn(3, width, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 2.0, 3.0])
    mean, spread = torch.randn(width) / 10, torch.rand(width) + 0.5
    head.take(reading, weight, bias, mean, spread)
    expected = ((head.read(features, reading) - mean) / spread) @ weight.T + bias
    net = Net(backbone, head).eval()
    close(head(features), expected, 1e-3)
    close(net(batch()), expected, 1e-3)
    for boundary in range(1, len(backbone.stages)):
        parts = backbone.split(backbone.run(batch(), 0, boundary))
        close(net(backbone.join(parts), boundary), expected, 1e-3)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("vocabulary", [33, 99, 297, 298])
def test_a_vocabulary_of_any_size_is_cut(vocabulary: int, kind: str) -> None:
    """33: the models of proteins; the made-up texts that a model is cut with hold no token beyond it."""
    backbone = cut(bare(kind, vocab_size=vocabulary), Texts(LENGTH, LENGTH, vocabulary).example(2))
    assert backbone.program.causal == (kind in DECODERS)


# --- the trimmed table


def step(net: Net, steps: int, ids: torch.Tensor | None, decay: float = 0.0, optimizer: str = "adamw") -> None:
    """A few steps of training all layers, with the table of tokens whole or trimmed to `ids`."""
    from contextlib import nullcontext

    with nullcontext() if ids is None else net.backbone.trimmed(ids):
        rows = list(net.parameters())
        made = (
            torch.optim.AdamW(rows, lr=1e-3, weight_decay=decay)
            if optimizer == "adamw"
            else torch.optim.SGD(rows, lr=0.1, momentum=0.9)
        )
        net.eval()  # without dropout
        for number in range(steps):
            loss = nn.functional.cross_entropy(net(batch(seed=number)), torch.arange(len(LENGTHS)) % 3)
            made.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(rows, 1.0)
            made.step()


def seen(steps: int) -> torch.Tensor:
    return torch.cat([batch(seed=number)["input_ids"].flatten() for number in range(steps)]).unique()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "gpt2", "llama", "gemma2"])
def test_a_trimmed_table_trains_as_the_whole(kind: str, optimizer: str) -> None:
    torch.manual_seed(0)
    first = Net(backbone_of(kind), ReadHead(9, 32, 3))
    second = copy.deepcopy(first)
    before = copy.deepcopy(first.state_dict())
    used = seen(3)
    step(first, 3, None, optimizer=optimizer)
    step(second, 3, used, optimizer=optimizer)
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    for name in one:
        close(one[name].float(), two[name].float(), 1e-5)
    (table,) = [name for name, value in one.items() if value.shape[0] == 400 and value.ndim == 2]
    never = torch.ones(400, dtype=torch.bool)
    never[used] = False
    assert torch.equal(two[table][never], before[table][never]), "rows that no text holds keep their bits"
    assert not torch.equal(two[table][used], before[table][used])


def test_the_whole_table_comes_back_after_an_error() -> None:
    backbone = backbone_of("bert")
    table = backbone.trunk.get_input_embeddings()
    weight = table.weight
    with pytest.raises(KeyError, match="stop"), backbone.trimmed(seen(1)):
        assert len(table.weight) < 400
        raise KeyError("stop")
    assert table.weight is weight and len(weight) == 400
    assert [name for stage in backbone.stages for name in stage.parameters if "word_emb" in name]


def test_a_token_outside_a_trimmed_table_is_an_error() -> None:
    backbone = backbone_of("bert")
    with backbone.trimmed(torch.arange(5, 20)), pytest.raises(IndexError):
        backbone({"input_ids": torch.tensor([[30]]), "attention_mask": torch.tensor([[1]])})


def test_a_frozen_table_is_left_whole() -> None:
    backbone = backbone_of("bert")
    freeze(backbone, {backbone.stages[-1].name})
    with backbone.trimmed(seen(1)):
        assert len(backbone.trunk.get_input_embeddings().weight) == 400
