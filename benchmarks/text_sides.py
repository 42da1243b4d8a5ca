"""The sides of the text benchmarks, each a whole process: ours, TF-IDF, the Trainer of transformers, SetFit. Not run by hand.

    python benchmarks/text_sides.py ASK.json

All read the same three files, and start from the same folder of weights. A side's seconds count from the start of its process
until it has judged the validation samples (where there are some) and the test samples. Nothing is imported that a side does not need.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLITS = ("train", "val", "test")
READS = 512
"""Tokens that are read of a text; what ours reads too."""
CS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse penalties that TF-IDF chooses from."""
Row = dict[str, str]


@dataclass
class Answer:
    """What a side did. `test`: its answer to each test sample. `val`: accuracy; None without such samples, or if they were learned from."""

    seconds: float
    val: float | None
    test: list[str]
    note: str = ""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since the process began, accuracy on validation)."""


# --- the benchmark's end: data, weights, processes


def read_splits(data: Path, limit: int = 0, train: int = 0) -> dict[str, list[Row]]:
    """The named splits as {"text", "label"}, a tenth of train for val where there is none.

    With `limit`, of each so many drawn at random; with `train`, of train alone; of classes that are left in train.
    """
    from acclimate.core.errors import fail
    from acclimate.data.read import read

    table = read(data)
    if "split" not in table:
        raise fail(f"data {data}", "holds no tables named train and test", "give a folder that does")
    columns = [table.column(name).to_pylist() for name in ("sample", "target", "split")]
    found: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for text, label, split in zip(*columns, strict=True):
        found[split].append({"text": text, "label": str(label)})
    if not found["val"]:
        drawn = set(random.Random(0).sample(range(len(found["train"])), len(found["train"]) // 10))
        found["val"] = [row for i, row in enumerate(found["train"]) if i in drawn]
        found["train"] = [row for i, row in enumerate(found["train"]) if i not in drawn]
    if limit or train:
        most = {
            name: min(limit or len(rows), (train if name == "train" else 0) or len(rows))
            for name, rows in found.items()
        }
        found = {name: random.Random(0).sample(rows, min(most[name], len(rows))) for name, rows in found.items()}
        known = {row["label"] for row in found["train"]}
        found = {name: [row for row in rows if row["label"] in known] for name, rows in found.items()}
    return found


def few(rows: list[Row], each: int, seed: int) -> list[Row]:
    """So many rows of each class, drawn by the seed. Raises `UserError` where a class has fewer."""
    from acclimate.core.errors import fail

    by_label = defaultdict(list)
    for row in rows:
        by_label[row["label"]].append(row)
    least = min(by_label, key=lambda label: len(by_label[label]))
    if len(by_label[least]) < each:
        raise fail(f"--each {each}", f"is more than the class {least!r} has", f"at most {len(by_label[least])}")
    return [row for label in sorted(by_label) for row in random.Random(f"{seed} {label}").sample(by_label[label], each)]


def default_model(splits: dict[str, list[Row]]) -> str:
    """What a fit would start from if it was at hand."""
    from acclimate.data.read import read
    from acclimate.tasks.text_classification import TextClassification

    return TextClassification.models(read([(row["text"], row["label"]) for row in splits["train"]])).names[0]


def write_splits(place: Path, splits: dict[str, list[Row]]) -> Path:
    place.mkdir(parents=True)
    for name, rows in splits.items():
        if rows:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (place / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return place


def weights(model: str, place: Path) -> tuple[Path, str, str]:
    """(a folder that transformers loads by itself, what stands before each text, how the model sums up a text).

    The folder of a packaged model has no tokenizer_config.json, without which the kind of some tokenizers is guessed wrong.
    """
    from tokenizers import Tokenizer

    from acclimate.core.errors import fail, near
    from acclimate.models.packages import table

    if model not in table.TEXTS:
        raise fail(f"--model {model!r}", "is no packaged model of texts", near(model, table.TEXTS))
    entry = table.TEXTS[model]
    folder = table.folder(entry)
    known = {
        token.content
        for token in Tokenizer.from_file(str(folder / "tokenizer.json")).get_added_tokens_decoder().values()
    }
    special = {
        "pad": "[PAD] <pad>",
        "unk": "[UNK] <unk>",
        "cls": "[CLS] <s>",
        "sep": "[SEP] </s>",
        "mask": "[MASK] <mask>",
    }
    told = {f"{kind}_token": next(one for one in names.split() if one in known) for kind, names in special.items()}
    told |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": READS}
    place.mkdir(parents=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (place / file).symlink_to(folder / file)
    (place / "tokenizer_config.json").write_text(json.dumps(told))
    return place, entry.prefix, entry.pooling


def fresh_cache(place: Path) -> dict[str, str]:
    """The environment of a process whose cache is empty but for the folders of models."""
    from acclimate.core.places import cache_folder

    place.mkdir(parents=True)
    models = cache_folder() / "models"
    if models.is_dir():
        (place / "models").symlink_to(models.resolve())
    return {**os.environ, "ACCLIMATE_CACHE": str(place)}


def run(side: str, place: Path, threads: int, keep: str = "", **asked: Any) -> Answer:
    """A side in a process of its own, with an empty folder `place` to work in; leaves with its last words where it fails.

    `keep`: a folder where answers are kept, and one that was given to the same question on the same machine is taken up.
    """
    from acclimate.core.run import write_whole

    kept = Path(keep) / f"{side}-{_question(side, threads, asked)}.json" if keep else None
    if kept and kept.exists():
        return Answer(**json.loads(kept.read_text()))
    environment = {**fresh_cache(place / "cache"), "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    own = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
    file = place / "ask.json"
    file.write_text(json.dumps({"side": side, "place": str(place), "began": time.time(), **own}))
    done = subprocess.run([sys.executable, __file__, str(file)], env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{side} failed:\n{done.stderr[-3000:]}", file=sys.stderr)
        sys.exit(done.returncode)
    said = (place / "answer.json").read_text()
    if kept:
        write_whole(kept, json.dumps({**json.loads(said), "note": "kept; " + json.loads(said)["note"]}))
    return Answer(**json.loads(said))


def _question(side: str, threads: int, asked: dict[str, Any]) -> str:
    """By content: of folders their files, and of ours the code that answers."""
    import acclimate
    from acclimate.core.device import machine_key
    from acclimate.engine.store import content_key

    code = {"code": Path(acclimate.__file__).parent} if side == "ours" else {}
    told = {name: _content(one) if isinstance(one, Path) else one for name, one in sorted({**asked, **code}.items())}
    return content_key(machine_key(), threads, told)


def _content(place: Path) -> list[str]:
    files = sorted(one for one in place.rglob("*") if one.is_file() and one.suffix != ".pyc")
    return [f"{one.name} {hashlib.sha256(one.read_bytes()).hexdigest()}" for one in files]


# --- the sides' end


class Clock:
    """Seconds since the process was started."""

    def __init__(self, began: float) -> None:
        self.began = began

    def __call__(self) -> float:
        return time.time() - self.began


def read_files(data: Path) -> dict[str, list[Row]]:
    """What `write_splits` wrote."""
    found = {}
    for name in SPLITS:
        file = data / f"{name}.jsonl"
        lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
        found[name] = [json.loads(line) for line in lines if line]
    return found


def _texts(rows: list[Row], prefix: str = "") -> list[str]:
    return [prefix + row["text"] for row in rows]


def _labels(rows: list[Row]) -> list[str]:
    return [row["label"] for row in rows]


def _accuracy(answers: list[str], rows: list[Row]) -> float | None:
    return sum(map(str.__eq__, answers, _labels(rows))) / len(rows) if rows else None


def ours(ask: dict[str, Any], clock: Clock) -> Answer:
    """`acclimate.fit`, which judges validation and test as it goes; the answers are asked again of the saved model, outside the time."""
    from acclimate.verbs.fit import fit
    from acclimate.verbs.predict import load

    began = time.monotonic() - clock()  # a budget counts from the start of the process, as on the command line
    done = fit(ask["data"], out=Path(ask["place"]) / "run", began=began, **ask["options"])
    seconds = clock()
    splits = read_files(Path(ask["data"]))
    answers = [answer.get("label", "") for answer in load(done.path).predict(_texts(splits["test"]))]
    events = [json.loads(line) for line in (done.path / "log.jsonl").read_text().splitlines()]
    outcomes = {event["index"]: event for event in events if event["event"] == "outcome"}
    fair = {index: one for index, one in outcomes.items() if not one["notes"].get("learned from validation")}
    chosen = next(event for event in events if event["event"] == "chosen")
    curve = [(one["at"], one["value"]) for one in fair.values()]
    val = fair[chosen["index"]]["value"] if chosen["index"] in fair and splits["val"] else None
    also = "" if chosen["index"] in fair else ", which learned from validation too"
    return Answer(seconds, val, answers, f"kept {chosen['name']}{also}", curve)


def tfidf(ask: dict[str, Any], clock: Clock) -> Answer:
    """Words 1-2 and characters 2-5, logistic regression; validation chooses its penalty, or folds where there is none (3, or as many as the
    smallest class has samples)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_union

    splits = read_files(Path(ask["data"]))
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    union = make_union(words, letters)
    train = union.fit_transform(_texts(splits["train"])).tocsr()
    labels = _labels(splits["train"])
    val = union.transform(_texts(splits["val"])) if splits["val"] else None
    folds = min(3, min(Counter(labels).values()))
    tried = []
    for c in CS if val is not None or folds > 1 else (10.0,):
        model = LogisticRegression(C=c, max_iter=200, tol=1e-3)
        if val is None:
            score = cross_val_score(model, train, labels, cv=folds).mean() if folds > 1 else 0.0
            tried.append((score, c, model))
        else:
            tried.append((_accuracy(list(model.fit(train, labels).predict(val)), splits["val"]), c, model))
    score, c, model = max(tried, key=lambda one: one[0])
    model = model.fit(train, labels) if val is None else model
    answers = list(map(str, model.predict(union.transform(_texts(splits["test"])))))
    return Answer(clock(), None if val is None else float(score), answers, f"C {c:g}")


def trainer(ask: dict[str, Any], clock: Clock) -> Answer:
    """The Trainer of transformers. `ask`: lr, epochs, batch, bf16, seed, weights, prefix."""
    import torch
    from transformers import Trainer, TrainingArguments, logging, set_seed

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    splits = read_files(Path(ask["data"]))
    set_seed(ask["seed"])
    classes = sorted(set(_labels(splits["train"])))
    model, tokenizer, collator = sequence_classifier(ask["weights"], len(classes))

    def encoded(rows: list[Row]) -> list[dict[str, Any]]:
        made = tokenizer(_texts(rows, ask["prefix"]), truncation=True, max_length=READS)
        ids = [classes.index(label) if label in classes else -1 for label in _labels(rows)]
        return [{**{name: made[name][i] for name in made}, "labels": ids[i]} for i in range(len(rows))]

    arguments = TrainingArguments(
        output_dir=str(Path(ask["place"]) / "trainer"),
        learning_rate=ask["lr"],
        num_train_epochs=ask["epochs"],
        per_device_train_batch_size=ask["batch"],
        bf16=ask["bf16"],
        seed=ask["seed"],
        **usual(),
    )
    running = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(splits["train"]),
        data_collator=collator,
        processing_class=tokenizer,
    )
    running.train()

    def answered(rows: list[Row]) -> list[str]:
        batches = [{name: value for name, value in one.items() if name != "labels"} for one in encoded(rows)]
        return [classes[int(i)] for i in running.predict(batches).predictions.argmax(-1)] if rows else []

    val, answers = _accuracy(answered(splits["val"]), splits["val"]), answered(splits["test"])
    return Answer(clock(), val, answers)


def usual() -> dict[str, Any]:
    """What TrainingArguments hold beside rate, epochs and batch: weight decay 0.01, linear, no warm-up, no files, no talk."""
    import torch

    return {
        "weight_decay": 0.01,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "per_device_eval_batch_size": 64,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def sequence_classifier(folder: str, classes: int) -> tuple[Any, Any, Any]:
    """(AutoModelForSequenceClassification in fp32, tokenizer, collator that pads each batch to its longest)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=classes, dtype="float32", local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model, tokenizer, DataCollatorWithPadding(tokenizer)


def setfit(ask: dict[str, Any], clock: Clock) -> Answer:
    """SetFit's own trainer with its defaults. `ask`: seed, weights, prefix, pooling."""
    import datasets
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from transformers import logging, set_seed

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    splits = read_files(Path(ask["data"]))
    set_seed(ask["seed"])
    body = Transformer(ask["weights"], max_seq_length=READS)
    width = body.get_embedding_dimension()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = SentenceTransformer(modules=[body, Pooling(width, ask["pooling"])], device=device)
    classes = sorted(set(_labels(splits["train"])))
    model = SetFitModel(model_body=encoder, model_head=LogisticRegression(), labels=classes)
    ids = [classes.index(label) for label in _labels(splits["train"])]
    train = datasets.Dataset.from_dict({"text": _texts(splits["train"], ask["prefix"]), "label": ids})
    arguments = TrainingArguments(
        output_dir=str(Path(ask["place"]) / "setfit"),
        seed=ask["seed"],
        show_progress_bar=False,
        report_to="none",
        save_strategy="no",
        **ask["options"],
    )
    running = Trainer(model=model, args=arguments, train_dataset=train)
    running.train()

    def answered(rows: list[Row]) -> list[str]:
        return [str(label) for label in model.predict(_texts(rows, ask["prefix"]), batch_size=64)] if rows else []

    val, answers = _accuracy(answered(splits["val"]), splits["val"]), answered(splits["test"])
    return Answer(clock(), val, answers)


SIDES = {"ours": ours, "tfidf": tfidf, "trainer": trainer, "setfit": setfit}


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    found = SIDES[asked["side"]](asked, Clock(asked["began"]))
    (Path(asked["place"]) / "answer.json").write_text(json.dumps(vars(found)))
