"""The classification task: labels to numbers and back, the loss, the head, and the answers in the user's words."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.cli.terminal import print_metrics
from acclimate.core.errors import UserError
from acclimate.core.recipe import Options
from acclimate.data.table import Table
from acclimate.metrics.intervals import paired
from acclimate.models.pictures import Pictures
from acclimate.tasks import TASKS, resolve
from acclimate.tasks.classification import natural
from acclimate.tasks.image_classification import ImageClassification
from acclimate.tasks.task import Inputs, Task


def column(values: list) -> pa.ChunkedArray:
    """In two chunks, as columns read from files are."""
    half = len(values) // 2
    kind = pa.array([value for value in values if value]).type
    return pa.chunked_array([pa.array(values[:half], type=kind), pa.array(values[half:], type=kind)])


NAMES = ["rose", "daisy", "rose", "tulip", "rose", "daisy"]
SETS = [["red", "round"], ["red"], [], ["round", "tall"], ["red", "round"], ["tall"]]


def one() -> ImageClassification:
    return ImageClassification(ImageClassification.from_column(column(NAMES)))


def several() -> ImageClassification:
    return ImageClassification(ImageClassification.from_column(column(SETS)))


def table(targets: pa.Array | None, form: str = "path") -> Table:
    rows = {"sample": ["a", "b"], **({} if targets is None else {"target": targets})}
    return Table(pa.table(rows), form=form, source="data.csv", reader="table")


# --- which task


def test_the_task_is_found_by_the_table() -> None:
    assert resolve(table(pa.array(["x", "y"]))) is ImageClassification
    assert resolve(table(pa.array([["x"], []])), "image_classification") is ImageClassification
    assert resolve(table(pa.array(["x", "y"]), form="bytes")) is TASKS["image_classification"]


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (table(None), None, "data.csv: samples given as path, no targets: does not fit any task"),
        (table(pa.array([1.5, 2.5])), None, "values of type double as targets: does not fit any task"),
        (table(pa.array(["x", "y"]), "text"), "image_classification", "does not fit task 'image_classification'"),
        (table(pa.array(["x", "y"])), "image_clasification", "did you mean 'image_classification'"),
    ],
)
def test_no_task_fits(data: Table, name: str | None, text: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(data, name)
    assert text in str(caught.value)


def test_it_is_a_task_by_the_protocol() -> None:
    for protocol, thing in ((Task, one()), (Inputs, one().inputs(Pictures(size=32)))):
        members = [name for name in [*protocol.__annotations__, *vars(protocol)] if not name.startswith("_")]
        assert [name for name in members if not hasattr(thing, name)] == []


# --- labels


def test_classes_come_in_natural_order() -> None:
    found = ImageClassification.from_column(column(["10", "2", "b", "A", "1", "a2", "a10", "0"]))
    assert found == {"classes": ["0", "1", "2", "10", "A", "a2", "a10", "b"], "several": False}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=6, unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    back = list(reversed(names))
    assert sorted(names, key=natural) == sorted(back, key=natural)


def test_labels_of_several_come_from_all_lists() -> None:
    assert several().spec == {"classes": ["red", "round", "tall"], "several": True}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["rose", "rose"], "one class only, 'rose'"),
        ([["red"], ["red"]], None),
        ([None, None, "rose"], "one class only, 'rose'"),
    ],
)
def test_nothing_to_tell_apart(values: list, text: str | None) -> None:
    if text is None:
        assert ImageClassification.from_column(column(values))["classes"] == ["red"]
        return
    with pytest.raises(UserError, match=text):
        ImageClassification.from_column(column(values))


def test_no_label_at_all() -> None:
    with pytest.raises(UserError, match="no label at all: a classifier needs two classes or more"):
        ImageClassification.from_column(pa.chunked_array([pa.array([None, None], pa.string())]))


def test_encoding_and_back() -> None:
    codes = one().encode(column(NAMES))
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 1, 2, 1, 0]
    assert one().decode(codes) == NAMES
    hot = several().encode(column(SETS))
    assert hot.dtype == np.float32
    assert hot.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]]
    assert several().decode(hot) == SETS
    assert one().encode(column(NAMES).cast(pa.large_string())).tolist() == codes.tolist()
    assert one().targets(codes).dtype == torch.int64


@pytest.mark.parametrize("values", [["rose", "tulpi", "lily", "tulpi"], [["red"], ["tal", "rde"], [], ["tal"]]])
def test_an_unknown_class_names_both_sides(values: list) -> None:
    task = several() if isinstance(values[0], list) else one()
    with pytest.raises(UserError) as caught:
        task.encode(column(values))
    text = str(caught.value)
    assert ("classes 'lily', 'tulpi' (3 targets): not among the 3 classes" in text) or (
        "classes 'rde', 'tal' (3 targets): not among the 3 classes" in text
    )
    assert "known: " + ", ".join(task.classes) in text


def test_targets_of_the_other_kind_and_missing_targets() -> None:
    with pytest.raises(UserError, match="targets of several labels a sample: do not fit a model of one class a sample"):
        one().encode(column(SETS))
    with pytest.raises(UserError, match="targets of one class a sample: do not fit"):
        several().encode(column(NAMES))
    with pytest.raises(UserError, match="1 of 3 samples: have no label"):
        one().encode(column(["rose", None, "tulip"]))


def test_strata_of_one_class_are_the_classes() -> None:
    assert one().strata(column([*NAMES, None])).tolist() == [1, 0, 1, 2, 1, 0, -1]


def test_strata_of_several_labels_are_the_sets_and_rare_sets_go_by_their_rarest_label() -> None:
    values = [["a"]] * 6 + [["a", "b"]] * 5 + [["a", "c"], ["c", "b"], ["a", "d"], ["d"], [], None]
    task = ImageClassification(ImageClassification.from_column(column(values)))
    strata = task.strata(column(values)).tolist()
    assert len(set(strata[:6])) == 1
    assert len(set(strata[6:11])) == 1
    assert strata[11] == strata[12]  # by c
    assert strata[13] == strata[14]  # by d
    assert strata[15] == strata[16]  # none
    assert len(set(strata)) == 5


# --- balance


def test_weights_give_every_class_the_same_sum() -> None:
    task = one()
    encoded = task.encode(column(NAMES))
    weights = task.for_training(encoded, balance="weights").weights[encoded]
    assert weights.mean().item() == pytest.approx(1)
    assert [weights[encoded == code].sum().item() for code in range(3)] == pytest.approx([2, 2, 2])
    assert task.for_training(encoded).weights is None
    assert task.for_training(np.array([0, 0, 2])).for_training(
        np.array([0, 0, 2]), balance="weights"
    ).weights.tolist() == [0.75, 1, 1.5]


def test_weights_of_several_labels_let_presence_and_absence_count_alike() -> None:
    task = several()
    encoded = task.encode(column(SETS))
    weights = task.for_training(encoded, balance="weights").weights
    hot = torch.from_numpy(encoded)
    each = torch.lerp(weights[0], weights[1], hot)
    assert each.mean(dim=0).tolist() == pytest.approx([1, 1, 1])
    assert (each * hot).sum(dim=0).tolist() == pytest.approx([3, 3, 3])
    terms = F.binary_cross_entropy_with_logits(OUTPUTS, hot, reduction="none")
    torch.testing.assert_close(
        task.for_training(encoded, balance="weights").loss(OUTPUTS, hot)[0], (each * terms).sum()
    )


def test_sampling_draws_every_class_as_often() -> None:
    encoded = one().encode(column(NAMES))
    weights = one().sample_weights(encoded)
    assert weights.mean() == pytest.approx(1)
    assert [weights[encoded == code].sum() for code in range(3)] == pytest.approx([2, 2, 2])
    hot = several().encode(column(SETS))
    drawn = several().sample_weights(hot)
    assert drawn.mean() == pytest.approx(1)
    assert drawn[3] == drawn[5] > drawn[0] == drawn[4]  # tall is rarer than red and round


# --- loss

OUTPUTS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3))).float()


def trained_on(task: ImageClassification, values: list, **options) -> tuple[ImageClassification, torch.Tensor]:
    encoded = task.encode(column(values))
    return task.for_training(encoded, **options), task.targets(encoded)


@pytest.mark.parametrize(
    "options", [{}, {"smoothing": 0.1}, {"balance": "weights"}, {"smoothing": 0.1, "balance": "weights"}]
)
@pytest.mark.parametrize(("make", "values"), [(one, NAMES), (several, SETS)])
def test_accumulated_micro_batches_equal_one_big_batch(make, values: list, options: dict) -> None:
    task, targets = trained_on(make(), values, **options)
    weight = torch.eye(3, requires_grad=True)

    def gradient(parts: list[slice]) -> torch.Tensor:
        sums, counts = zip(*(task.loss(OUTPUTS[part] @ weight, targets[part]) for part in parts), strict=True)
        return torch.autograd.grad(sum(sums) / sum(counts), weight)[0]

    torch.testing.assert_close(gradient([slice(0, 1), slice(1, 4), slice(4, 6)]), gradient([slice(0, 6)]))


def test_loss_is_cross_entropy() -> None:
    task, targets = trained_on(one(), NAMES)
    total, count = task.loss(OUTPUTS.bfloat16(), targets)
    assert total.dtype == torch.float32
    assert count == 6
    torch.testing.assert_close(total, F.cross_entropy(OUTPUTS.bfloat16().float(), targets) * 6)


def test_loss_of_several_labels_is_summed_over_the_labels() -> None:
    task, targets = trained_on(several(), SETS)
    total, count = task.loss(OUTPUTS, targets)
    assert count == 6
    torch.testing.assert_close(total, F.binary_cross_entropy_with_logits(OUTPUTS, targets) * 18)


@pytest.mark.parametrize(("make", "values"), [(one, NAMES), (several, SETS)])
def test_the_loss_of_mixed_targets_is_the_mix_of_the_losses(make, values: list) -> None:
    """With class weights, too: cross-entropy is linear in the shares."""
    task, targets = trained_on(make(), values, balance="weights", smoothing=0.1)
    other, share = targets.flip(0), torch.tensor([0.0, 0.2, 0.4, 0.5, 0.9, 1.0])
    mixed = task.mix([targets, other], torch.stack([share, 1 - share], dim=1))
    assert mixed.shape == (6, 3)
    for row in range(6):
        first, second, both = (task.loss(OUTPUTS[[row]], some[[row]])[0] for some in (targets, other, mixed))
        torch.testing.assert_close(both, share[row] * first + (1 - share[row]) * second)


def test_smoothing_of_one_sample_by_hand() -> None:
    task, _ = trained_on(one(), NAMES, smoothing=0.3)
    logs = OUTPUTS[:1].log_softmax(dim=1)[0]
    torch.testing.assert_close(
        task.loss(OUTPUTS[:1], torch.tensor([2]))[0], -(0.8 * logs[2] + 0.1 * logs[0] + 0.1 * logs[1])
    )
    task, _ = trained_on(several(), SETS, smoothing=0.3)
    expected = F.binary_cross_entropy_with_logits(OUTPUTS[:1], torch.tensor([[0.85, 0.15, 0.15]]), reduction="sum")
    torch.testing.assert_close(task.loss(OUTPUTS[:1], torch.tensor([[1.0, 0, 0]]))[0], expected)


def test_losses_know_nothing_of_smoothing_and_weights() -> None:
    for make, values, labels in ((one, NAMES, 1), (several, SETS, 3)):
        task, targets = trained_on(make(), values, smoothing=0.2, balance="weights")
        plain = make().loss(OUTPUTS, targets)[0].item() / 6 / labels
        assert task.losses(task.predictions(OUTPUTS), targets.numpy()).mean() == pytest.approx(plain, rel=1e-5)


# --- head


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3, 4), (2, 7, 5)])
def test_the_head_is_an_affine_map_of_pooled_features(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape)
    head = ImageClassification.head(one(), features, None)  # type: ignore[arg-type]
    pooled = head.pool(features)
    mean = {2: lambda: features, 3: lambda: features.mean(1), 4: lambda: features.mean((2, 3))}[len(shape)]()
    torch.testing.assert_close(pooled, mean)
    torch.testing.assert_close(head(features), pooled @ head.linear.weight.T + head.linear.bias)
    assert head.linear.weight.shape == (3, 5)


# --- answers


def test_predictions_are_probabilities() -> None:
    for task, expected in ((one(), OUTPUTS.softmax(1)), (several(), OUTPUTS.sigmoid())):
        found = task.predictions(OUTPUTS)
        assert found.dtype == np.float32
        assert found == pytest.approx(expected.numpy())


def test_the_primary_metric_is_the_mean_of_the_scores() -> None:
    for make, values in ((one, NAMES), (several, SETS)):
        task = make()
        predictions, targets = task.predictions(OUTPUTS), task.encode(column(values))
        scores = task.scores(predictions, targets)
        found = task.metrics(predictions, targets, [task.primary])
        assert list(found) == [task.primary]
        assert found[task.primary]["value"] == pytest.approx(scores.mean())
        assert paired(scores, scores).difference == 0


def test_all_metrics_hold_the_three_that_every_run_reports() -> None:
    for make, values in ((one, NAMES), (several, SETS)):
        task = make()
        found = task.metrics(task.predictions(OUTPUTS), task.encode(column(values)))
        assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} <= set(found)
        assert "top5" not in found
    ten = ImageClassification({"classes": [str(name) for name in range(10)], "several": False})
    assert "top5" in ten.metrics(np.full((4, 10), 0.1, dtype=np.float32), np.arange(4))


def test_an_answer_in_the_users_words() -> None:
    assert one().answer(np.array([0.25, 0.625, 0.125])) == {
        "label": "rose",
        "confidence": 0.625,
        "probabilities": {"daisy": 0.25, "rose": 0.625, "tulip": 0.125},
    }
    found = several().answer(np.array([0.75, 0.5, 0.9]))
    assert found["labels"] == ["red", "tall"]
    assert found["confidence"] == pytest.approx(0.75 * 0.5 * 0.9)
    assert several().answer(np.array([0.1, 0.2, 0.3]))["labels"] == []


def test_the_columns_of_an_answer_are_keys_of_it() -> None:
    assert set(one().columns) == {"label", "confidence"}
    assert set(several().columns) == {"labels", "confidence"}
    assert set(several().columns) < set(several().answer(np.array([0.1, 0.2, 0.3])))


# --- resolution


@pytest.mark.parametrize(
    ("sides", "asked", "size"),
    [((300, 200), None, 192), ((100, 120), None, 128), ((20, 30), None, 96), ((20, 30), 160, 160), (None, None, 192)],
)
def test_pictures_are_not_enlarged_without_need(
    tmp_path, sides: tuple[int, int] | None, asked: int | None, size: int
) -> None:
    for name in "ab":
        if sides:
            Image.new("RGB", sides).save(tmp_path / f"{name}.png")
    data = replace(table(pa.array(["x", "y"])), rows=pa.table({"sample": ["a.png", "b.png"]}), root=tmp_path)
    assert ImageClassification.suit(Pictures(size=192), data, Options(size=asked)).size == size


def test_an_architecture_that_reads_one_size() -> None:
    fixed = Pictures(size=224, fixed=True)
    assert (
        ImageClassification.suit(fixed, table(None), Options())
        == ImageClassification.suit(fixed, table(None), Options(size=224))
        == fixed
    )
    with pytest.raises(UserError, match="--size 192: is not read by this architecture, which takes 224"):
        ImageClassification.suit(fixed, table(None), Options(size=192))


# --- what is chosen once training is over


def three_classes(n: int = 300, heat: float = 2.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Outputs that are too sure by `heat`, and classes."""
    random = np.random.default_rng(seed)
    outputs = torch.from_numpy(2 * random.normal(size=(n, 3))).float()
    chances = outputs.softmax(1).numpy()
    return heat * outputs, (chances.cumsum(1) > random.random((n, 1))).argmax(1).clip(0, 2)


def three_labels(n: int = 300, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Outputs of which the first label's are shifted, and labels; the last is rare."""
    random = np.random.default_rng(seed)
    outputs = torch.from_numpy(2 * random.normal(size=(n, 3))).float()
    hot = (random.random((n, 3)) < outputs.sigmoid().numpy()).astype(np.float32)
    hot[4:, 2] = 0
    return outputs + torch.tensor([3.0, 0.0, 0.0]), hot


def test_a_temperature_is_chosen_on_validation_and_travels_with_the_model() -> None:
    outputs, targets = three_classes()
    task = one().settled(lambda: (one().predictions(outputs), targets, False))
    assert task.temperature == task.spec["temperature"] == pytest.approx(2, rel=0.25)
    torch.testing.assert_close(
        torch.from_numpy(task.predictions(outputs)), (outputs / task.temperature).softmax(1), rtol=1e-5, atol=1e-6
    )
    assert task.predictions(outputs).argmax(1).tolist() == one().predictions(outputs).argmax(1).tolist()
    found = task.calibration(task.predictions(outputs), targets)
    plain = one().metrics(one().predictions(outputs), targets, ["ece", "log_loss"])
    for name in ("ece", "log_loss"):
        assert found["before"][name] == pytest.approx(plain[name], abs=1e-5)
        assert found["after"][name]["value"] < found["before"][name]["value"]
    assert found["temperature"] == task.temperature
    assert {"low", "high", "confidence", "accuracy"} == set(found["after"]["bins"][0])


def test_nothing_is_chosen_on_samples_that_were_learned_from_or_where_nothing_is_gained() -> None:
    outputs, targets = three_classes()
    assert one().settled(lambda: (one().predictions(outputs), targets, True)).spec == one().spec
    assert several().settled(lambda: (several().predictions(outputs), targets, True)).spec == several().spec
    calm, targets = three_classes(60, heat=1)
    task = one().settled(lambda: (one().predictions(calm), targets, False))
    assert task.spec == one().spec
    found = task.calibration(task.predictions(calm), targets)
    assert found["temperature"] == 1
    for name in ("ece", "log_loss"):
        assert found["before"][name] == pytest.approx(found["after"][name], abs=1e-6)


def test_thresholds_of_labels_are_chosen_on_validation_and_used() -> None:
    outputs, hot = three_labels()
    plain = several()
    task = plain.settled(lambda: (plain.predictions(outputs), hot, False))
    assert set(task.spec["thresholds"]) == {"red", "round", "tall"}
    assert task.spec["thresholds"]["red"] > 0.6
    assert task.spec["thresholds"]["tall"] == 0.5  # four samples tell nothing
    given = task.predictions(outputs) > task.thresholds
    before, after = (one.metrics(one.predictions(outputs), hot) for one in (plain, task))
    assert after["macro_f1"]["value"] > before["macro_f1"]["value"] + 0.02
    truth = hot > 0.5
    assert after["accuracy"]["value"] == pytest.approx((given == truth).all(axis=1).mean())
    assert task.scores(task.predictions(outputs), hot).mean() == pytest.approx(after["sample_f1"]["value"])
    answer = task.answer(task.predictions(outputs)[0])
    assert answer["labels"] == [name for name, one in zip(task.classes, given[0], strict=True) if one]
    row = task.predictions(outputs)[0].astype(float)
    assert answer["confidence"] == pytest.approx(np.where(given[0], row, 1 - row).prod())
    assert task.by_class(task.predictions(outputs), hot)["red"]["precision"]["n"] == given[:, 0].sum()


def test_what_was_chosen_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    outputs, hot = three_labels()
    task = several().settled(lambda: (several().predictions(outputs), hot, False))
    settled = {"temperature": 1.5, "thresholds": task.spec["thresholds"]}
    figures = task.metrics(task.predictions(outputs), hot)
    empty = {"verdict": "", "baselines": [], "slices": {}}
    print_metrics({**empty, "metrics": figures, "split": "test", "settled": settled})
    told = capsys.readouterr().out
    least, most = (f"{end(task.spec['thresholds'].values()):.3g}" for end in (min, max))
    assert "temperature 1.5, chosen on validation" in told
    assert f"thresholds {least} to {most}, chosen on validation" in told


# --- by class


def test_figures_by_class_and_confusion() -> None:
    task = one()
    guess, targets = np.array([1, 1, 0, 2, 1, 2]), np.array([1, 0, 0, 1, 1, 1])
    predictions = np.eye(3)[guess] * 0.7 + 0.1
    found = task.by_class(predictions, targets)
    assert list(found) == ["daisy", "rose", "tulip"]
    assert {name: one["value"] for name, one in found["rose"].items()} == pytest.approx(
        {"recall": 2 / 4, "precision": 2 / 3, "f1": 4 / 7}
    )
    assert {name: one["n"] for name, one in found["rose"].items()} == {"recall": 4, "precision": 3, "f1": 5}
    assert set(found["tulip"]) == {"precision", "f1"}  # none is there
    assert found["tulip"]["f1"]["value"] == found["tulip"]["f1"]["low"] == 0 < found["tulip"]["f1"]["high"] < 0.8
    names = ["daisy", "rose", "tulip"]
    assert task.confusion(predictions, targets) == {
        "classes": names,
        "given": names,
        "counts": [[1, 1, 0], [0, 2, 2], [0, 0, 0]],
        "there": [2, 4, 0],
    }
    assert task.by_class(predictions[:1], targets[:1])["daisy"] == {}


def test_figures_by_label() -> None:
    task = several()
    predictions, hot = (
        np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.2], [0.7, 0.6, 0.3]]),
        np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]]),
    )
    found = task.by_class(predictions, hot)
    assert {name: one["value"] for name, one in found["red"].items()} == pytest.approx(
        {"recall": 0.5, "precision": 0.5, "f1": 0.5, "average_precision": (1 + 2 / 3) / 2}
    )
    assert found["tall"] == {}
    assert task.confusion(predictions, hot) == {}


def test_samples_of_each_mistake_and_of_each_class() -> None:
    random = np.random.default_rng(3)
    predictions = random.dirichlet(np.ones(3), 60).astype(np.float32)
    targets = random.integers(0, 2, 60)  # of the last class there is none
    table, pairs = one().confusion(predictions, targets), one().confused(predictions, targets)
    names = table["classes"]
    for (name, answer), places in pairs.items():
        assert table["counts"][names.index(name)][names.index(answer)] == len(places)
        sure = [float(predictions[place].max()) for place in places]
        assert sure == sorted(sure, reverse=True)
    assert sum(map(len, pairs.values())) == int((predictions.argmax(1) != targets).sum())
    first, second = one().typical(predictions, targets)
    best = [int(np.where(targets == k, predictions[:, k], -1).argmax()) for k in range(2)]
    assert sorted((first, second)) == sorted(best)
    assert predictions[first, targets[first]] >= predictions[second, targets[second]]
    hot = (random.random((60, 3)) < 0.4).astype(np.float32)
    assert several().confused(predictions, hot) == {} and len(several().typical(predictions, hot)) == 3


def test_the_answer_to_an_unseen_sample_of_several_labels_gives_what_is_best() -> None:
    task = ImageClassification({"classes": ["a", "b", "c"], "several": True})
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=np.float32) * 1.0
    row = task.constant(targets)
    assert row == pytest.approx([0.75, 0.75, 0.25])
    rare = np.zeros((10, 3), dtype=np.float32)
    rare[[0, 1, 2, 3], 0] = rare[[4, 5, 6], 1] = rare[[7, 8], 2] = 1
    row = task.constant(rare)
    rows = np.repeat(row[None].astype(np.float32), 10, axis=0)
    best = max(
        task.scores(np.repeat(np.float32([given]), 10, axis=0), rare).mean()
        for given in itertools.product((0.2, 0.8), repeat=3)
    )
    assert task.scores(rows, rare).mean() == pytest.approx(best) and best > 0.3
    single = ImageClassification({"classes": ["a", "b"], "several": False})
    assert single.constant(np.array([0, 0, 1])) == pytest.approx([2 / 3, 1 / 3])


def test_a_baseline_of_several_labels_has_its_thresholds_too() -> None:
    task = ImageClassification({"classes": ["a", "b"], "several": True})
    draw = np.random.default_rng(0)
    targets = (draw.random((200, 2)) < 0.3).astype(np.float32)
    shy = np.where(targets > 0, draw.uniform(0.2, 0.45, targets.shape), draw.uniform(0.01, 0.25, targets.shape))
    shy = shy.astype(np.float32)
    settled = task.settled(lambda: (shy, targets, False))
    moved = task.at_its_best(shy, shy, targets)
    plain = task.metrics(moved, targets, ["sample_f1"])["sample_f1"]["value"]
    assert plain > task.metrics(shy, targets, ["sample_f1"])["sample_f1"]["value"]
    heat = settled.temperature
    own = settled.predictions(torch.from_numpy(np.log(shy) - np.log1p(-shy)))
    assert heat > 0 and plain == pytest.approx(
        settled.metrics(own, targets, ["sample_f1"])["sample_f1"]["value"], abs=0.02
    )
    assert (np.argsort(moved, axis=0) == np.argsort(shy, axis=0)).all()
    assert task.at_its_best(shy, shy[:0], targets[:0]) is shy
