"""Static token vectors out of a package, as a person uses them: fetched, fitted, chosen, saved; and what is refused."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from texts import samples, write_csv
from torch import nn

from acclimate.core.errors import UserError
from acclimate.core.run import Run
from acclimate.models.backbone import Backbone, Net
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.language import POOLED
from acclimate.models.load import describe, get, load, rebuild
from acclimate.models.packages import table, vectors
from acclimate.models.packages.table import TEXTS, PackagedText
from acclimate.models.sources.packaged_texts import BUILT_BY
from acclimate.models.texts import FAMILIES
from acclimate.tasks.read_head import ReadHead
from acclimate.tasks.text_classification import ENGLISH, MULTILINGUAL
from acclimate.tasks.tuning import LANGUAGE_MODELS
from acclimate.verbs.candidates import Model, licensed
from acclimate.verbs.choose import choose
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit
from acclimate.verbs.predict import load as load_run

NAME, INSIDE = "tiny-vectors", "acclimate_test_vectors"
WORDS, WIDTH = 400, 24
TEXT = "Is there a night bus to Oslo?"


def write_package(site: Path) -> dict[str, Path]:
    """A package as wordllama is: vectors of 16 bits, and a tokenizer that would put marks around a text."""
    from texts import word_pieces

    folder = site / INSIDE
    folder.mkdir(parents=True)
    drawn = torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"embedding.weight": drawn.half()}, folder / "tiny.safetensors")
    (folder / "tokenizer.json").write_text(word_pieces())
    info = site / f"{INSIDE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {INSIDE}\nVersion: 1.0\n")
    return {f"{INSIDE}/{name}": folder / name for name in ("tiny.safetensors", "tokenizer.json")}


def entry_of(files: dict[str, Path]) -> PackagedText:
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    licence = "MIT / MIT, derived in part from others"
    return PackagedText(
        NAME, "tiny vectors", INSIDE, "1.0", sums, vectors.read, licence, architecture="static", languages="en"
    )


@pytest.fixture(scope="module", autouse=True)
def entry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package is installed, and in the table beside the real ones."""
    site = tmp_path_factory.mktemp("site")
    made = entry_of(write_package(site))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setitem(TEXTS, NAME, made)
        yield made


@pytest.fixture(scope="module")
def backbone(entry: PackagedText) -> Backbone:
    """Tests that change it copy it."""
    return load(NAME)[0]


@pytest.fixture(scope="module")
def run(entry: PackagedText, texts_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(texts_data, model=NAME, strategy="full", out=tmp_path_factory.mktemp("runs") / "full")


def lengthy(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Texts of random tokens, padded on the right."""
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, WORDS, (length,), generator=draw) for length in lengths]
    mask = [torch.ones(length, dtype=torch.long) for length in lengths]
    padded = [nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (ids, mask)]
    return dict(zip(("input_ids", "attention_mask"), padded, strict=True))


def rows(path: Path, name: str) -> torch.Tensor:
    return load_file(path)[name]


def own_table(entry: PackagedText) -> torch.Tensor:
    return rows(table.folder(entry) / "model.safetensors", "embedding.weight")


# --- what it is


def test_a_package_becomes_a_folder_of_float32_whose_tokenizer_adds_no_marks(entry: PackagedText) -> None:
    path = get(NAME)
    drawn = torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own_table(entry), drawn.half().float())
    told = json.loads((path / "config.json").read_text())
    assert (told["model_type"], told["vocab_size"], told["hidden_size"]) == ("static", WORDS, WIDTH)
    encoding = load(NAME)[1].preprocessing.tokenizer().encode(TEXT)
    assert "[CLS]" not in encoding.tokens and sum(encoding.special_tokens_mask) == 0 < len(encoding.ids)


def test_every_family_of_language_models_is_cut_and_tuned() -> None:
    assert FAMILIES.keys() == LANGUAGE_MODELS.keys()
    assert {entry.architecture for entry in TEXTS.values()} <= BUILT_BY.keys()


def test_the_real_one_is_never_a_default_and_not_permissive() -> None:
    assert "wordllama" not in (*ENGLISH, *MULTILINGUAL)
    models = [Model(name, describe(name)[1]) for name in ("minilm", "wordllama")]
    assert "Llama 2" in models[1].card.licence
    assert licensed(models, "permissive") == models[:1]


# --- the backbone


@torch.no_grad()
def test_features_are_the_first_the_mean_and_the_largest_of_a_texts_vectors(
    backbone: Backbone, entry: PackagedText
) -> None:
    lengths, known = (7, 1, 12), own_table(entry)
    inputs = lengthy(*lengths)
    features = backbone(inputs)
    assert features.shape == (3, len(POOLED), WIDTH)
    for row, length in enumerate(lengths):
        own = known[inputs["input_ids"][row, :length]]
        torch.testing.assert_close(features[row], torch.stack([own[0], own.mean(0), own.amax(0)]))


@torch.no_grad()
def test_a_batch_equals_its_samples_one_by_one_to_the_bit(backbone: Backbone) -> None:
    lengths = tuple(range(1, 200, 7))
    inputs = lengthy(*lengths)
    whole = backbone(inputs)
    for row, length in enumerate(lengths):
        alone = {name: leaf[row : row + 1, :length] for name, leaf in inputs.items()}
        assert torch.equal(backbone(alone)[0], whole[row])
    assert torch.equal(backbone.join(backbone.split(whole)), whole)


@torch.no_grad()
def test_a_text_in_windows_is_read_as_one(backbone: Backbone) -> None:
    ids = torch.randint(5, WORDS, (1, 10), generator=torch.Generator().manual_seed(1))
    apart = torch.zeros(1, 3, 4, dtype=torch.long)
    mask = torch.zeros_like(apart)
    for number, window in enumerate(ids[0].split(4)):
        apart[0, number, : len(window)], mask[0, number, : len(window)] = window, 1
    together = backbone({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    torch.testing.assert_close(backbone({"input_ids": apart, "attention_mask": mask}), together)


@torch.no_grad()
@pytest.mark.parametrize("reading", ["mean", "edge", "edge, mean and max"])
def test_what_a_head_does_not_read_is_not_computed(reading: str, backbone: Backbone) -> None:
    inputs = lengthy(5, 9, 2)
    head = ReadHead.of(backbone(inputs), 3).eval()
    width = head.read(backbone(inputs), reading).shape[1]
    head.take(reading, torch.randn(3, width), torch.randn(3), torch.zeros(width), torch.ones(width))
    torch.testing.assert_close(Net(backbone, head)(inputs), head(backbone(inputs)))


def trained(backbone: Backbone, used: torch.Tensor | None) -> Net:
    """After a few steps of all layers, with the table whole or trimmed."""
    from contextlib import nullcontext

    torch.manual_seed(0)
    net = Net(copy.deepcopy(backbone), ReadHead(len(POOLED), WIDTH, 3)).eval()  # without dropout
    freeze(net.backbone, {"embeddings"})
    with nullcontext() if used is None else net.backbone.trimmed(used):
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
        for seed in range(3):
            loss = nn.functional.cross_entropy(net(lengthy(4, 9, 6, seed=seed)), torch.arange(3))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net


def test_a_trimmed_table_trains_as_the_whole(backbone: Backbone) -> None:
    used = torch.cat([lengthy(4, 9, 6, seed=seed)["input_ids"].flatten() for seed in range(3)]).unique()
    assert len(used) < WORDS / 2
    whole, trimmed = trained(backbone, None), trained(backbone, used)
    for (name, one), two in zip(whole.state_dict().items(), trimmed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, msg=name)
    changed = (trimmed.backbone.trunk.embedding.weight != backbone.trunk.embedding.weight).any(1)
    assert changed.any() and not changed[[row for row in range(WORDS) if row not in used.tolist()]].any()


def test_the_card_rebuilds_the_same_backbone(backbone: Backbone) -> None:
    card = load(NAME)[1]
    again = rebuild(card.json(), card.preprocessing)
    assert again.stages == backbone.stages and [stage.name for stage in again.stages] == ["embeddings"]
    assert fingerprint(again, ["embeddings"]) != fingerprint(backbone, ["embeddings"])
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again(lengthy(5, 2)), backbone(lengthy(5, 2)))


# --- through the verbs


@pytest.mark.parametrize("strategy", ["probe", "last:1", "auto", "contrastive", "layer-decay"])
def test_a_fit_learns_and_is_measured_again(
    strategy: str, entry: PackagedText, texts_data: Path, tmp_path: Path
) -> None:
    done = fit(texts_data, model=NAME, strategy=strategy, out=tmp_path / "run")
    assert done.metrics()["metrics"]["accuracy"]["value"] > 0.8  # of three classes
    assert evaluate(done.path, texts_data)["metrics"] == done.metrics()["metrics"]
    after = rows(done.file("model.safetensors"), "backbone.trunk.embedding.weight")
    assert torch.equal(after, own_table(entry)) == (strategy in ("probe", "auto"))  # nothing is left to gain here


def test_a_saved_run_predicts_the_same_without_the_package(
    run: Run, entry: PackagedText, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = [text for text, _ in samples(20)]
    together = load_run(run.path).predict(texts)
    monkeypatch.delitem(TEXTS, NAME)
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "elsewhere"))
    again = load_run(run.path)
    assert again.predict(texts) == together
    assert [again.predict(text)["label"] for text in texts] == [answer["label"] for answer in together]
    for text, answer in zip(texts, together, strict=True):
        assert again.predict(text)["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)


def test_only_what_occurs_has_moved(run: Run, entry: PackagedText, texts_data: Path) -> None:
    after = rows(run.file("model.safetensors"), "backbone.trunk.embedding.weight")
    tokenizer = load_run(run.path).saved.inputs.tokenizer
    seen = {token for encoding in tokenizer.encode_batch([text for text, _ in samples(24)]) for token in encoding.ids}
    changed = set((after != own_table(entry)).any(1).nonzero().flatten().tolist())
    assert changed and changed <= seen | {0}, "the row that pads has no gradient, but weight decay"


def test_a_run_of_it_is_a_model_to_start_from(run: Run, texts_data: Path, tmp_path: Path) -> None:
    later = fit(texts_data, model=str(run.path), strategy="probe", out=tmp_path / "later")
    one, two = (rows(each.file("model.safetensors"), "backbone.trunk.embedding.weight") for each in (run, later))
    assert torch.equal(one, two)


def test_pairs_and_long_texts(tmp_path: Path) -> None:
    both = [(text, f"{text} {text}", name) for text, name in samples(12)]
    pairs = fit(
        write_csv(tmp_path / "pairs.csv", both, "title", "body", "label"),
        **{"text": ["title", "body"], "model": NAME, "strategy": "probe", "out": tmp_path / "pairs"},
    )
    assert pairs.finished
    long = [(" ".join([text] * 12), name) for text, name in samples(12)]
    path = write_csv(tmp_path / "long.csv", long)
    for how in ("window", "head+tail"):
        done = fit(path, model=NAME, strategy="probe", size=16, long=how, out=tmp_path / how)
        assert done.metrics()["metrics"]["accuracy"]["value"] > 0.5


def test_it_is_a_candidate(texts_data: Path, tiny_bert: Path) -> None:
    asked: dict[str, Any] = {"models": [NAME, str(tiny_bert)], "only": True, "strategy": "probe", "precision": "fp32"}
    said = choose(texts_data, **asked).json()
    own, other = (next(one for one in said["candidates"] if one["model"] == name) for name in asked["models"])
    assert own["costs"]["batch_ms"] < other["costs"]["batch_ms"]
    assert np.isfinite(own["quality"]["value"]) and own["licence"] == "MIT / MIT, derived in part from others"
    with pytest.raises(UserError, match="--licence permissive: is that of none"):
        choose(texts_data, **{**asked, "models": [NAME]}, licence="permissive")


# --- what is refused


@pytest.mark.parametrize(
    "tensors",
    [
        {"embedding.weight": torch.zeros(WORDS)},
        {"embeddings": torch.zeros(WORDS, WIDTH)},
        {"embedding.weight": torch.zeros(WORDS, WIDTH), "projection": torch.zeros(3, 3)},
    ],
    ids=["no table", "another name", "more than a table"],
)
def test_a_file_of_something_else_is_told(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_package(tmp_path / "site")
    save_file(tensors, files[f"{INSIDE}/tiny.safetensors"])
    other = replace(entry_of(files), name="other-vectors")
    monkeypatch.setattr(table, "_installed", lambda entry: files)
    with pytest.raises(UserError, match=r"'other-vectors': could not be read out of .*tiny\.safetensors.*embedding"):
        table.folder(other)
    assert not table.place(other).exists()


def test_a_tokenizer_of_another_model_is_told(
    tmp_path: Path, texts_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_package(tmp_path / "site")
    save_file({"embedding.weight": torch.randn(50, WIDTH)}, files[f"{INSIDE}/tiny.safetensors"])
    monkeypatch.setattr(table, "_installed", lambda entry: files)
    monkeypatch.setitem(TEXTS, "short-vectors", replace(entry_of(files), name="short-vectors"))
    with pytest.raises(UserError, match="they do not belong together"):
        fit(texts_data, model="short-vectors", strategy="probe", out=tmp_path / "run")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"strategy": "lora"}, "finds nothing to adapt"),
        ({"strategy": "bitfit"}, "finds no parameter called 'bias'"),
        ({"strategy": "last:2"}, "is more stages than the model has: 1"),
    ],
    ids=lambda value: value.get("strategy") if isinstance(value, dict) else None,
)
def test_strategies_that_need_layers_say_so(asked: dict[str, str], said: str, texts_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        fit(texts_data, model=NAME, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()
