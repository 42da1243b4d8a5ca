"""Adapters: the pretrained weights stay while one learns, it is merged without a trace, and peft reads what is kept apart."""

from __future__ import annotations

import functools
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from test_resume import StopAt, assert_same, weights

from acclimate.core.errors import MissingExtra, UserError
from acclimate.core.recipe import Options
from acclimate.data.table import Table
from acclimate.engine.adapters import attached
from acclimate.engine.checkpoint import read
from acclimate.engine.phase import HEAD, Phase
from acclimate.engine.precision import Precision
from acclimate.engine.trainer import Stopped
from acclimate.engine.watcher import Watcher
from acclimate.models.backbone import Net
from acclimate.models.frozen import fingerprint
from acclimate.models.load import load
from acclimate.tasks.head import LinearHead
from acclimate.tasks.read_head import ReadHead
from acclimate.verbs.fit import fit as remembering_fit
from acclimate.verbs.job import prepare
from acclimate.verbs.judging import judge

fit = functools.partial(remembering_fit, fresh=True)
VIT = "random:timm:test_vit"
MODELS = (VIT, TINY, "bert", "llama")
CPU = torch.device("cpu")


def net_of(model: str, text_models: dict[str, str]) -> tuple[Net, Any]:
    """A net with a head of three outputs, and an input batch."""
    if model in text_models:
        backbone, _ = load(text_models[model])
        batch: Any = {"input_ids": torch.arange(18).reshape(2, 9) + 4, "attention_mask": torch.ones(2, 9).long()}
        batch["attention_mask"][1, 6:] = 0
        return Net(backbone, ReadHead.of(backbone(batch), 3)), batch
    backbone, card = load(model, size=32 if model == TINY else None)
    batch = torch.rand(2, 3, card.preprocessing.size, card.preprocessing.size)
    return Net(backbone, LinearHead.of(backbone(batch), 3)), batch


def phase_of(net: Net, adapter: str, first: int = 0) -> Phase:
    stages = (*(stage.name for stage in net.backbone.stages[first:]), HEAD)
    return Phase("p", "", stages, (1e-3,) * len(stages), adapter=adapter, rank=4)


def disturb(tensors: Any) -> None:
    """As training would have moved them, and far enough to be seen."""
    with torch.no_grad():
        for tensor in tensors:
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))


@pytest.mark.parametrize("adapter", ["lora", "ia3"])
@pytest.mark.parametrize("model", MODELS)
def test_an_adapter_comes_and_goes_and_is_merged(model: str, adapter: str, text_models: dict[str, str]) -> None:
    net, batch = net_of(model, text_models)
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stages, flags = net.backbone.stages, [value.requires_grad for value in net.parameters()]
    with torch.no_grad():
        plain = net(batch)
    with attached(net, phase_of(net, adapter), batch) as found, torch.no_grad():
        assert found is not None
        own = {name for stage in net.backbone.stages for name in stage.parameters}
        learning = {name for name, value in net.backbone.named_parameters() if value.requires_grad}
        assert learning == own
        torch.testing.assert_close(net(batch), plain)  # it begins as nothing
        disturb(net.backbone.get_parameter(name) for name in own)
        adapted = net(batch)
        assert float(torch.dist(adapted, plain)) > 1e-3 * float(plain.norm())
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.backbone.stages, [value.requires_grad for value in net.parameters()]) == (stages, flags)
    assert not hasattr(net.backbone.trunk, "peft_config")
    with torch.no_grad():
        assert torch.equal(net(batch), plain)
        found.merge()
        torch.testing.assert_close(net(batch), adapted, rtol=1e-3, atol=1e-4)
    assert net.state_dict().keys() == before.keys()


def test_a_merge_that_changes_the_outputs_is_an_error(text_models: dict[str, str]) -> None:
    net, batch = net_of("bert", text_models)
    with attached(net, phase_of(net, "lora"), batch) as found:
        assert found is not None
        disturb(net.backbone.get_parameter(name) for stage in net.backbone.stages for name in stage.parameters)
    disturb(net.head.parameters())
    with pytest.raises(RuntimeError, match="changed the outputs"):
        found.merge()


def test_only_stages_that_learn_are_adapted(text_models: dict[str, str]) -> None:
    net, batch = net_of("bert", text_models)
    with attached(net, phase_of(net, "lora", first=2), batch):
        assert [bool(stage.parameters) for stage in net.backbone.stages] == [False, False, True, True]


@pytest.mark.parametrize("adapter", ["lora", "ia3"])
@pytest.mark.parametrize("model", [VIT, TINY])
def test_measured_arithmetic_is_not_fooled(model: str, adapter: str) -> None:
    """Convolutions whose norm was folded into them while they stood alone have an adapter between them and the norm now."""
    net, batch = net_of(model, {})
    net.eval()
    measured = Precision.measure(net, torch.cat([batch] * 4), asked="fp32", remember=False)
    calls = [(measured, measured.inference), (measured, measured.training)]
    with torch.no_grad():
        for how, context in calls:  # what is swapped in for the plain net is known from here on
            with context(net):
                net(how.move(batch))
        with attached(net, phase_of(net, adapter), batch):
            disturb(net.backbone.get_parameter(name) for stage in net.backbone.stages for name in stage.parameters)
            plain = net(batch)
            for how, context in calls:
                with context(net):
                    torch.testing.assert_close(net(how.move(batch)), plain, rtol=1e-3, atol=1e-4)
        plain = net(batch)
        for how, context in calls:
            with context(net):
                torch.testing.assert_close(net(how.move(batch)), plain, rtol=1e-3, atol=1e-4)


def asked(model: str, strategy: str, text_models: dict[str, str]) -> dict[str, Any]:
    chosen = {"model": text_models[model]} if model in text_models else {"model": model, "size": 32}
    return {**chosen, "strategy": strategy, "epochs": 2, "batch_size": 8, "precision": "fp32", "lr": 1e-2}


@pytest.mark.parametrize("strategy", ["lora", "ia3", "bitfit"])
def test_what_does_not_learn_stays_bit_equal(strategy: str, digits: Path, tmp_path: Path) -> None:
    run = fit(digits, out=tmp_path / "run", **asked(TINY, strategy, {}))
    backbone, _ = load(TINY, size=32)
    changed = {
        name
        for name, value in backbone.state_dict().items()
        if not torch.equal(value, weights(run)[f"backbone.{name}"])
    }
    assert changed
    wanted = ("bias",) if strategy == "bitfit" else ("weight", "bias") if strategy == "ia3" else ("weight",)
    assert {name.rpartition(".")[2] for name in changed} <= set(wanted)
    assert not [name for name in changed if "running" in name]
    assert not run.file("adapter").exists()


def test_a_phase_that_moves_frozen_weights_is_a_fault(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thief(Watcher):
        def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
            with torch.no_grad():
                next(value for value in held[0].net.backbone.parameters() if not value.requires_grad).add_(1)

    held: list[Any] = []
    made = prepare

    def keep(*arguments: Any) -> Any:
        held.append(made(*arguments))
        return held[0]

    monkeypatch.setattr("acclimate.verbs.fit.prepare", keep)
    with pytest.raises(RuntimeError, match="changed what is frozen"):
        fit(digits, out=tmp_path / "run", watcher=Thief(), **asked(TINY, "lora", {}))


@pytest.mark.parametrize("strategy", ["lora", "ia3", "bitfit", "contrastive"])
def test_stopped_in_a_text_phase_it_ends_in_the_same_weights(
    strategy: str, texts: Table, text_models: dict[str, str], tmp_path: Path
) -> None:
    how = asked("bert", strategy, text_models)
    reference = fit([], out=tmp_path / "reference", **how)
    for step in (3, 4):
        with pytest.raises(Stopped):
            fit([], out=tmp_path / "run", resume=True, watcher=StopAt(signal.SIGTERM, step), **how)
    _, tensors = read(tmp_path / "run" / "checkpoint" / "last.safetensors")
    marks = {"lora": ".lora_A.default.weight", "ia3": ".ia3_l.default"}
    if strategy in marks:
        named = {name for name in tensors if name.startswith("net/backbone.")}
        assert named and all(marks[strategy][1:5] in name for name in named)
    assert_same(reference, fit([], out=tmp_path / "run", resume=True, **how))


@pytest.mark.parametrize("adapter", ["lora", "ia3"])
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_peft_reads_what_is_kept_apart(
    model: str, adapter: str, texts: Table, text_models: dict[str, str], tmp_path: Path
) -> None:
    """On the pretrained model, with the head beside it, it gives the predictions of the merged model."""
    from peft import PeftModel
    from transformers import AutoModel

    from acclimate.models.language import cut
    from acclimate.verbs.predict import load as load_run

    run = fit([], out=tmp_path / "run", adapter="apart", **asked(model, adapter, text_models))
    config = json.loads(run.file("adapter/adapter_config.json").read_text())
    assert (config["peft_type"], config["base_model_name_or_path"]) == (adapter.upper(), text_models[model])
    merged = load_run(run.path)
    saved = merged.saved
    base = AutoModel.from_pretrained(text_models[model])
    batch = saved.inputs.collate(
        [saved.inputs.prepare_all([text], 1)[0] for text in texts.column("sample").to_pylist()[:9]]
    )
    pretrained = cut(AutoModel.from_pretrained(text_models[model]), batch)
    found = PeftModel.from_pretrained(base, str(run.file("adapter"))).eval()
    backbone = cut(found.merge_and_unload().requires_grad_(True), batch)
    head = ReadHead.of(backbone(batch), 3)
    head.load_state_dict(load_file(run.file("adapter/head.safetensors")))
    with torch.no_grad():
        wanted = saved.net(batch)
        torch.testing.assert_close(Net(backbone, head).eval()(batch), wanted, rtol=1e-3, atol=1e-4)
        assert float(torch.dist(Net(pretrained, head).eval()(batch), wanted)) > 1e-2  # so the adapter did something


def test_peft_reads_an_adapter_of_pictures(digits: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    from acclimate.engine.saved import load_model

    run = fit(digits, out=tmp_path / "run", adapter="apart", **asked(TINY, "lora", {}))
    backbone, _ = load(TINY, size=32)
    found = PeftModel.from_pretrained(backbone.trunk, str(run.file("adapter"))).merge_and_unload()
    trained = load_model(run.path, CPU).net.backbone.trunk.state_dict()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["lora", "ia3", "bitfit"])
def test_the_head_is_not_lost_on_reload(
    strategy: str, texts: Table, text_models: dict[str, str], tmp_path: Path
) -> None:
    """The model from disk has the head that was trained, and is right on the samples that the trained one was right on."""
    from acclimate.engine.saved import load_model

    how = asked("bert", strategy, text_models)
    run = fit([], out=tmp_path / "run", **how)
    tensors = read(run.file("checkpoint/phase-1.safetensors"))[1]
    probe = read(run.file("checkpoint/phase-0.safetensors"))[1]
    assert torch.equal(weights(run)["head.linear.weight"], tensors["net/head.linear.weight"])
    assert not torch.equal(weights(run)["head.linear.weight"], probe["net/head.linear.weight"])
    job = prepare([], Options.check(how), Watcher())
    figures, _ = judge(load_model(run.path, CPU), job.dataset, job.rows("val"), CPU)
    assert figures["metrics"]["accuracy"]["value"] == pytest.approx(float(tensors["scores"].mean()))


def test_what_the_cache_remembers_has_the_adapter_too(
    texts: Table, text_models: dict[str, str], tmp_path: Path
) -> None:
    how = {**asked("bert", "lora", text_models), "adapter": "apart", "seed": 5}
    first = remembering_fit([], out=tmp_path / "first", **how)
    second = remembering_fit([], out=tmp_path / "second", **how)
    assert [event["notes"].get("remembered") for event in second.events() if event["event"] == "outcome"] == [
        True,
        True,
    ]
    one, two = (load_file(run.file("adapter/adapter_model.safetensors")) for run in (first, second))
    assert one and one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_without_peft_it_is_said_before_anything_is_written(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"acclimate\[peft\]"):
        fit(digits, out=tmp_path / "run", **asked(TINY, "lora", {}))
    assert not (tmp_path / "run").exists()


def test_nothing_to_adapt_is_said(digits: Path, texts: Table, text_models: dict[str, str], tmp_path: Path) -> None:
    for strategy, model, word in [
        ("lora", "bert", "nothing to adapt"),
        ("bitfit", "llama", "no parameter called 'bias'"),
    ]:
        how = asked(model, strategy, text_models)
        last = load(text_models[model])[0].stages[-1].name
        with pytest.raises(UserError, match=word):
            fit([], out=tmp_path / "run", **({**how, "freeze": last} if strategy == "lora" else how))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "more"),
    [("full", {"rank": 2}), ("bitfit", {"adapter": "apart"}), ("ia3", {"rank": 2}), ("lora", {"reinit": 1})],
)
def test_options_without_effect_are_refused(strategy: str, more: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no effect with --strategy"):
        fit(digits, out=tmp_path / "run", model=TINY, size=32, strategy=strategy, **more)


def test_the_plan_counts_what_learns(digits: Path) -> None:
    plan: Any = fit(digits, dry_run=True, model=TINY, size=32, strategy="lora", rank=2)
    wide: Any = fit(digits, dry_run=True, model=TINY, size=32, strategy="lora", rank=4)
    full: Any = fit(digits, dry_run=True, model=TINY, size=32, strategy="lp-ft")
    head = plan.parameters[0]
    assert (wide.parameters[1] - head) == 2 * (plan.parameters[1] - head)
    assert plan.parameters[1] < full.parameters[1] and plan.memory[1] < full.memory[1]
    assert np.array_equal(plan.parameters[:1], full.parameters[:1])


def test_fingerprints_leave_out_what_may_move(text_models: dict[str, str]) -> None:
    net, _ = net_of("bert", text_models)
    stages = [stage.name for stage in net.backbone.stages]
    name = net.backbone.stages[1].parameters[0]
    mark, rest = fingerprint(net.backbone, stages), fingerprint(net.backbone, stages, but=[name])
    disturb([net.backbone.get_parameter(name)])
    assert fingerprint(net.backbone, stages) != mark
    assert fingerprint(net.backbone, stages, but=[name]) == rest
