"""Texts as tokens: what is kept of long ones, pairs, windows, what is said about them; and the baseline that stands beside."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate.core.errors import UserError
from acclimate.models.texts import Texts
from acclimate.tasks import text_baseline
from acclimate.tasks.text_inputs import TextInputs

pytest.importorskip("tokenizers")
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "and",
    "then",
    "some",
    "more",
    "words",
    "follow",
    "here",
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """A tokenizer of whole words, with marks around a text and between two."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return Texts(size=8, most=16, vocabulary=len(tokens), folder=folder)


def ids(words: str) -> list[int]:
    return [4 + WORDS.index(word) for word in words.split()]


def prepared(shown: Texts, *raws: object, long: str = "truncate") -> list:
    return TextInputs(replace(shown, long=long)).prepare_all(list(raws), 1)


LONG = "the quick brown fox jumps over lazy dog and then some more"


def test_the_end_of_a_long_text_is_cut_off_and_counted(shown: Texts) -> None:
    long, short = prepared(shown, LONG, "the fox")
    assert long["ids"].tolist() == [2, *ids("the quick brown fox jumps over"), 3]
    assert long["told"].tolist()[:3] == [14, 2, 0] and short["told"].tolist() == [4, 2, 0, 7]


def test_the_middle_of_a_long_text_can_be_cut_out(shown: Texts) -> None:
    (long,) = prepared(shown, LONG, long="head+tail")
    assert long["ids"].tolist() == [2, *ids("the dog and then some more")[:1], *ids("dog and then some more"), 3]


def test_a_long_text_can_be_read_in_windows(shown: Texts) -> None:
    inputs = TextInputs(replace(shown, long="window"))
    samples = inputs.prepare_all([LONG, "the fox"], 1)
    assert samples[0]["windows"].tolist() == [8, 8] and samples[1]["windows"].tolist() == [4]
    batch = inputs.collate(samples)
    assert batch["input_ids"].shape == (2, 2, 8) and batch["attention_mask"].sum((1, 2)).tolist() == [16, 4]
    read = [token for token in batch["input_ids"][0].flatten().tolist() if token > 3]
    assert read == ids(LONG), "every word is in one window"


def test_a_batch_is_padded_to_its_longest_on_the_right(shown: Texts) -> None:
    batch = TextInputs(shown).collate(prepared(shown, "the fox", "dog"))
    assert batch["input_ids"].tolist() == [[2, *ids("the fox"), 3], [2, *ids("dog"), 3, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_a_pair_is_told_apart_by_marks_and_types(shown: Texts) -> None:
    inputs = TextInputs(shown)
    batch = inputs.collate(inputs.prepare_all([("the fox", "dog")], 1))
    assert batch["input_ids"].tolist() == [[2, *ids("the fox"), 3, *ids("dog"), 3]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_what_is_no_text_says_so_in_its_place(shown: Texts) -> None:
    one, two, three = prepared(shown, "fox", b"bytes", "dog")
    assert isinstance(two, str) and one["ids"].tolist() == [2, *ids("fox"), 3] and three["ids"][1] == ids("dog")[0]


def test_long_texts_and_a_strange_language_are_named(shown: Texts) -> None:
    inputs = TextInputs(shown)
    named = list(zip(["a", "b", "c"], inputs.prepare_all([LONG, "der Fuchs", "ein Hund"], 1), strict=True))
    long, language = inputs.findings(named)
    assert (long.rule, long.count, long.samples) == ("long texts", 1, ["a"]) and "27.3%" in long.what
    assert language.rule == "language" and "25.0% unknown" in language.what
    assert inputs.findings([("a", one) for one in inputs.prepare_all(["the fox"], 1)]) == []


@pytest.mark.parametrize(
    ("text", "named"), [("Съешь же ещё этих мягких булок", True), ("快速的棕色狐狸跳过了懒狗", False)]
)
def test_an_alphabet_that_is_read_letter_by_letter_is_named(tmp_path: Path, text: str, named: bool) -> None:
    """One of two bytes a letter too; a sign that stands for a word may well be a token."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    made = Tokenizer(
        models.WordLevel({letter: i for i, letter in enumerate(["?", *dict.fromkeys(text)])}, unk_token="?")
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.save(str(tmp_path / "tokenizer.json"))
    inputs = TextInputs(Texts(size=99, most=99, vocabulary=len(made.get_vocab()), folder=tmp_path))
    found = inputs.findings([("a", one) for one in inputs.prepare_all([text], 1)])
    assert [one.rule for one in found] == ["language"] * named
    assert not named or "0.0% unknown tokens, 1.0 letters a token" in found[0].what


@pytest.mark.parametrize("change", [{"long": "window"}, {"size": 9}, {"prefix": "query: "}])
def test_what_changes_the_tokens_changes_the_key(shown: Texts, change: dict) -> None:
    assert TextInputs(replace(shown, **change)).key != TextInputs(shown).key
    assert TextInputs(replace(shown, most=99)).key == TextInputs(shown).key


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(shown: Texts) -> None:
    with pytest.raises(UserError, match="do not belong together"):
        TextInputs(replace(shown, vocabulary=5)).prepare_all(["fox"], 1)


def test_a_tokenizer_that_knows_far_less_than_the_model_is_named(shown: Texts) -> None:
    named = [("a", one) for one in prepared(shown, "the fox")]
    known = shown.tokenizer().get_vocab_size()
    assert TextInputs(replace(shown, vocabulary=known + 8)).findings(named) == []
    (found,) = TextInputs(replace(shown, vocabulary=3 * known)).findings(named)
    assert found.rule == "vocabulary" and f"knows {known} tokens, and the model {3 * known}" in found.what


@pytest.mark.parametrize("several", [False, True])
def test_the_baseline_learns_words(several: bool) -> None:
    pytest.importorskip("sklearn")
    texts = [f"{word} number {i}" for i in range(30) for word in ("good", "bad", "plain")]
    codes = np.tile([0, 1, 2], 30)
    targets = np.eye(3, dtype=np.float32)[codes] if several else codes
    seen: list[float] = []

    def judge(predictions: np.ndarray) -> float:
        seen.append(float(-np.log(predictions[np.arange(9), codes[:9]] + 1e-9).mean()))
        return seen[-1]

    predict = text_baseline.fitted(texts, targets, [f"{text} again" for text in texts[:9]], judge)
    found = predict(["so bad", "quite good"])
    assert found.shape == (2, 3) and found.argmax(1).tolist() == [1, 0]
    falls = [after < before for before, after in pairwise(seen)]
    assert len(seen) > 1 and all(falls[:-1]) and (not falls[-1] or len(seen) == len(text_baseline.PENALTIES))


def test_the_tokens_that_occur(shown: Texts) -> None:
    found = TextInputs.ids(prepared(shown, "fox", "fox dog"))
    assert torch.equal(found, torch.tensor(sorted([2, 3, *ids("fox dog")])))


def test_the_tokenizer_travels(shown: Texts, tmp_path: Path) -> None:
    for name, content in shown.files().items():
        (tmp_path / name).write_bytes(content)
    assert (
        TextInputs(Texts.of({k: v for k, v in shown.json().items() if k != "kind"}, tmp_path)).key
        == TextInputs(shown).key
    )
