"""Harmonising: filters that make two sides alike, which of them is taken, and that the model shows samples so ever after."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Heard, write_digits, write_halves
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.core.run import Run
from acclimate.engine.watcher import Watcher
from acclimate.models.pictures import Pictures
from acclimate.tasks.image_inputs import ImageInputs
from acclimate.tasks.picture_filters import FILTERS as OF_PICTURES
from acclimate.tasks.text_filters import FILTERS as OF_TEXTS
from acclimate.verbs import harmonise
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import fit as remembering_fit
from acclimate.verbs.job import Job, prepare
from acclimate.verbs.predict import predict

fit = functools.partial(remembering_fit, fresh=True)
QUICK: dict[str, Any] = {"model": TINY, "size": 32, "precision": "fp32", "strategy": "probe"}
CANVAS, CORNER = 96, (60, 50)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("plain") / "digits", 3, 60)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other digits, each small in the corner of a large picture."""
    folder = write_digits(tmp_path_factory.mktemp("far") / "digits", 3, 50, first=60)
    for path in folder.rglob("*.png"):
        canvas = Image.new("RGB", (CANVAS, CANVAS))
        canvas.paste(Image.open(path).convert("RGB"), CORNER)
        canvas.save(path)
    return folder


def job(data: Path, target: Path, **more: Any) -> Job:
    return prepare(data, Options.check({**QUICK, "target": str(target), **more}), Watcher())


def accuracy(run: Run, data: Path) -> float:
    return float(evaluate(run.path, data)["metrics"]["accuracy"]["value"])  # type: ignore[index]


# --- filters


@pytest.mark.parametrize("name", OF_PICTURES)
@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 9), flat=st.booleans())
def test_a_filter_makes_a_picture_of_any_picture(name: str, width: int, height: int, seed: int, flat: bool) -> None:
    drawn = np.random.default_rng(seed).integers(0, 256, (1, 1, 3) if flat else (height, width, 3))
    image = Image.fromarray(np.broadcast_to(drawn, (height, width, 3)).astype(np.uint8))
    found = OF_PICTURES[name].apply(image)
    assert found.mode == "RGB"
    assert min(found.size) >= 1


def test_content_is_what_stands_out_in_a_square_of_the_borders_colour() -> None:
    image = Image.new("RGB", (50, 40), (10, 20, 200))
    image.paste((250, 250, 0), (30, 5, 36, 15))
    found = OF_PICTURES["content"].apply(image)
    assert found.size == (10, 10)
    assert found.getpixel((5, 5)) == (250, 250, 0)
    assert found.getpixel((0, 5)) == found.getpixel((9, 5)) == (10, 20, 200)
    assert np.array_equal(OF_PICTURES["content"].apply(found), found)


def test_edges_are_lines_where_the_light_changes() -> None:
    image = Image.new("RGB", (60, 60), (200, 200, 200))
    image.paste((20, 20, 20), (20, 20, 40, 40))
    found = np.asarray(OF_PICTURES["edges"].apply(image).convert("L"))
    assert set(np.unique(found)) == {0, 255}
    assert found[30, 30] == found[5, 5] == 255
    assert all((found[30, place - 2 : place + 3] == 0).any() for place in (20, 40))


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("plain", "<p>Good&nbsp;<b>book</b></p> **very** see https://a.org/x?y", "Good book very see"),
        ("plain", "a < b and snake_case stay", "a < b and snake_case stay"),
        ("normal", "“ﬁne” … it’s", '"fine" ... it\'s'),
        ("lower", "GREAT Film", "great film"),
        ("short", "word " * 100, " ".join(["word"] * 32)),
    ],
)
def test_filters_of_texts(name: str, text: str, shown: str) -> None:
    assert OF_TEXTS[name].apply(text) == shown


@pytest.mark.parametrize("name", OF_TEXTS)
@given(text=st.text())
def test_a_filter_of_texts_takes_any_text_and_done_twice_is_done_once(name: str, text: str) -> None:
    once = OF_TEXTS[name].apply(text)
    assert isinstance(once, str)
    if name in ("short", "normal"):
        assert OF_TEXTS[name].apply(once) == once


def test_a_text_of_which_nothing_would_be_left_stays(texts_data: Path, tiny_bert: Path) -> None:
    asked = Options.check({"model": str(tiny_bert), "strategy": "probe", "precision": "fp32"})
    inputs = prepare(texts_data, asked, Watcher()).dataset.inputs
    (shown,) = inputs.filtered("plain").prepare_all(["<br>"], 1)
    (own,) = inputs.prepare_all(["<br>"], 1)
    assert torch.equal(shown["ids"], own["ids"])


def test_inputs_of_another_filter_have_another_key() -> None:
    inputs = ImageInputs(Pictures(32))
    keys = [inputs.key, *(inputs.filtered(name).key for name in OF_PICTURES)]
    assert len(set(keys)) == len(keys)


# --- which is taken


def test_pictures_of_small_things_are_cropped_on_both_sides(plain: Path, far: Path, tmp_path: Path) -> None:
    asked = {"target": str(far), "out": tmp_path / "run", **QUICK}
    run = fit(plain, **asked)
    assert isinstance(run, Run)
    told = run.metrics()["target"]["harmonised"]
    assert (told["filter"], told["both"]) == ("content", True)
    assert told["mmd"][1] < harmonise.NEARER * told["mmd"][0]
    without = fit(plain, **{**asked, "out": tmp_path / "without", "harmonise": "none"})
    assert isinstance(without, Run)
    assert accuracy(run, far) > accuracy(without, far) + 0.2


def test_halves_of_one_domain_stay_as_they_are(plain: Path, tmp_path: Path) -> None:
    write_halves(plain, tmp_path)
    found = harmonise.choice(job(tmp_path / "a", tmp_path / "b"), Watcher())
    assert found is not None
    assert found.filter == ""
    assert "alike enough" in found.why


def test_by_a_few_samples_nothing_is_judged(plain: Path, far: Path, tmp_path: Path) -> None:
    few = [str(path) for path in sorted(far.rglob("*.png"))[:20]]
    run = fit(plain, target=few, out=tmp_path / "run", **QUICK)
    assert isinstance(run, Run)
    told = run.metrics()["target"]["harmonised"]
    assert told["filter"] == ""
    assert "too few" in told["why"]


def test_what_costs_the_source_too_much_is_not_for_the_model() -> None:
    right, wrong = np.ones(100), np.r_[np.zeros(20), np.ones(80)]
    assert harmonise.harmless(right, right)
    assert not harmonise.harmless(wrong, right)
    few = np.r_[np.zeros(3), np.ones(97)]
    assert harmonise.harmless(few, right)
    assert harmonise.telling(wrong, right, ["a", "b"])
    assert not harmonise.telling(np.r_[np.zeros(40), np.ones(60)], right, ["a", "b"])


def test_what_the_target_should_not_lose_joins_training_alone(plain: Path, far: Path) -> None:
    begun = job(plain, far, harmonise="edges")
    found = harmonise.choice(begun, Watcher())
    assert found == harmonise.Harmony("edges", False, "as asked")
    made = harmonise.harmonised(begun, found, Watcher())
    n, train = len(begun.dataset), begun.rows("train")
    assert made.preprocessing == begun.preprocessing
    assert made.samples == begun.samples
    assert len(made.rows("train")) == 2 * len(train)
    assert np.array_equal(made.rows("val"), begun.rows("val"))
    assert made.target is begun.target
    copies = made.rows("train")[len(train) :]
    assert np.array_equal(made.dataset.same[copies], made.dataset.same[train])
    assert not np.isin(made.dataset.digests[copies], made.dataset.digests[:n]).any()
    drawn = begun.dataset.inputs.filtered("edges")
    for row, copy in zip(train[:5], copies[:5], strict=True):
        (shown,) = drawn.prepare_all([begun.dataset.table.raw(int(row))], 1)
        assert torch.equal(made.dataset.sample(int(copy)), shown)
        assert torch.equal(made.dataset.sample(int(row)), begun.dataset.sample(int(row)))


@pytest.mark.parametrize("strategy", ["probe", "last:1", "full"])
def test_every_way_to_train_reads_copies(strategy: str, plain: Path, far: Path, tmp_path: Path) -> None:
    asked = {**QUICK, "strategy": strategy, "target": str(far), "adapt": "none"}
    asked |= {} if strategy == "probe" else {"epochs": 1}
    runs = [fit(plain, harmonise=name, out=tmp_path / name, **asked) for name in ("edges", "none")]
    mine, other = (load_file(run.file("model.safetensors")) for run in runs)  # type: ignore[union-attr]
    assert any(not torch.equal(mine[name], other[name]) for name in mine)


def test_a_plan_says_how_samples_would_be_shown(plain: Path, far: Path) -> None:
    watcher = Heard()
    fit(plain, target=str(far), harmonise="edges", dry_run=True, watcher=watcher, **QUICK)
    assert any(line.startswith("harmonised: ") and "(edges): as asked" in line for line in watcher.lines)


# --- ever after


def test_a_saved_model_shows_new_samples_as_it_learned_them(plain: Path, far: Path, tmp_path: Path) -> None:
    run = fit(plain, target=str(far), harmonise="content", out=tmp_path / "run", **QUICK)
    assert isinstance(run, Run)
    path = next(far.rglob("*.png"))
    OF_PICTURES["content"].apply(Image.open(path).convert("RGB")).save(tmp_path / "cropped.png")
    far_away, cropped = predict(run.path, [path, tmp_path / "cropped.png"])
    assert far_away["label"] == cropped["label"]
    assert far_away["confidence"] == pytest.approx(cropped["confidence"], abs=1e-5)


def test_a_replay_shows_samples_as_the_run_did(plain: Path, far: Path, tmp_path: Path) -> None:
    run = fit(plain, target=str(far), out=tmp_path / "run", **QUICK)
    assert isinstance(run, Run)
    recipe = run.file("recipe.yaml").read_text()
    assert "filter: content" in recipe
    (tmp_path / "recipe.yaml").write_text(recipe.replace("filter: content", "filter: contrast"))
    again = fit(recipe=run.file("recipe.yaml"), out=tmp_path / "again")
    other = fit(recipe=tmp_path / "recipe.yaml", out=tmp_path / "other")
    mine, same, changed = (load_file(one.file("model.safetensors")) for one in (run, again, other))  # type: ignore[union-attr]
    assert all(torch.equal(mine[name], same[name]) for name in mine)
    assert any(not torch.equal(mine[name], changed[name]) for name in mine)


def test_texts_with_markup_are_read_without(tiny_bert: Path, texts_data: Path, tmp_path: Path) -> None:
    rows = (texts_data / "test.csv").read_text().splitlines()
    pages = [rows[0], *(f'"<p>{text}</p>",{label}' for text, label in (row.rsplit(",", 1) for row in rows[1:]))]
    (tmp_path / "pages.csv").write_text("\n".join(pages).replace('""', ""))
    asked = {"model": str(tiny_bert), "strategy": "probe", "precision": "fp32", "harmonise": "plain"}
    run = fit(texts_data, target=str(tmp_path / "pages.csv"), out=tmp_path / "run", **asked)
    assert isinstance(run, Run)
    one, other = predict(run.path, ["<p>a good one</p>", "a good one"])
    assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)  # two rows of a batch need not round alike


@pytest.mark.parametrize(
    ("options", "about"),
    [({"harmonise": "cotent"}, "content"), ({"harmonise": "plain"}, "is no way to show pictures")],
)
def test_a_name_that_is_no_filter_of_these_samples(
    options: dict[str, Any], about: str, plain: Path, far: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=about):
        fit(plain, target=str(far), out=tmp_path / "run", **options, **QUICK)
    assert not (tmp_path / "run").exists()


def test_without_a_target_there_is_nothing_to_harmonise(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no effect without a target"):
        fit(plain, harmonise="content", out=tmp_path / "run", **QUICK)
