"""Objectives against their formulas: R-Drop, FGM and supervised contrast; fresh stages; batches that hold several samples of a class."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, sentences
from test_adapters import VIT, net_of
from torch.distributions import Bernoulli, Categorical, kl_divergence

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.data.table import Table
from acclimate.engine.batches import Batch, Batches
from acclimate.engine.checkpoint import read
from acclimate.engine.phase import HEAD, Phase
from acclimate.engine.watcher import Watcher
from acclimate.models.renew import renew
from acclimate.objectives import OBJECTIVES
from acclimate.objectives.contrastive import TEMPERATURE, Contrastive, contrast
from acclimate.objectives.fgm import Fgm
from acclimate.objectives.rdrop import RDrop
from acclimate.tasks.classification import Classification
from acclimate.verbs.fit import fit as remembering_fit
from acclimate.verbs.job import prepare

fit = functools.partial(remembering_fit, fresh=True)
ONE = Classification({"classes": ["a", "b", "c"], "several": False})
SEVERAL = Classification({"classes": ["a", "b", "c"], "several": True})
OUTPUTS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.3, 3.0]])
OTHERS = torch.tensor([[0.2, -1.0, 0.9], [1.0, -0.3, 2.0]])
TARGETS = {ONE: torch.tensor([0, 2]), SEVERAL: torch.tensor([[1.0, 0, 1], [0, 0, 0]])}


def judge_of(several: bool) -> Classification:
    return SEVERAL if several else ONE


@pytest.mark.parametrize("several", [False, True])
def test_divergence_is_that_of_the_distributions(several: bool) -> None:
    kinds = [Bernoulli(logits=each) if several else Categorical(logits=each) for each in (OUTPUTS, OTHERS)]
    wanted = (kl_divergence(*kinds) + kl_divergence(*reversed(kinds))).sum() / 2
    torch.testing.assert_close(judge_of(several).divergence(OUTPUTS, OTHERS), wanted)


class Twice(torch.nn.Module):
    """A net whose passes give one output, then the other."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = iter([OUTPUTS, OTHERS])

    def forward(self, inputs: Any, first: int, targets: Any = None) -> torch.Tensor:
        return next(self.passes)


@pytest.mark.parametrize("several", [False, True])
def test_rdrop_is_its_formula(several: bool) -> None:
    task = judge_of(several)
    targets = TARGETS[task]
    total, count = RDrop(task, 3.0)(Twice(), 0, Batch(OUTPUTS, targets, np.arange(2)))
    losses = [task.loss(each, targets)[0] for each in (OUTPUTS, OTHERS)]
    torch.testing.assert_close(total, sum(losses) / 2 + 3.0 * task.divergence(OUTPUTS, OTHERS))
    assert count == 2


@pytest.mark.parametrize("name", [name for name, entry in OBJECTIVES.items() if entry.judges])
@pytest.mark.parametrize("model", [VIT, TINY, "bert"])
def test_micro_batches_add_up(name: str, model: str, text_models: dict[str, str]) -> None:
    """Without dropout the sum over the parts of a batch is that of the batch, at the samples and at a boundary."""
    net, batch = net_of(model, text_models)
    net.eval()
    objective = OBJECTIVES[name](ONE)
    for first in (0, 2):
        with torch.no_grad():
            state = net.backbone.run(batch, 0, first)
        whole = Batch(state, torch.tensor([0, 2]), np.arange(2))
        total, count = objective(net, first, whole)
        parts = [objective(net, first, part) for part in whole.parts(len(whole.rows))]
        torch.testing.assert_close(sum(part for part, _ in parts), total, rtol=1e-4, atol=1e-5)
        assert sum(number for _, number in parts) == count == 2
        total.backward()
        assert net.head.linear.weight.grad is not None


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("model", [VIT, TINY, "bert"])
def test_fgm_moves_each_sample_uphill_by_epsilon(
    model: str, several: bool, text_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batch = net_of(model, text_models)
    net.eval()
    task, seen = judge_of(several), []
    moved = Fgm._moved

    def keep(self: Fgm, state: Any, loss: torch.Tensor) -> Any:
        seen.append((state, moved(self, state, loss)))
        return seen[-1][1]

    monkeypatch.setattr(Fgm, "_moved", keep)
    total, _ = Fgm(task, 0.05)(net, 0, Batch(batch, TARGETS[task], np.arange(2)))
    ((before, after),) = seen
    one, two = (state["states"] if isinstance(state, dict) else state for state in (before, after))
    torch.testing.assert_close((two - one).flatten(1).norm(dim=1), torch.tensor([0.05, 0.05]), rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        clean, worse = (task.loss(net(state, 1), TARGETS[task])[0] for state in (before, after))
    torch.testing.assert_close(total.detach(), (clean + worse) / 2)
    assert worse > clean
    if model == "bert":
        assert not (two - one)[1, 6:].any()  # padding is not moved


def test_contrast_is_its_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(7, 5, generator=draw), dim=1)
    classes = torch.tensor([0, 0, 1, 1, 1, 2, 0])
    wanted, anchors = 0.0, 0
    for i in range(7):
        others = [k for k in range(7) if k != i]
        alike = [p for p in others if classes[p] == classes[i]]
        chances = torch.stack([features[i] @ features[k] / TEMPERATURE for k in others]).log_softmax(0)
        wanted -= sum(float(chances[others.index(p)]) for p in alike) / max(1, len(alike))
        anchors += bool(alike)
    total, count = contrast(features, ONE.alike(classes))
    assert (float(total), count) == (pytest.approx(wanted, rel=1e-5), anchors)
    alone = features[:2].clone().requires_grad_()
    total, count = contrast(alone, ONE.alike(torch.tensor([0, 1])))
    total.backward()
    assert (total.item(), count) == (0, 0) and alone.grad is not None and not alone.grad.any()


def test_samples_are_alike_by_the_labels_they_share() -> None:
    hot = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    wanted = torch.tensor([[1.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(SEVERAL.alike(hot), wanted)
    assert ONE.alike(torch.tensor([1, 1, 0])).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_contrast_learns_without_the_head(text_models: dict[str, str]) -> None:
    net, batch = net_of("bert", text_models)
    total, count = Contrastive(ONE)(net, 0, Batch(batch, torch.tensor([1, 1]), np.arange(2)))
    total.backward()
    assert count == 2
    assert all(parameter.grad is None for parameter in net.head.parameters())


def test_batches_hold_several_of_a_class(texts: Table, text_models: dict[str, str]) -> None:
    """Each sample once an epoch, in groups of its class, the same for the same seed and epoch."""
    job = prepare([], Options.check({"model": text_models["bert"]}), Watcher())
    rows = job.rows("train")
    stages = (*job.stages, HEAD)
    phase = Phase("p", "", stages, (1e-3,) * len(stages), epochs=3, batch_size=12, per_class=3, seed=4)
    streams = [Batches(job.task, job.dataset, rows, phase, []) for _ in range(2)]
    epochs = []
    for epoch in range(3):
        steps = range(epoch * streams[0].per_epoch, (epoch + 1) * streams[0].per_epoch)
        batches = [streams[0].rows_of(step) for step in steps]
        assert all(np.array_equal(batch, streams[1].rows_of(step)) for batch, step in zip(batches, steps, strict=True))
        assert sorted(np.concatenate(batches)) == sorted(rows)
        for batch in batches:
            _, counts = np.unique(job.dataset.targets[batch], return_counts=True)
            assert len(counts) > 1 and counts.min() >= 3
            assert len(batch) <= 2 * phase.batch_size
        epochs.append(np.concatenate(batches))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(
        epochs[0], np.concatenate([Batches(job.task, job.dataset, rows, replace(phase, seed=5), []).rows_of(0)])
    )


def test_classes_of_unlike_size_are_spread_over_the_epoch(digits: Path, tmp_path: Path) -> None:
    """A class that is most of the data has no batch to itself."""
    job = prepare(digits, Options.check({"model": TINY, "size": 32}), Watcher())
    targets = job.dataset.targets
    train = job.rows("train")
    rows = np.concatenate([train[targets[train] == 0], *(train[targets[train] == name][:6] for name in (1, 2))])
    phase = Phase("p", "", (HEAD,), (1e-3,), batch_size=8, per_class=2)
    stream = Batches(job.task, job.dataset, rows, phase, [])
    found = [set(targets[stream.rows_of(step)].tolist()) for step in range(stream.per_epoch)]
    assert all(len(classes) > 1 for classes in found)


@pytest.mark.parametrize("model", [TINY, "bert", "llama"])
def test_fresh_stages(model: str, text_models: dict[str, str]) -> None:
    """The last stages begin anew, the same for the same seed; the others keep their weights bit by bit."""
    (one, _), (two, _), (three, _) = (net_of(model, text_models) for _ in range(3))
    before = {name: value.clone() for name, value in one.backbone.state_dict().items()}
    for net, seed in ((one, 1), (two, 1), (three, 2)):
        renew(net.backbone, 2, seed)
    state, again, other = (net.backbone.state_dict() for net in (one, two, three))
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    for stage in one.backbone.stages[:-2]:
        assert all(torch.equal(state[name], before[name]) for name in (*stage.parameters, *stage.buffers))
    for stage in one.backbone.stages[-2:]:
        matrices = [name for name in stage.parameters if state[name].ndim > 1]
        assert matrices
        for name in matrices:
            assert not torch.equal(state[name], before[name]) and not torch.equal(state[name], other[name])
    if model in text_models:  # as transformers begins them, not as torch does
        config: Any = one.backbone.trunk.config
        assert float(state[matrices[0]].std()) == pytest.approx(config.initializer_range, rel=0.15)


@pytest.mark.parametrize("strategy", ["full", "layer-decay", "lp-ft", "gradual"])
def test_reinit_is_heeded_once(strategy: str, digits: Path, tmp_path: Path) -> None:
    run = fit(digits, out=tmp_path / "run", model=TINY, size=32, strategy=strategy, epochs=1, reinit=3)
    phases = [event["phase"] for event in run.events() if event["event"] == "outcome"]
    assert sum(phase["reinit"] for phase in phases) == 3
    (fresh,) = [phase for phase in phases if phase["reinit"]]
    assert len(fresh["stages"]) > 3 and fresh["norm"] == "batch"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"strategy": "full", "reinit": 40}, "is more stages than learn"),
        ({"strategy": "full", "reinit": 3, "freeze": "blocks.4"}, "is more stages than learn"),
        ({"strategy": "last:2", "reinit": 1}, "--reinit 1: has no effect"),
        ({"strategy": "full", "objective": "rdorp"}, "did you mean 'rdrop'"),
        ({"strategy": "full", "objective": "contrastive"}, "trains no head"),
        ({"strategy": "full", "strength": 2.0}, "--strength 2.0: has no effect"),
        ({"strategy": "probe", "objective": "rdrop"}, "--objective rdrop: has no effect"),
        ({"strategy": "contrastive", "objective": "fgm"}, "--objective fgm: has no effect"),
        ({"strategy": "contrastive", "batch_size": 3}, "--batch-size 3"),
        ({"strategy": "contrastive", "freeze": "conv_head"}, "leaves no stage to learn"),
        ({"strategy": "full", "objective": "rdrop"}, "has no dropout in what learns"),
    ],
)
def test_what_cannot_be_is_said(asked: dict[str, Any], message: str, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fit(digits, out=tmp_path / "run", model=TINY, size=32, **asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("objective", ["rdrop", "fgm"])
def test_an_objective_is_a_word_of_the_command(
    objective: str, labels: int, text_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one class and for several labels alike, from the samples and from cached states, and it makes a difference."""
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: sentences(12, labels))
    how: dict[str, Any] = {"model": text_models["bert"], "epochs": 1, "batch_size": 8, "precision": "fp32"}
    for strategy in ("full", "last:1"):
        run = fit([], out=tmp_path / strategy, strategy=strategy, objective=objective, strength=0.7, **how)
        plain = fit([], out=tmp_path / f"{strategy} plain", strategy=strategy, **how)
        told = [event["phase"] for event in run.events() if event["event"] == "outcome"][-1]
        assert (told["objective"], told["strength"]) == (objective, 0.7)
        place = f"checkpoint/phase-{0 if strategy == 'full' else 1}.safetensors"
        one, two = (read(each.file(place))[1]["net/head.linear.weight"] for each in (run, plain))
        assert not torch.equal(one, two)


def test_contrastive_training_gathers_classes(texts: Table, text_models: dict[str, str], tmp_path: Path) -> None:
    """It begins from pretrained weights, leaves the head alone, and the head is then fitted to what it reads."""
    run = fit([], out=tmp_path / "run", model=text_models["bert"], strategy="contrastive", epochs=4, precision="fp32")
    first, drawn, last = (event for event in run.events() if event["event"] == "outcome")
    assert (drawn["phase"]["start"], last["phase"]["start"], last["phase"]["reread"]) == (None, 1, False)
    assert HEAD not in drawn["phase"]["stages"] and drawn["phase"]["per_class"] == 4
    assert last["notes"]["reading"] == "mean"
    losses = [event["loss"] for event in run.events() if event["event"] == "epoch"]
    assert losses[-1] < losses[0]
    changed = read(run.file("checkpoint/phase-1.safetensors"))[1]
    assert not [name for name in changed if name.startswith("net/head.")]
    assert last["value"] >= first["value"] - 0.2
