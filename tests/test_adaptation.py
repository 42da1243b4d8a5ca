"""`fit --target` from end to end: what it leaves, what it says, what it must not read, and what it refuses."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, Heard, write_digits, write_halves
from PIL import Image, ImageOps
from safetensors.torch import load_file

from acclimate.core.errors import UserError
from acclimate.core.recipe import Options, Recipe
from acclimate.core.run import Run
from acclimate.engine.phase import Audit, Compare, Comparison, Outcome, Phase
from acclimate.engine.watcher import Watcher
from acclimate.strategies import adaptation
from acclimate.strategies.strategy import Context
from acclimate.verbs.evaluate import evaluate
from acclimate.verbs.fit import Plan
from acclimate.verbs.fit import fit as remembering_fit

fit = functools.partial(remembering_fit, fresh=True)
QUICK: dict[str, Any] = {"model": TINY, "size": 32, "precision": "fp32", "strategy": "probe"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("plain") / "digits", 3, 60)


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other digits, black on white, as class folders."""
    folder = write_digits(tmp_path_factory.mktemp("dark") / "digits", 3, 40, first=60)
    for path in folder.rglob("*.png"):
        ImageOps.invert(Image.open(path)).save(path)
    return folder


@pytest.fixture(scope="module")
def unlabelled(dark: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures by the same names, in folders that are no classes."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for path in dark.rglob("*.png"):
        new = folder / f"part-{int(path.stem) % 2}" / path.name
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(path.read_bytes())
    return folder


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.file("model.safetensors"))


WITHOUT = [name for name in adaptation.known() if not adaptation.needs_labels(name)]


@pytest.mark.parametrize("name", [*WITHOUT, "mmd:1", "dann:3"])
def test_every_adaptation_reaches_its_end(name: str, plain: Path, dark: Path, tmp_path: Path) -> None:
    run = fit(plain, target=str(dark), adapt=name, out=tmp_path / "run", **QUICK)
    assert isinstance(run, Run)
    assert 0 <= run.metrics()["metrics"]["accuracy"]["value"] <= 1
    told = run.metrics()["target"]
    assert told["adapted"] is run.metrics()["chosen"].startswith("adapt")
    assert all(sum(look["predicted"].values()) == pytest.approx(1) for look in told["looks"])
    phases = [event["phase"] for event in run.events() if event["event"] == "outcome"]
    stem = name.partition(":")[0]
    if stem not in ("auto", "none"):
        assert stem in (phases[-1]["align"], phases[-1]["objective"], {"target": "adabn"}.get(phases[-1]["restate"]))
    assert any("labels of the target" in json.dumps(event) for event in run.events() if event["event"] == "begin")


def test_labels_of_the_target_are_not_read(plain: Path, dark: Path, unlabelled: Path, tmp_path: Path) -> None:
    runs = [
        fit(plain, target=str(target), adapt="shot", out=tmp_path / target.name, **QUICK)
        for target in (dark, unlabelled)
    ]
    # the rows lie in another order, which is all that may differ
    one, two = (load_file(run.file("checkpoint/phase-1.safetensors")) for run in runs)
    assert torch.allclose(one["net/head.linear.weight"], two["net/head.linear.weight"], atol=1e-4)


def test_the_targets_own_test_samples_are_not_read(plain: Path, digits: Path, tmp_path: Path) -> None:
    plan = fit(plain, target=str(digits), adapt="coral", dry_run=True, **QUICK)
    assert isinstance(plan, Plan)
    assert plan.job.target is not None
    assert len(plan.job.target.rows) == 4 * 24


def test_batch_norm_gets_the_statistics_of_the_target(plain: Path, dark: Path, tmp_path: Path) -> None:
    runs = [fit(plain, target=str(dark), adapt=name, out=tmp_path / name, **QUICK) for name in ("none", "adabn")]
    before, after = map(weights, runs)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert all("running" in name or name.startswith("head") or "num_batches" in name for name in moved)
    (first, *_) = (name for name in moved if name.endswith("running_mean"))
    assert not torch.allclose(before[first], after[first], atol=1e-3)


def test_batch_norm_that_is_not_there_cannot_be_moved(texts_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i}" for i in range(12)))
    with pytest.raises(UserError, match="has none"):
        fit(texts_data, target=str(tmp_path / "lines.txt"), adapt="adabn", model=str(tiny_bert), out=tmp_path / "run")


def test_an_adapted_run_is_another_model_than_the_source_only_one(plain: Path, dark: Path, tmp_path: Path) -> None:
    one = fit(plain, out=tmp_path / "one", **QUICK)
    none = fit(plain, target=str(dark), adapt="none", out=tmp_path / "none", **QUICK)
    other = fit(plain, target=str(dark), adapt="standardise", out=tmp_path / "other", **QUICK)
    first, same, moved = (weights(run)["head.linear.weight"] for run in (one, none, other))
    assert torch.equal(first, same)
    assert not torch.allclose(first, moved, atol=1e-4)


def test_the_same_again_is_the_same_also_in_pieces(plain: Path, dark: Path, tmp_path: Path) -> None:
    """Stopped in the middle of a step of the adaptation, and gone on with."""
    asked = {**QUICK, "target": str(dark), "adapt": "cdan"}
    whole = fit(plain, out=tmp_path / "whole", **asked)

    class Stop(Watcher):
        def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
            if step == 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(plain, out=tmp_path / "part", watcher=Stop(), checkpoint_every=0, **asked)
    part = fit(plain, out=tmp_path / "part", resume=True, **asked)
    assert any(event["event"] == "resumed" for event in part.events())
    one, two = weights(whole), weights(part)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def few_labels(dark: Path, tmp_path: Path) -> Path:
    """A table with labels of 24 of the target's pictures, and of one that is none of them."""
    files = [path for name in ("0", "1", "2") for path in sorted((dark / name).iterdir())[:8]]
    Image.new("L", (32, 32), 77).save(tmp_path / "other.png")
    rows = [f"{path},{path.parent.name}" for path in files] + [f"{tmp_path / 'other.png'},1"]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("adapt", [None, "standardise", "labels"])
def test_labels_of_the_target_decide_and_are_learned_from(
    adapt: str | None, plain: Path, unlabelled: Path, few_labels: Path, tmp_path: Path
) -> None:
    watcher = Heard()
    asked = {**QUICK, "target": str(unlabelled), "target_labels": str(few_labels), "adapt": adapt}
    run = fit(plain, out=tmp_path / "run", watcher=watcher, **asked)
    assert isinstance(run, Run)
    audits = {name: value for name, value in run.decisions().items() if name.startswith("audit")}
    alone = any("no adaptation without labels is tried" in line for line in watcher.lines) or adapt == "labels"
    assert [len(value) for value in audits.values()] == [24] * (2 if alone else 3)
    assert any("of the target's 24 labels right" in line for line in watcher.lines)
    (begin,) = (event for event in run.events() if event["event"] == "begin")
    assert any("1 others are none of the target's" in finding["what"] for finding in begin["findings"])
    right = run.metrics()["target"]["right"]
    assert right == {
        name: {"right": sum(scores), "of": 24} for name, scores in zip(adaptation.TRIED, audits.values(), strict=False)
    }
    known = evaluate(run.path, few_labels)["learned"]
    assert known == (24 if run.metrics()["chosen"] == "adapt: labels" else 0)
    found = evaluate_on(run, few_labels)
    source = sum(audits["audit 0"]) / 24
    assert found >= source or run.metrics()["chosen"] == "probe"
    assert adapt != "labels" or run.metrics()["chosen"] == "adapt: labels"


def test_where_no_drop_is_expected_labels_judge_no_adaptation_without_them(plain: Path, tmp_path: Path) -> None:
    """Half of the pictures, and labels of 24 of the other half."""
    files = sorted(plain.rglob("*.png"))
    rows = {half: [f"{path},{path.parent.name}" for path in files[half::2]] for half in (0, 1)}
    for name, lines in {"source": rows[0], "target": rows[1], "labels": rows[1][::3]}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,label", *lines]))
    asked = {"target": str(tmp_path / "target.csv"), "target_labels": str(tmp_path / "labels.csv"), "harmonise": "none"}
    watcher = Heard()
    run = fit(tmp_path / "source.csv", out=tmp_path / "run", watcher=watcher, **{**QUICK, **asked})
    assert isinstance(run, Run)
    assert set(run.metrics()["target"]["right"]) == {"source only", "with labels"}
    assert any("no adaptation without labels is tried" in line for line in watcher.lines)


def evaluate_on(run: Run, data: Path) -> float:
    return float(evaluate(run.path, data)["metrics"]["accuracy"]["value"])


@pytest.mark.parametrize(("kept", "about"), [(0, "none of which is one of"), (12, "too few to tell")])
def test_labels_that_say_nothing_are_refused(
    kept: int, about: str, plain: Path, dark: Path, few_labels: Path, tmp_path: Path
) -> None:
    head, *rows = few_labels.read_text().splitlines()
    (tmp_path / "some.csv").write_text(
        "\n".join(
            [head, *rows[:kept], *(f"{path},{i % 3}" for i, path in enumerate(sorted(plain.rglob("*.png"))[:30]))]
        )
    )
    with pytest.raises(UserError, match=about):
        fit(plain, target=str(dark), target_labels=str(tmp_path / "some.csv"), out=tmp_path / "run", **QUICK)


def test_classes_that_the_source_does_not_have_are_named(
    plain: Path, dark: Path, few_labels: Path, tmp_path: Path
) -> None:
    few_labels.write_text(few_labels.read_text().replace(",2", ",two"))
    with pytest.raises(UserError, match="'two'"):
        fit(plain, target=str(dark), target_labels=str(few_labels), out=tmp_path / "run", **QUICK)


@pytest.mark.parametrize(
    ("before", "after", "p"),
    [
        ((0, 0, 0, 0, 0), (1, 1, 1, 1, 1), 1 / 32),
        ((1, 0, 0, 0), (0, 1, 1, 1), 5 / 16),
        ((1, 1), (1, 1), 1),
        ((1, 1), (0, 1), 1),
    ],
)
def test_the_exact_test_of_labels(before: tuple[float, ...], after: tuple[float, ...], p: float) -> None:
    assert adaptation.chance(after, before) == pytest.approx(p)


def test_what_figures_do_not_say_is_told(cli: Any, plain: Path, dark: Path, tmp_path: Path) -> None:
    line = f"fit {plain} --target {dark} --adapt standardise --out {tmp_path / 'run'} --model {TINY} --size 32"
    out, err, code = cli(f"{line} --precision fp32 --strategy probe")
    assert code == 0
    assert f"the model is adapted to {dark}; these figures are of the source" in out
    assert "on validation of the source" in err
    assert "ended below" not in err


def test_auto_leaves_alone_what_is_not_told_apart(plain: Path, tmp_path: Path) -> None:
    """Every other picture against the rest."""
    write_halves(plain, tmp_path)
    watcher = Heard()
    run = fit(tmp_path / "a", target=str(tmp_path / "b"), out=tmp_path / "run", watcher=watcher, **QUICK)
    phases = [event["name"] for event in run.events() if event["event"] == "outcome"]
    assert phases == ["probe"]
    assert any(line.startswith("not adapted: ") for line in watcher.lines)


SEEN = Comparison(
    p=0.001,
    auc=0.99,
    accuracy=0.95,
    drop=0.3,
    least=0.258,
    kind="looks",
    source=(0.25,) * 4,
    predicted=(0.4, 0.3, 0.2, 0.1),
    apart=0.9,
    entropy=(0.5,) * 4,
    effective=0.01,
)


@pytest.mark.parametrize(
    ("drop", "least", "about"),
    [
        (0.61757, 0.578, "a drop of at least 57 points"),
        (0.12, 0.004, "a drop of 12 points"),
        (0.09, 0.08, "a drop of 9 points"),
    ],
)
def test_the_least_drop_is_told_rounded_down(drop: float, least: float, about: str) -> None:
    assert f"; {about} expected" in adaptation.told(replace(SEEN, drop=drop, least=least))


@pytest.mark.parametrize(
    ("changed", "declared", "reason"),
    [
        ({}, False, ""),
        ({"p": 0.02}, False, "differ too little"),
        ({"auc": 0.7}, False, "differ too little"),
        ({"drop": 0.09}, False, "no large drop"),
        ({"kind": "shares"}, False, "class shares differ"),
        ({"predicted": (0.8, 0.1, 0.05, 0.05)}, False, "--target-shares"),
        ({"predicted": (0.8, 0.1, 0.05, 0.05)}, True, ""),
    ],
)
def test_auto_adapts_only_where_all_speaks_for_it(changed: dict[str, Any], declared: bool, reason: str) -> None:
    found = adaptation.reason_against(Comparison.of({**SEEN.json(), **changed}), declared)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({"adapt": "corel"}, "coral"),
        ({"adapt": "coral:2"}, "takes no number"),
        ({"adapt": "dann:0"}, "whole number from 1"),
        ({"target": "nowhere"}, "is not there"),
        ({"target_labels": "nowhere"}, "is not there"),
        ({"adapt": "labels"}, "give some, with --target-labels"),
        ({"target_shares": "nowhere"}, "is not there"),
        ({"target_shares": {"0": 0.5, "1": 0.6}}, "--target-shares .*: shares that sum to 1.1"),
        ({"target_shares": {"0": 0.5, "zero": 0.5}}, "--target-shares .*: class 'zero'"),
        ({"target_shares": "0,lots\n1,1\n"}, "--target-shares .*: 0: 'lots' is no share"),
        ({"target_shares": "1,1\n0,\n"}, "--target-shares .*: 0: '' is no share"),
        ({"target_shares": "a b\nc d\n"}, "is no file of class shares"),
        ({"adapt": "coral", "target_shares": "balanced"}, "has no effect with --adapt coral"),
        ({"adapt": "none", "target_shares": "balanced"}, "has no effect with --adapt none"),
    ],
)
def test_wrong_input_is_one_error(options: dict[str, Any], about: str, plain: Path, dark: Path, tmp_path: Path) -> None:
    shares = options.get("target_shares")
    if isinstance(shares, dict) or "\n" in str(shares):
        (tmp_path / "shares").write_text(json.dumps(shares) if isinstance(shares, dict) else str(shares))
        options = {"target_shares": str(tmp_path / "shares")}
    with pytest.raises(UserError, match=about):
        fit(plain, out=tmp_path / "run", **{**QUICK, "target": str(dark), **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("balanced", (1 / 3, 1 / 3, 1 / 3)),
        ("source", (1 / 3, 1 / 3, 1 / 3)),
        ('{"0": 0.5, "2": 0.5}', (0.5, 0.0, 0.5)),
        ("class,share\n0,0.25\n1,0.25\n2,0.5\n", (0.25, 0.25, 0.5)),
        ("0\t1\n", (1.0, 0.0, 0.0)),
        ({"0": 0.5, "2": 0.5}, (0.5, 0.0, 0.5)),
    ],
)
def test_shares_are_declared_by_word_or_file(
    said: Any, found: tuple[float, ...], plain: Path, dark: Path, tmp_path: Path
) -> None:
    if isinstance(said, str) and said not in ("balanced", "source"):
        (tmp_path / "shares.csv").write_text(said)
        said = str(tmp_path / "shares.csv")
    plan = fit(plain, target=str(dark), target_shares=said, adapt="pseudo", dry_run=True, **QUICK)
    assert isinstance(plan, Plan)
    assert plan.phases[-1].shares == pytest.approx(found, abs=0.01)


def test_shares_in_memory_are_recorded(plain: Path, dark: Path, tmp_path: Path) -> None:
    shares = {"0": 0.5, "1": 0.25, "2": 0.25}
    asked = {**QUICK, "target": str(dark), "adapt": "pseudo", "harmonise": "none"}
    run = fit(plain, target_shares=shares, out=tmp_path / "run", **asked)
    assert isinstance(run, Run)
    again = fit(recipe=run.file("recipe.yaml"), out=tmp_path / "again")
    assert isinstance(again, Run)
    assert Recipe.read(again.file("recipe.yaml")).asked["target_shares"] == shares
    assert again.metrics()["metrics"] == run.metrics()["metrics"]
    with pytest.raises(UserError, match=r"--target-shares .*: shares that sum to 1\.1"):
        fit(plain, target_shares={"0": 0.5, "1": 0.6}, out=tmp_path / "more", **asked)


def test_no_more_stages_learn_than_there_are(plain: Path, dark: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more stages than the model has"):
        fit(plain, target=str(dark), adapt="dann:99", out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_what_needs_a_target_says_so(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--adapt coral: has no effect without a target"):
        fit(plain, out=tmp_path / "run", adapt="coral", **QUICK)


def test_several_labels_and_boxes_are_refused(plain: Path, dark: Path, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    rows = [f"{path},{'a|b' if i % 2 else 'a'}" for i, path in enumerate(sorted(plain.rglob("*.png")))]
    table.write_text("\n".join(["image,label", *rows]))
    with pytest.raises(UserError, match="one class a sample"):
        fit(table, separator="|", target=str(dark), out=tmp_path / "run", **QUICK)


def test_texts(texts_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    lines = tmp_path / "letters.txt"
    lines.write_text("\n".join(f"WHICH TRAIN GOES TO TOWN {i} IN HEAVY RAIN" for i in range(30)))
    run = fit(
        texts_data,
        target=str(lines),
        adapt="shot",
        model=str(tiny_bert),
        precision="fp32",
        strategy="probe",
        out=tmp_path / "run",
    )
    assert isinstance(run, Run)
    assert run.metrics()["chosen"] == "adapt: shot"


def test_a_target_and_its_labels_may_be_in_memory(plain: Path, dark: Path, few_labels: Path, tmp_path: Path) -> None:
    target = [str(path) for path in sorted(dark.rglob("*.png"))]
    labels = pd.read_csv(few_labels)
    labels["image"] = [str(few_labels.parent / name) for name in labels["image"]]
    asked = {"target": target, "target_labels": labels, "adapt": "standardise", "harmonise": "none"}
    run = fit(plain, out=tmp_path / "run", **asked, **QUICK)
    other = fit(
        plain, out=tmp_path / "other", **{**asked, "target": str(dark), "target_labels": str(few_labels)}, **QUICK
    )
    assert isinstance(run, Run)
    assert isinstance(other, Run)
    mine, theirs = weights(run), weights(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert run.metrics()["target"]["data"] == "<list in memory>"


RIGHT, HALF, SOME = (1.0,) * 20, (1.0, 0.0) * 10, (1.0, 0.0, 1.0, 1.0) * 5


@pytest.mark.parametrize(
    ("name", "drop", "taught", "blind", "chosen"),
    [
        ("auto", 0.3, HALF, HALF, "probe"),
        ("auto", 0.3, RIGHT, SOME, "adapt: labels"),
        ("auto", 0.3, SOME, RIGHT, "adapt: shot"),
        ("auto", 0.05, HALF, RIGHT, "probe"),
        ("auto", 0.05, SOME, RIGHT, "adapt: labels"),
        ("coral", 0.05, HALF, RIGHT, "adapt: coral"),
        ("labels", 0.3, HALF, RIGHT, "adapt: labels"),
    ],
)
def test_what_labels_of_the_target_decide(
    name: str, drop: float, taught: tuple[float, ...], blind: tuple[float, ...], chosen: str
) -> None:
    context = Context((), 100, 20, Options.check({"strategy": "probe"}))
    outcomes = [Outcome(0, "probe", 0.9, 0.0, 0, np.zeros(1), np.zeros(1))]
    plan = adaptation.by_labels(context, outcomes[0], adaptation.find(name), 0)
    answer: Any = None
    with pytest.raises(StopIteration) as end:
        while True:
            match plan.send(answer):
                case Audit(start, align):
                    answer = taught if align else HALF if start == 0 else blind
                case Compare():
                    answer = replace(SEEN, drop=drop)
                case Phase() as phase:
                    answer = replace(outcomes[0], index=len(outcomes), phase=phase.name)
                    outcomes.append(answer)
                case _:
                    answer = None
    assert end.value.value.phase == chosen


def test_what_is_asked_by_name_is_done_and_looked_at(plain: Path, dark: Path, tmp_path: Path) -> None:
    watcher = Heard()
    run = fit(plain, target=str(dark), adapt="coral", harmonise="none", out=tmp_path / "run", watcher=watcher, **QUICK)
    assert isinstance(run, Run)
    assert run.metrics()["chosen"] == "adapt: coral"
    assert len(run.metrics()["target"]["looks"]) == 2
    said = next(line for line in watcher.lines if line.startswith("adapted: "))
    before, after = (look["accuracy"] for look in run.metrics()["target"]["looks"])
    assert f" after; of the source {before:.0%} right before, {after:.0%} after; " in said


@pytest.mark.parametrize(("predicted", "warned"), [((0.97, 0.01, 0.01, 0.01), True), ((0.3, 0.3, 0.2, 0.2), False)])
def test_a_collapse_of_what_is_asked_by_name_is_said(predicted: tuple[float, ...], warned: bool) -> None:
    context = Context((), 100, 20, Options.check({"strategy": "probe"}))
    source = Outcome(0, "probe", 0.9, 0.0, 0, np.zeros(1), np.zeros(1))
    plan = adaptation.watched(context, source, adaptation.find("coral"), 0)
    assert isinstance(next(plan), Compare)
    assert isinstance(plan.send(SEEN), Phase)
    assert isinstance(plan.send(replace(source, index=1)), Compare)
    said: list[str] = []
    asked = plan.send(replace(SEEN, predicted=predicted))
    with pytest.raises(StopIteration) as end:
        while True:
            said.append(asked.text)
            asked = plan.send(None)
    assert end.value.value.index == 1
    assert any("collapsed" in line for line in said) is warned
