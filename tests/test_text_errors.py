"""Every mistake with texts and their models, told in one form: the value, the rule, the remedy; exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, write_digits
from safetensors.torch import load_file, save_file
from texts import COMMON, edited, samples, tiny, transformers, word_pieces, write_csv

from acclimate.cli.main import main
from acclimate.core.run import Run

RESTORE = "put the tokenizer.json it was saved with into"
CASES: dict[str, tuple[str, str]] = {
    # command: (value and rule, remedy); … stands for what varies
    # data
    "fit numbers.csv --model bert": (
        "numbers.csv: '0', '7', '14', ...: is a column of numbers, not of texts",
        "name the column of texts with --text",
    ),
    "fit ids.csv --model bert": (
        "column label of ids.csv: 'id0', 'id1', 'id2', ...: looks like an identifier, not a label: "
        "36 of 36 rows have a value of their own",
        "name the column of labels with --label",
    ),
    "fit data.csv --model bert --label text": (
        "data.csv: holds no column of picture paths or bytes, and none of texts",
        "name it with --image or --text; columns: text, label",
    ),
    "fit data.csv --model bert --text txt": (
        "--text txt: is not a column of data.csv",
        "did you mean 'text'? known: text, label",
    ),
    "fit data.csv --model bert --text text --text text": (
        "--text text --text text: is no pair of columns",
        "name one column of texts, or two different ones",
    ),
    "fit one.csv --model bert": (
        "one class only, 'travel': a classifier needs two classes or more",
        "add samples of another class, or name the column of the labels with --label",
    ),
    "fit data.csv --model bert --group author": ("--group author: is not a column of data.csv", "known: text, label"),
    # models
    "fit data.csv --model vocabulary": (
        "model 'hf:vocabulary': lacks weights of its architecture: embeddings.word_embeddings.weight",
        "restore its files",
    ),
    "fit data.csv --model larger": (
        "tokenizer 'larger': knows 901 tokens and the model 400: they do not belong together",
        "put the tokenizer that the model was saved with into its folder",
    ),
    "fit data.csv --model untold": ("model 'untold': has no tokenizer", f"{RESTORE} untold"),
    "fit data.csv --model older": ("model 'older': has a tokenizer that cannot be read", f"{RESTORE} older"),
    "fit data.csv --model torntold": (
        "tokenizer 'torntold': is damaged (…)",
        "restore the file, or fetch the model again",
    ),
    "fit data.csv --model bare": ("model 'bare': has no weights beside its config.json", "put model.safetensors there"),
    "fit data.csv --model torn": (
        "model 'hf:torn': has damaged weights (Error while deserializing header: …)",
        "restore its files",
    ),
    "fit data.csv --model unfinite": (
        "model 'unfinite': holds values that are not finite, in encoder.layer.1.output.dense.weight",
        "fetch or save it again",
    ),
    "fit data.csv --model pickled": (
        "model 'hf:pickled': has weights that hold pickled code, which is never run",
        "save the weights alone, as safetensors",
    ),
    "fit digits --model vittorn": (
        "model 'hf:vittorn': has damaged weights (Error while deserializing header: …)",
        "restore its files",
    ),
    "fit digits --model vitother": (
        "model 'hf:vitother': lacks weights of its architecture: …",
        "restore its files",
    ),
    "fit data.csv --model lacking": (
        "model 'hf:lacking': lacks weights of its architecture: encoder.layer.1.output.dense.weight",
        "restore its files",
    ),
    "fit data.csv --model strange": (
        "model 'strange': is of a kind that transformers does not know: berd",
        "update it",
    ),
    "fit data.csv --model unjson": ("file 'unjson/config.json': is not JSON (…)", "restore it"),
    "fit data.csv --model t5": (
        "model 't5': is an encoder and a decoder in one (t5)",
        "use an encoder or a decoder",
    ),
    "models show t5": ("model 't5': is an encoder and a decoder in one (t5)", "use an encoder or a decoder"),
    "fit data.csv --model albert": (
        "model AlbertModel: is not a row of blocks, so it cannot be cut",
        "use another model",
    ),
    "fit data.csv --model bert --weights bare/none.safetensors": (
        "weights 'bare/none.safetensors': is not a file",
        "give a .safetensors file or a torch state dict",
    ),
    "fit data.csv --model bert --weights gpt2/model.safetensors": (
        "weights 'gpt2/model.safetensors': does not fit BertModel: …",
        "name the architecture that it was saved from",
    ),
    # a model of another kind of sample
    f"fit data.csv --model {TINY}": (
        f"--model {TINY}: reads pictures, and the samples are texts",
        "leave it out, or see acclimate models",
    ),
    "fit data.csv --model vit": (
        "--model vit: reads pictures, and the samples are texts",
        "leave it out, or see acclimate models",
    ),
    "fit digits --model bert": (
        "--model bert: reads texts, and the samples are pictures",
        "leave it out, or see acclimate models",
    ),
    "fit data.csv --task image_classification --model bert": (
        "data.csv: samples given as text, classes as targets: does not fit task 'image_classification'",
        "name the column of the labels with --label, or another task with --task; "
        "known: image_classification, detection, text_classification",
    ),
    # options
    "fit data.csv --model bert --size 65": ("--size 65: is more tokens than the model reads", "at most 64"),
    "fit data.csv --model bert --size 8": (
        "--size 8: must be greater than or equal to 16",
        "it means: what the model reads of a sample: side in pixels, or tokens of a text",
    ),
    "fit data.csv --model bert --augment light": ("--augment light: has no effect on texts", "leave it out"),
    "fit data.csv --model bert --strategy full --augment mixup": (
        "--augment mixup: has no effect on texts",
        "leave it out",
    ),
    "fit data.csv --model bert --strategy last:9": (
        "--strategy last:9: is more stages than the model has: 4",
        "at most last:4; the stages are embeddings, encoder.layer.0, encoder.layer.1, encoder.layer.2",
    ),
    "fit data.csv --model bert --freeze encoder.layer.9": (
        "--freeze 'encoder.layer.9': is not a stage of the model",
        "did you mean 'encoder.layer.2' or 'encoder.layer.1' or 'encoder.layer.0'? "
        "known: embeddings, encoder.layer.0, encoder.layer.1, encoder.layer.2",
    ),
    # evaluate
    "evaluate run other.csv": (
        "class 'sport' (1 targets): not among the 3 classes of the training data",
        "take these samples out, or fit with them; known: kitchen, travel, weather",
    ),
    "evaluate run cased.csv": (
        "class 'Travel' (1 targets): not among the 3 classes of the training data",
        "only upper and lower case differ: write 'travel' for 'Travel'",
    ),
    "evaluate run digits": (
        "digits: samples given as path, classes as targets: does not fit task 'text_classification'",
        "name the column of the labels with --label, or give data like those that the model learned from",
    ),
    # a run
    "predict untoldrun -": (
        "tokenizer 'untoldrun/tokenizer.json': is not there",
        "restore the file, or fetch the model again",
    ),
    "predict otherrun -": (
        "model 'otherrun': has another model.safetensors, model.json or tokenizer.json than was saved",
        "restore the files or fit again",
    ),
    "predict run data.csv --image text": ("option --image: is not an option of acclimate predict", "known: --out, …"),
}


class Malice:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def build(folder: Path) -> None:
    """Data and models, each wrong in its own way, beside a few that are right."""
    rows = samples(12)
    write_csv(folder / "data.csv", rows)
    write_csv(folder / "numbers.csv", [(str(i * 7), name) for i, (_, name) in enumerate(rows)])
    write_csv(folder / "ids.csv", [(text, f"id{i}") for i, (text, _) in enumerate(rows)])
    write_csv(folder / "one.csv", rows[::3])
    write_csv(folder / "other.csv", [*rows[:6], ("the ball is round", "sport")])
    write_csv(folder / "cased.csv", [("Is there a night bus to Oslo?", "Travel")])
    write_digits(folder / "digits/train", 3, 12)
    tiny("bert", folder / "bert")
    tiny("gpt2", folder / "gpt2")
    for name in [
        "vocabulary",
        "larger",
        "untold",
        "torntold",
        "bare",
        "torn",
        "lacking",
        "strange",
        "unjson",
        "older",
        "unfinite",
    ]:
        shutil.copytree(folder / "bert", folder / name)
    edited(folder / "vocabulary", vocab_size=405)
    edited(folder / "strange", model_type="berd")
    told = json.loads(word_pieces())
    told["model"]["vocab"]["snowflake"] = 900
    (folder / "larger/tokenizer.json").write_text(json.dumps(told))
    for name in ("untold", "older"):
        (folder / name / "tokenizer.json").unlink()
    (folder / "older/spiece.model").write_bytes(b"junk")
    (folder / "torntold/tokenizer.json").write_text(word_pieces()[:-200])
    (folder / "bare/model.safetensors").unlink()
    weights = folder / "torn/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    state = load_file(folder / "lacking/model.safetensors")
    state["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(state, folder / "unfinite/model.safetensors", {"format": "pt"})
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "lacking/model.safetensors", {"format": "pt"})
    (folder / "unjson/config.json").write_text("{")
    shapes = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8}
    sides = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    for name, model in {
        "t5": transformers.T5Model(transformers.T5Config(vocab_size=400, **shapes)),
        "albert": transformers.AlbertModel(transformers.AlbertConfig(**COMMON, embedding_size=16)),
        "vit": transformers.ViTModel(transformers.ViTConfig(**sides, image_size=32, patch_size=8)),
    }.items():
        model.save_pretrained(folder / name)
        (folder / name / "tokenizer.json").write_text(word_pieces())
    for name in ("vittorn", "vitother"):
        shutil.copytree(folder / "vit", folder / name)
    edited(folder / "vitother", intermediate_size=48)
    weights = folder / "vittorn/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(folder / "bare", folder / "pickled")
    torch.save({"weight": Malice()}, folder / "pickled/pytorch_model.bin")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from acclimate.verbs.fit import fit

    folder = tmp_path_factory.mktemp("world")
    build(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit("data.csv", strategy="probe", model="bert", out="run")
        for name in ("untoldrun", "otherrun"):
            shutil.copytree("run", name)
        Path("untoldrun/tokenizer.json").unlink()
        shutil.copy("gpt2/tokenizer.json", "otherrun")
    return folder


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["acclimate", *shlex.split(command)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", CASES)
def test_a_mistake_is_told(
    command: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = contents(world)
    assert run(command, monkeypatch) == 2
    out, err = capfd.readouterr()
    what, remedy = CASES[command]
    pattern = re.escape(f"error: {what}\n  {remedy}\n").replace("…", ".+")
    assert out == "" and re.fullmatch(pattern, err.rpartition("\r")[2]), err
    assert contents(world) == before


@pytest.mark.parametrize("model", ["gpt2", "bert"])
def test_a_model_without_a_token_to_pad_with_works(model: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    config = json.loads(Path(model, "config.json").read_text())
    assert (config.get("pad_token_id") is None) == (model == "gpt2")
    assert run(f"fit data.csv --model {model} --strategy full --epochs 1 --quiet --out made-{model}", monkeypatch) == 0
    assert Run(Path(f"made-{model}")).finished


def test_pictures_for_a_model_of_texts_are_rows_that_say_so(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    assert run("predict run digits/train/0/0.png digits/train/1", monkeypatch) == 1
    out, err = capfd.readouterr()
    told = {line.rsplit(",", 1)[1] if '"' not in line else line.split('"')[1] for line in out.splitlines()[1:]}
    assert told == {
        "is neither lines of text (.txt) nor a table (.csv, .tsv, .jsonl, .ndjson, .json, .parquet)",
        "is no .txt file: in folders these are read, and tables are named one by one",
    }
    assert "samples could not be read: see the column error (the first: is neither lines of text" in err
