"""A fit of texts from end to end on tiny models: what is learned, kept, resumed, loaded and predicted."""

from __future__ import annotations

import csv
import functools
import gc
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from texts import CLASSES, samples, tiny, write_csv, write_texts
from tokenizers import Tokenizer
from transformers import AutoModel

from acclimate.core.errors import UserError
from acclimate.core.run import CHECKPOINT, Run
from acclimate.engine.watcher import Watcher
from acclimate.strategies import STRATEGIES
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import Plan
from acclimate.verbs.fit import fit as remembering_fit
from acclimate.verbs.predict import Model, load

fit = functools.partial(remembering_fit, fresh=True)
"""What is tested is training, not remembering."""
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "precision": "fp32"}
PATIENCE = 90.0
"""Seconds after which a process is taken to hang."""


def full(strategy: str) -> str:
    return f"{strategy}:2" if STRATEGIES[strategy].numbered else strategy


def asked(strategy: str, model: Path) -> dict[str, Any]:
    return {"strategy": full(strategy), "model": str(model), "precision": "fp32"} | (
        {} if strategy == "probe" else QUICK
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.file("model.safetensors"))


def assert_same(first: Run, second: Run) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert first.metrics()["metrics"] == second.metrics()["metrics"]


@pytest.fixture(scope="module")
def run(texts_data: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(texts_data, out=tmp_path_factory.mktemp("runs") / "one", **asked("last", tiny_bert))


@pytest.fixture(scope="module")
def model(run: Run) -> Model:
    return load(run.path)


# --- training


@pytest.mark.parametrize(("kind", "changed"), [("deberta", {}), ("deberta-v2", {"share_att_key": False})])
def test_an_architecture_that_does_not_run_in_every_arithmetic(
    kind: str, changed: dict[str, Any], texts_data: Path, tmp_path: Path
) -> None:
    """DeBERTa overflows in bf16; its second version hands on views of parameters, at which operations are not counted."""
    folder = tiny(kind, tmp_path / "model", **changed)
    done = fit(texts_data, out=tmp_path / "run", model=str(folder), strategy="full", epochs=1, batch_size=16)
    why = next(line for line in done.file("log.jsonl").read_text().splitlines() if "trains in" in line)
    assert ("does not run in bf16" in why) == (kind == "deberta")
    assert "label" in load(done.path).predict("Is there a night bus to Oslo?")


def test_an_arithmetic_that_is_asked_for_and_does_not_run(texts_data: Path, tmp_path: Path) -> None:
    folder = tiny("deberta", tmp_path / "model")
    with pytest.raises(UserError, match=r"--precision bf16: is beyond this model .*bf16"):
        fit(texts_data, out=tmp_path / "run", model=str(folder), strategy="full", epochs=1, precision="bf16")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("tiny_bert", one) for one in STRATEGIES] + [("tiny_llama", one) for one in STRATEGIES if one != "bitfit"],
)
def test_every_strategy_reaches_its_end(
    name: str, strategy: str, request: pytest.FixtureRequest, texts_data: Path, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    done = fit(texts_data, out=tmp_path / "run", **asked(strategy, folder))
    assert done.finished and done.metrics()["task"] == "text_classification"
    assert 0 <= done.metrics()["metrics"]["accuracy"]["value"] <= 1
    assert evaluate(done.path, texts_data)["metrics"] == done.metrics()["metrics"]


def test_what_ends_below_its_probe_says_so(texts_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    """The decay of weights, at this rate, leaves nothing of the head."""
    ear = Heard()
    fit(texts_data, out=tmp_path / "run", watcher=ear, **{**asked("lp-ft", tiny_bert), "lr": 50.0, "epochs": 1})
    assert any(line.startswith("all layers ended below probe") for line in ear.lines)
    ear = Heard()
    fit(texts_data, out=tmp_path / "other", watcher=ear, **asked("probe", tiny_bert))
    assert not any("ended below" in line for line in ear.lines)


def test_a_run_that_begins_from_a_run_knows_what_that_learned(run: Run, texts_data: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    write_csv(again / "train.csv", samples(12, skip=40))
    write_csv(again / "test.csv", samples(4))
    ear = Heard()
    later = fit(again, out=tmp_path / "run", model=str(run.path), strategy="probe", watcher=ear)
    assert (
        evaluate(later.path, texts_data, split="train")["learned"]
        == evaluate(run.path, texts_data, split="train")["learned"]
        > 0
    )
    plan = fit(again, model=str(run.path), strategy="probe", dry_run=True)
    assert isinstance(plan, Plan) and any(
        "which this starts from, learned from 10 of the 12" in note for note in plan.notes
    )
    write_csv(again / "test.csv", [(f"  {text.upper()} ", label) for text, label in samples(4)])
    copies = fit(again, model=str(run.path), strategy="probe", dry_run=True)
    assert isinstance(copies, Plan) and copies.notes == plan.notes, "near copies count"


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_qwen2"])
def test_64_texts_are_learned_by_heart(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Labels that say nothing of the texts: only memory helps."""
    draw = np.random.default_rng(0)
    texts = [" ".join("".join(draw.choice(list("aeioubdklmnrst"), 3)) for _ in range(6)) for _ in range(64)]
    names = draw.permutation(["a", "b"] * 32)
    data = tmp_path / "data"
    data.mkdir()
    write_csv(data / "train.csv", list(zip(texts, names, strict=True)))
    write_csv(data / "val.csv", [(f"no {i} yes", name) for i, name in enumerate("abab")])
    folder = request.getfixturevalue(name)
    done = fit(
        data,
        strategy="full",
        model=str(folder),
        epochs=40,
        batch_size=16,
        lr=1e-2,
        precision="fp32",
        out=tmp_path / "run",
    )
    losses = [event["loss"] for event in done.events() if event["event"] == "epoch"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) / 2
    told = evaluate(done.path, data, split="train")
    assert told["metrics"]["accuracy"]["value"] > 0.95


def test_a_feature_without_spread_does_not_blow_the_head_up(texts_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    """The last norm's gain is zero for half of the columns: those features are the same number for every text, up to rounding."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    from safetensors.torch import save_file

    state = load_file(folder / "model.safetensors")
    (norm,) = [name for name in state if name.endswith("encoder.layer.2.output.LayerNorm.weight")]
    state[norm][::2] = 0.0
    state[norm.replace("weight", "bias")][::2] = 3.0
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    done = fit(texts_data, out=tmp_path / "run", **asked("probe", folder))
    head = weights(done)["head.linear.weight"]
    assert bool(torch.isfinite(head).all()) and float(head.abs().max()) < 100
    assert done.metrics()["metrics"]["log_loss"]["value"] < 2 * np.log(3)


def test_features_that_are_all_constant_end_in_the_class_shares(
    texts_data: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    from safetensors.torch import save_file

    state = load_file(folder / "model.safetensors")
    for name in state:
        if "LayerNorm.weight" in name:
            state[name].zero_()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    done = fit(texts_data, out=tmp_path / "run", **asked("probe", folder))
    answer = load(done.path).predict("whatever it says")
    assert all(share == pytest.approx(1 / 3, abs=0.05) for share in answer["probabilities"].values())


@pytest.mark.parametrize(
    "options",
    [
        {"balance": "weights", "label_smoothing": 0.2},
        {"balance": "sampling"},
        {"optimizer": "sgd", "schedule": "linear", "lr": 0.01},
        {"ema": 0.9},
        {"freeze": "encoder.layer.0"},
        {"size": 16},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_option_takes_effect(options: dict[str, Any], tiny_bert: Path, texts_data: Path, tmp_path: Path) -> None:
    """Each gives other weights than the run without it, and the same weights twice."""
    data = texts_data
    if "size" in options or "balance" in options:  # some texts too long for it, and classes of unequal size
        data = tmp_path / "data"
        data.mkdir()
        rows = [(f"{text} {text} {text}", name) for text, name in samples(20) if name != CLASSES[0]]
        write_csv(data / "train.csv", rows + samples(6)[::3])
        write_csv(data / "test.csv", samples(8, skip=30))
    plain = fit(data, out=tmp_path / "plain", **asked("full", tiny_bert))
    first = fit(data, out=tmp_path / "first", **{**asked("full", tiny_bert), **options})
    second = fit(data, out=tmp_path / "second", **{**asked("full", tiny_bert), **options})
    assert_same(first, second)
    one, two = weights(plain), weights(first)
    assert any(name.startswith("proof.") or not torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.linear.weight"], two["head.linear.weight"])


def test_tokens_that_no_text_holds_keep_their_bits(tiny_bert: Path, texts_data: Path, tmp_path: Path) -> None:
    done = fit(texts_data, out=tmp_path / "run", **asked("full", tiny_bert))
    before = load_file(tiny_bert / "model.safetensors")["embeddings.word_embeddings.weight"]
    after = weights(done)["backbone.trunk.embeddings.word_embeddings.weight"]
    tokenizer = load(done.path).saved.inputs.tokenizer
    with (texts_data / "train.csv").open() as file:
        seen = {token for row in csv.DictReader(file) for token in tokenizer.encode(row["text"]).ids}
    changed = set((before != after).any(dim=1).nonzero().flatten().tolist())
    assert changed and changed <= seen | {0}, "the row that pads has no gradient, but weight decay"


# --- killed and resumed

MODELS = [f"transformers.models.{name}.modeling_{name}" for name in ("bert", "llama")]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["acclimate.verbs.fit", "acclimate.models.load", "timm", *MODELS])


def work(data: Path, out: Path, asked: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    fit(data, out=out, resume=True, checkpoint_every=0.0, **asked)


def start(data: Path, out: Path, asked: dict[str, Any]) -> Any:
    process = SERVER.Process(target=work, args=(data, out, asked))
    process.start()
    return process


def finish(data: Path, out: Path, asked: dict[str, Any]) -> Run:
    process = start(data, out, asked)
    process.join(PATIENCE)
    assert process.exitcode == 0
    return Run(out)


@pytest.mark.parametrize("strategy, name", [("auto", "tiny_bert"), ("gradual", "tiny_llama")])
def test_killed_it_ends_in_the_same_weights(
    strategy: str, name: str, request: pytest.FixtureRequest, texts_data: Path, tmp_path: Path
) -> None:
    options = asked(strategy, request.getfixturevalue(name))
    reference = finish(texts_data, tmp_path / "reference", options)
    events = len(reference.events())
    process, end = start(texts_data, tmp_path / "killed", options), time.monotonic() + PATIENCE
    while len(Run(tmp_path / "killed").events()) < events // 2 and process.exitcode is None and time.monotonic() < end:
        time.sleep(0.002)
    assert process.exitcode is None, "the run had ended before it was to be killed"
    process.kill()
    process.join()
    assert_same(reference, finish(texts_data, tmp_path / "killed", options))


class StopAt(Watcher):
    """Asks its own process to stop after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def test_stopped_with_a_trimmed_table_it_goes_on(tiny_bert: Path, texts_data: Path, tmp_path: Path) -> None:
    """The checkpoint holds the small table; more of the vocabulary is not in it."""
    from acclimate.engine.trainer import Stopped

    options = asked("full", tiny_bert)
    reference = fit(texts_data, out=tmp_path / "reference", **options)
    with pytest.raises(Stopped):
        fit(texts_data, out=tmp_path / "stopped", watcher=StopAt(4), **options)
    kept = load_file(tmp_path / "stopped" / CHECKPOINT)
    assert any(0 < len(value) < 400 * 0.7 and value.shape[1:] == (32,) for value in kept.values())
    assert_same(reference, fit(texts_data, out=tmp_path / "stopped", resume=True, **options))


# --- the cache


def test_a_second_fit_computes_nothing_anew(
    tiny_bert: Path, texts_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    fit(texts_data, out=tmp_path / "first", **asked("last", tiny_bert))
    held = {path for path in (tmp_path / "cache/chunks").rglob("*") if path.is_file()}
    assert held
    fit(texts_data, out=tmp_path / "second", **asked("last", tiny_bert))
    fit(texts_data, out=tmp_path / "third", **asked("probe", tiny_bert))
    assert {path for path in (tmp_path / "cache/chunks").rglob("*") if path.is_file()} == held
    assert_same(Run(tmp_path / "first"), Run(tmp_path / "second"))


def test_another_tokenizer_is_another_sample(tiny_bert: Path, texts_data: Path, tmp_path: Path) -> None:
    """The cache does not take the tokens of one tokenizer for those of another."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    told = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    words = [word for word in vocabulary if not word.startswith("[")]
    turned = dict(zip(words, (vocabulary[word] for word in reversed(words)), strict=True))
    told["model"]["vocab"] = {word: turned.get(word, number) for word, number in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    one = fit(texts_data, out=tmp_path / "one", **asked("probe", tiny_bert))
    two = fit(texts_data, out=tmp_path / "two", **asked("probe", folder))
    assert not torch.equal(weights(one)["head.linear.weight"], weights(two)["head.linear.weight"])


# --- what is kept


def test_the_tokenizer_travels_with_the_run(texts_data: Path, tmp_path: Path) -> None:
    folder = tiny("bert", tmp_path / "model")
    done = fit(texts_data, out=tmp_path / "run", **asked("last", folder))
    before = load(done.path).predict([text for text, _ in samples(3)])
    shutil.rmtree(folder)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert load(tmp_path / "moved").predict([text for text, _ in samples(3)]) == before
    assert (
        evaluate(tmp_path / "moved", texts_data, split="test")["metrics"]
        == Run(tmp_path / "moved").metrics()["metrics"]
    )


def test_a_run_is_a_model_to_start_from(run: Run, texts_data: Path, tmp_path: Path) -> None:
    again = fit(texts_data, out=tmp_path / "again", **asked("probe", run.path))
    one, two = weights(run), weights(again)
    trunk = [name for name in one if name.startswith("backbone.trunk.")]
    assert trunk and all(torch.equal(one[name], two[name]) for name in trunk)
    assert load(again.path).predict("Which train goes to Oslo?").keys() == {"label", "confidence", "probabilities"}


def test_a_tokenizer_changed_in_the_run_is_refused(run: Run, tmp_path: Path) -> None:
    from acclimate.core.errors import UserError

    shutil.copytree(run.path, tmp_path / "run")
    told = (tmp_path / "run/tokenizer.json").read_text()
    (tmp_path / "run/tokenizer.json").write_text(told.replace('"lowercase":true', '"lowercase":false'))
    assert told != (tmp_path / "run/tokenizer.json").read_text()
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load(tmp_path / "run")


# --- pairs, labels, groups


def test_pairs_of_texts(tiny_bert: Path, tmp_path: Path) -> None:
    rows = samples(24)
    data = [
        (one, two, "same" if a == b else "other") for (one, a), (two, b) in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    data += [(one, two, "same") for (one, _), (two, _) in zip(rows, rows[3:], strict=False)]
    write_csv(tmp_path / "pairs.csv", data, "premise", "hypothesis", "label")
    done = fit(tmp_path / "pairs.csv", out=tmp_path / "run", **asked("last", tiny_bert))
    model = load(done.path)
    assert done.read_json("model.json")["columns"] == ["premise", "hypothesis"]
    here, there = model.predict([data[0][:2], data[0][1::-1]])
    assert here["probabilities"].keys() == {"same", "other"} and here != there, "the order of a pair counts"
    assert model.predict(data[0][:2])["label"] == here["label"], "a tuple is one pair"
    refused = model.predict(("one", " "))["error"]
    assert "second text is empty" in refused or "spaces" in refused
    assert evaluate(done.path, tmp_path / "pairs.csv")["metrics"] == done.metrics()["metrics"]


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2"])
def test_several_labels_a_text(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": text, "labels": [name, "question"] if text.endswith("?") else [name]})
        for text, name in samples(24)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    done = fit(tmp_path / "data.jsonl", out=tmp_path / "run", **asked("last", request.getfixturevalue(name)))
    answer = load(done.path).predict("Which train goes to Oslo after midnight?")
    assert set(answer["probabilities"]) == {*CLASSES, "question"} and isinstance(answer["labels"], list)


def test_groups_stay_on_one_side(tiny_bert: Path, tmp_path: Path) -> None:
    rows = [(text, name, f"g{number // 4}") for number, (text, name) in enumerate(samples(24))]
    write_csv(tmp_path / "data.csv", rows, "text", "label", "author")
    plan = fit(tmp_path / "data.csv", group="author", dry_run=True, **asked("probe", tiny_bert))
    table = plan.job.dataset.table
    sides: dict[str, set[str]] = {}
    for group, split in zip(table.column("group").to_pylist(), table.column("split").to_pylist(), strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(each) == 1 for each in sides.values())
    assert {split for each in sides.values() for split in each} == {"train", "val"}


# --- wild texts

WILD = {
    "chinese": "今天北京下大雨,明天会变晴。",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 zürich 🇨🇭",
    "right to left": "שלום עולם مرحبا بالعالم \u202eabc",
    "nul": "a\0b\0 c",
    "surrogate": "a \ud800 b \udfff",
    "combining": "e" + "\u0301" * 500,
    "long": "snow on the hills " * 6000,
    "one long word": "x" * 100_000,
    "special": "[CLS] [SEP] [PAD] <|endoftext|> [MASK]",
    "lines": "one\ntwo\r\nthree\rfour\u2028five",
    "zero width": "a\u200bb\ufeffc",
}
EMPTY = {"": "is empty", "   \t\n": "holds only spaces", "\u200b\ufeff": "holds only spaces", "\0": "holds only spaces"}


@pytest.fixture(scope="module")
def decoder(tiny_gpt2: Path, texts_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(fit(texts_data, out=tmp_path_factory.mktemp("runs") / "gpt2", **asked("last", tiny_gpt2)).path)


@pytest.mark.parametrize("which", ["model", "decoder"])
def test_wild_texts_are_predicted_in_order(which: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    asked = [*WILD.values(), *EMPTY, 5, None, b"bytes", *WILD.values()]
    answers = model.predict(asked)
    assert len(answers) == len(asked)
    count = len(WILD)
    for text, answer in zip(asked, answers, strict=True):
        if isinstance(text, str) and text not in EMPTY:
            assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        else:
            assert answer.keys() == {"error"}
    assert [answer["error"] for answer in answers[count : count + len(EMPTY)]] == list(EMPTY.values())
    for first, second in zip(answers[:count], answers[-count:], strict=True):
        assert first["probabilities"] == pytest.approx(second["probabilities"], abs=1e-4)


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2"])
def test_wild_texts_are_learned_from(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    rows = [*samples(12), *((text, CLASSES[0]) for text in WILD.values()), ("", CLASSES[1])]
    done = fit(rows, out=tmp_path / "run", **asked("full", request.getfixturevalue(name)))
    assert done.finished
    assert all(np.isfinite(event["loss"]) for event in done.events() if event["event"] == "epoch")


@pytest.mark.parametrize("which", ["model", "decoder"])
def test_a_batch_of_one_is_as_in_company(which: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    texts = [text for text, _ in samples(10)] + list(WILD.values())
    together = model.predict(texts)
    for text, answer in zip(texts, together, strict=True):
        assert model.predict(text)["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-4)


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(), max_size=40), max_size=12))
def test_any_texts_are_predicted_in_order(texts: list[str]) -> None:
    model = KEPT["model"]
    answers = model.predict(texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        alone = model.predict(text)
        assert ("error" in answer) == ("error" in alone)
        if "error" not in answer:
            assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-4)


KEPT: dict[str, Model] = {}


@pytest.fixture(autouse=True)
def kept(model: Model) -> None:
    """Where a test of hypothesis finds the model."""
    KEPT["model"] = model


# --- beside a forward pass by hand


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_llama", "tiny_qwen2"])
def test_a_decoder_answers_as_a_forward_pass_by_hand(
    name: str, side: str, request: pytest.FixtureRequest, texts_data: Path, tmp_path: Path
) -> None:
    """transformers alone, the texts padded on either side; then pooled, standardised and multiplied as the file says."""
    folder = request.getfixturevalue(name)
    done = fit(texts_data, out=tmp_path / "run", **asked("probe", folder))
    texts = [text for text, _ in samples(4)]
    told = [list(answer["probabilities"].values()) for answer in load(done.path).predict(texts)]

    rows = [one.ids for one in Tokenizer.from_file(str(done.path / "tokenizer.json")).encode_batch(texts)]
    width = max(map(len, rows)) + 2
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        there = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[place, there], mask[place, there] = torch.tensor(row), 1
    positions = (mask.cumsum(1) - 1).clamp(0)
    net = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = net(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True).hidden_states
    head = {key.removeprefix("head."): value for key, value in weights(done).items() if key.startswith("head.")}
    outputs = []
    for place, real in enumerate(mask.bool()):
        blocks = [states[-number][place, real] for number in range(1, len(head["mean"]) // 3 + 1)]  # the last one first
        pooled = torch.stack([one for block in blocks for one in (block[-1], block.mean(0), block.amax(0))])
        read = torch.where(head["reads"].bool()[:, None], (pooled - head["mean"]) * head["scale"], 0.0)
        outputs.append(head["linear.weight"] @ read.flatten() + head["linear.bias"])
    assert len({tuple(one) for one in told}) == len(texts)
    heat = done.read_json("model.json")["task"]["spec"].get("temperature", 1.0)
    assert (torch.stack(outputs) / heat).softmax(1).numpy() == pytest.approx(np.array(told), abs=1e-4)


# --- lengths


def test_a_text_longer_than_the_model_reads_is_cut_and_named(tiny_bert: Path, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "data", train=12)
    rows = [*samples(12), ("snow " * 1000, CLASSES[2])]
    write_csv(data / "train.csv", rows)
    plan = fit(data, dry_run=True, **asked("probe", tiny_bert))
    assert plan.notes[0] == "samples from 'text', labels from 'label'" and "test, 3 classes, input" in plan.title
    assert any("longer than the 64 tokens that are read: 1" in note for note in plan.notes)
    most = [len(plan.job.dataset.sample(row)["ids"]) for row in range(len(plan.job.dataset))]
    assert max(most) == 64
    short = fit(data, dry_run=True, size=16, **asked("probe", tiny_bert))
    assert max(len(short.job.dataset.sample(row)["ids"]) for row in range(len(short.job.dataset))) == 16


def test_figures_by_length_go_by_the_texts_as_they_were_given(tiny_bert: Path, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "data", train=12)
    write_csv(
        data / "test.csv",
        [(text + " snow" * (15 + 20 * (i % 2)), label) for i, (text, label) in enumerate(samples(8, skip=12))],
    )
    run = fit(data, size=16, out=tmp_path / "run", **asked("probe", tiny_bert))  # every text is cut to 16 tokens
    by_length = run.metrics()["slices"]["tokens"]
    first, *_, last = by_length
    assert int(first.split()[0]) > 16 and int(last.split()[2]) > 35
    assert sum(part["accuracy"]["n"] for part in by_length.values()) == 24
    assert evaluate(run.path, data, split="test")["slices"]["tokens"] == by_length


# --- the model where none is named


@pytest.mark.parametrize("there", [True, False])
def test_where_texts_are_not_english_the_plan_says_what_follows(
    there: bool, tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, english, best = (
        "acclimate.tasks.text_classification",
        str(tiny_bert),
        str(tiny_gpt2) if there else "e5-small",
    )
    monkeypatch.setattr(f"{table}.ENGLISH", (english, best))
    monkeypatch.setattr(f"{table}.MULTILINGUAL", (best, english))
    data = write_texts(tmp_path / "data", train=12)
    plan = fit(data, dry_run=True, strategy="probe", precision="fp32")
    assert plan.job.card.name == f"hf:{english}" and not any("not English" in note for note in plan.notes)
    rows = [(text.translate(str.maketrans("aeo", "аео")), label) for text, label in samples(12)]
    write_csv(data / "train.csv", rows)
    plan = fit(data, dry_run=True, strategy="probe", precision="fp32")
    assert plan.job.card.name == f"hf:{best if there else english}"
    (note,) = [note for note in plan.notes if "of the letters are not English: " in note]
    end = f"begins from {best}" if there else "e5-small would suit better (acclimate models get e5-small)"
    assert note.endswith(end)


# --- memory


def test_nothing_of_a_fit_outlives_it(texts_data: Path, tiny_bert: Path) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    fit(texts_data, dry_run=True, **asked("last", tiny_bert))
    before = tensors()
    fit(texts_data, dry_run=True, **asked("last", tiny_bert))
    assert tensors() <= before
