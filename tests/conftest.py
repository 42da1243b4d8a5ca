"""What holds for every test: hypothesis draws the same examples each time, the cache is the test's own, threads are few."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from acclimate.cli.main import main
from acclimate.core.seeds import generator, torch_seeded
from acclimate.data.table import Table
from acclimate.engine.watcher import Watcher

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")
os.environ.setdefault("OMP_NUM_THREADS", "1")


class Heard(Watcher):
    """Keeps what is said in `lines`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session, so that tests share frozen activations as runs do."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ACCLIMATE_CACHE"] = str(folder)
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """`cli(line, stdin)`: (stdout, stderr, exit code) of a command line."""

    def call(line: str, stdin: bytes = b"") -> tuple[str, str, int]:
        monkeypatch.setattr(sys, "argv", ["acclimate", *shlex.split(line)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = (text.decode("utf-8", "surrogateescape") for text in capfdbinary.readouterr())
        assert "Traceback" not in err
        return out, err, int(left.value.code or 0)

    return call


def write_digits(folder: Path, classes: int, each: int, first: int = 0) -> Path:
    """Real handwritten digits (scikit-learn's, 8 x 8), enlarged to 32 px, as class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name in range(classes):
        rows = np.flatnonzero(digits.target == name)[first : first + each]
        (folder / str(name)).mkdir(parents=True)
        for row in rows:
            picture = Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).resize((32, 32))
            picture.save(folder / str(name) / f"{row}.png")
    return folder


def write_halves(digits: Path, folder: Path) -> None:
    """Every other picture under `a`, the rest under `b`: the first and the second half would be of other hands."""
    files = sorted(digits.rglob("*.png"), key=lambda path: int(path.stem))
    for side, part in (("a", files[::2]), ("b", files[1::2])):
        for path in part:
            new = folder / side / path.parent.name / path.name
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(path.read_bytes())


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes with 24 training and 8 test pictures each."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    write_digits(folder / "train", 4, 24)
    write_digits(folder / "test", 4, 8, first=24)
    return folder


TINY = "random:timm:test_efficientnet"
"""A real architecture of 0.4 million parameters with random weights."""

WORDS = {
    "sea": "wave tide salt ship harbour gull sail reef",
    "wood": "oak moss fern owl path leaf bark deer",
    "town": "tram street lamp square market bell roof crowd",
}
FILLER = ("the", "a", "of", "in", "near", "under", "old", "small", "then", "where", "some", "quiet")


def write_text_model(folder: Path, kind: str) -> Path:
    """A tiny `kind` ("bert" or "llama") of random weights with a tokenizer of whole words, as a folder like the hub's."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLER, *" ".join(WORDS.values()).split()]
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    shape = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    shape |= {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0}
    with torch_seeded("text model", kind):
        if kind == "bert":
            tokenizer.post_processor = TemplateProcessing(
                single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
            )
            model: Any = BertModel(BertConfig(**shape))
        else:
            model = LlamaModel(LlamaConfig(**shape, num_key_value_heads=1, bos_token_id=2, eos_token_id=3))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny text models."""
    home = tmp_path_factory.mktemp("models")
    return {kind: str(write_text_model(home / kind, kind)) for kind in ("bert", "llama")}


def sentences(each: int, labels: int = 1) -> Table:
    """Made-up sentences of three kinds, of unlike length, split into train, val and test; with several `labels`, lists of them."""
    draw, rows = generator("sentences"), []
    for place in range(each):
        for number, name in enumerate(WORDS):
            names = [name, *(list(WORDS)[(number + 1) % 3] for _ in range(labels - 1) if place % 2)]
            said = [str(draw.choice(WORDS[one].split())) for one in names for _ in range(2)]
            text = " ".join(draw.permutation([*said, *draw.choice(FILLER, int(draw.integers(3, 12)))]))
            split = "test" if place % 5 == 0 else "val" if place % 5 == 1 else "train"
            rows.append({"sample": text, "target": names if labels > 1 else name, "split": split})
    return Table(pa.Table.from_pylist(rows), "text", "made up", "sentences")


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Table:
    """Sentences that a fit reads instead of what it is given."""
    table = sentences(20)
    monkeypatch.setattr("acclimate.verbs.job.read_data", lambda data, options: table)
    return table


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT of 3 blocks, 32 wide, with random weights and word pieces."""
    from texts import tiny

    return tiny("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("gpt2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from texts import tiny

    return tiny("qwen2", tmp_path_factory.mktemp("models") / "qwen2")


@pytest.fixture(scope="session")
def texts_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of train.csv and test.csv: 3 classes with 24 training and 8 test texts each."""
    from texts import write_texts

    return write_texts(tmp_path_factory.mktemp("data") / "texts")
