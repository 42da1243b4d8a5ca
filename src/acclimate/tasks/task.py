"""What a task is: it owns targets (encoding, head, loss, predictions, metrics) and how a sample becomes an input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from acclimate.core.recipe import Options
from acclimate.core.tree import Tree
from acclimate.data.found import Found
from acclimate.data.gate import Finding
from acclimate.data.readers.reader import Columns
from acclimate.data.table import Raw, Table
from acclimate.metrics.doubt import Doubt
from acclimate.metrics.metric import Metric
from acclimate.models.backbone import Backbone
from acclimate.models.card import Preprocessing
from acclimate.tasks.exhibit import Exhibit, Passages, Picture
from acclimate.tasks.filters import Filter
from acclimate.tasks.forms import Asked, Form, Piece
from acclimate.tasks.traits import Trait
from acclimate.tasks.tuning import Tuning

Settling = Callable[[], tuple[np.ndarray, np.ndarray, bool]]
"""What gives a task the samples that it chooses on: predictions, targets, whether the model has learned from them."""


@dataclass(frozen=True)
class Baseline:
    """A cheap model that stands beside every result, and what it predicts, one row a sample, as `Task.predictions`."""

    name: str
    predictions: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray] | None = None
    """Rows of the data -> predictions, where it can answer again, so that its cost can be measured."""


@dataclass(frozen=True)
class Came:
    """The pretrained model with the head it came with, before anything was learned."""

    classes: list[str]
    """What it tells apart."""
    predict: Callable[[np.ndarray], np.ndarray]
    """Rows of the data -> predictions, one row a sample, in these classes."""


@dataclass(frozen=True)
class Starts:
    """Models that a fit may start from."""

    names: tuple[str, ...]
    """Best first."""
    why: str = ""
    """What of the data speaks for this order; nothing where it is the usual one."""


@dataclass(frozen=True)
class Mix:
    """A way to make several samples one."""

    partners: int
    """How many others a sample takes in."""
    policy: str
    """How each of them is augmented before."""


class Inputs(Protocol):
    """How one sample becomes what the model reads. Stateless; equal `key`s mean equal results."""

    preprocessing: Preprocessing
    key: str
    """Names everything that changes the result: the content key of the preprocessing."""
    policies: tuple[str, ...]
    """What `augment` knows; "none" is the sample as it is."""
    views: dict[str, int]
    """Of the policies that can be had as fixed views, how many different ones there are."""
    mixes: dict[str, Mix]
    """What `mix` knows; empty where several samples cannot be one."""
    filters: Mapping[str, Filter[Any]]
    """Ways to show samples so that those of two places look more alike."""

    def filtered(self, name: str) -> Any:
        """The same inputs, every sample shown through one of `filters` before it is prepared."""
        ...

    def raw(self, sample: Any, fitted: tuple[str, ...]) -> Raw:
        """What `prepare` takes, of what a user may hand over (a path, bytes, an object); `fitted` as for `find`.

        Raises OSError, ValueError.
        """
        ...

    def find(self, paths: Sequence[str], listed: Iterable[bytes], columns: Columns, fitted: tuple[str, ...]) -> Found:
        """What paths mean as samples to predict, in order and one by one; `listed` are the lines of stdin, which "-" stands for.

        `columns`: what the user said about tables; `fitted`: the columns that the samples of the fit came from. Raises `UserError`.
        """
        ...

    def prepare_all(self, raws: list[Raw], workers: int) -> list[Tree | str]:
        """Decode and bring to working size, in `workers` threads: of each sample a tree of small (uint8, int32) tensors that can
        be kept on disk, or, where it cannot be decoded, the reason in words a person can read."""
        ...

    def cost(self, prepared: Tree) -> int:
        """What the sample costs the model, in a unit of its own kind: batches hold about equal sums of it."""
        ...

    def size_of(self, prepared: Tree) -> int:
        """How large the sample is as it was given, before anything of it is left out, in the unit of its preprocessing: figures are
        split by it. The same for all samples where it says nothing."""
        ...

    def view(self, prepared: Tree, view: int, seed: int, policy: str) -> Tree:
        """The fixed view `view` of a prepared sample: 0 is the sample itself, others are augmented by (policy, view, seed)."""
        ...

    def augment(self, prepared: Tree, policy: str, seed: int, target: Any = None) -> Tree:
        """A fresh augmented copy under one of `policies`, a pure function of sample, target and seed.

        `target`: the sample's, encoded (a row of `Task.encode`), for policies that look at it; it stays what it is.
        """
        ...

    def mix(self, samples: list[Tree], kind: str, seed: int) -> tuple[Tree, list[float]]:
        """Augmented samples in one, by one of `mixes`, and the share of each: a pure function of the seed."""
        ...

    def ids(self, samples: Iterable[Tree]) -> torch.Tensor:
        """int64 [n]: which rows of the model's table of tokens the samples read; empty where there is no such table."""
        ...

    def collate(self, samples: list[Tree]) -> Tree:
        """A batch of prepared, viewed or augmented samples, ready for the model: normalised, float32, padded."""
        ...

    def findings(self, samples: Iterable[tuple[str, Tree]]) -> list[Finding]:
        """What is noteworthy about prepared samples, given with their names, for this model."""
        ...

    def numbers(self, raw: Raw, prepared: Tree) -> dict[str, float]:
        """Numbers of a sample, as it is stored and as prepared, that a person would tell samples apart by, beside `size_of`:
        {"brightness": 0.41}."""
        ...

    def grounds(self, stages: int) -> Iterable[int]:
        """Boundaries of so many stages at which to ask what of a sample an answer rests on, best first; none where that cannot be asked."""
        ...

    def blanks(self, batch: Tree) -> list[Tree]:
        """Collated batches like this one, or of one sample for all, with nothing to be told from them, each in a way of its own."""
        ...

    def evidence(self, shares: Tree) -> list[np.ndarray] | None:
        """What each part of each sample adds to an answer: of pictures float32 [h, w], of texts [T] as their tokens lie in `prepare_all`.

        `shares`: a boundary's state, where every floating-point number is what it adds. None where the state has no place for parts.
        """
        ...

    def shown(self, raw: Raw, evidence: np.ndarray | None) -> Picture | Passages | None:
        """A raw sample for the eye, with what `evidence` says about its parts; None where it cannot be read any more."""
        ...

    def traits(self, ours: Sequence[Raw], theirs: Sequence[Raw], workers: int) -> list[Trait]:
        """What a person would see of two sides of samples that `prepare_all` takes, as numbers."""
        ...


class Task(Protocol):
    """Everything that depends on what a target is."""

    name: str
    spec: dict[str, Any]
    """All that the task needs to be rebuilt, as JSON; travels in model.json: {"classes": [...], "several": false}."""
    kind: str
    """The kind of input (`models.card.KINDS`) that its models read."""
    about: str
    """What there is to predict, in a few words: "6 classes"."""
    objectives: tuple[str, ...]
    """What may be minimised, by name (`objectives.OBJECTIVES`)."""
    heedless: tuple[str, ...]
    """Options of training that the task's loss does not heed, or values of one: "balance weights"."""
    wraps: tuple[str, ...]
    """Sources that make a model of the task out of one that is none: `SOURCE:NAME`."""
    mark: str
    """Names how `marks` are made: those of one name can be compared."""
    primary: str
    """The metric that validation is judged by; higher is better."""
    hub_tag: str
    """What the Hugging Face hub calls the task: the `pipeline_tag` of a model card."""
    example: str
    """A sample as code names it: '"photo.jpg"'."""

    def __init__(self, spec: dict[str, Any]) -> None: ...

    @staticmethod
    def matches(table: Table) -> bool:
        """Whether the samples and targets of a table are of this task's kind."""
        ...

    @staticmethod
    def mend(table: Table) -> tuple[Table, list[Finding]]:
        """The table with targets that can be learned from, and what was wrong with them; the user's files stay as they are. Raises
        UserError where too much is."""
        ...

    @staticmethod
    def unfit(table: Table) -> dict[int, str]:
        """Rows that hold no sample of this kind, and why: {3: "is empty"}. Raises UserError where no row does."""
        ...

    @staticmethod
    def marks(raws: Sequence[Any], workers: int) -> np.ndarray:
        """uint8 [n, w]: what near copies of a sample nearly share, whatever the model, in few enough bytes to travel with one; in
        `workers` threads."""
        ...

    @staticmethod
    def same(marks: np.ndarray, table: Table | None = None) -> np.ndarray:
        """int64 [n]: equal numbers for samples that are the same or nearly, by their `marks`; where they are at hand as the rows of a
        `table`, texts are compared themselves."""
        ...

    @staticmethod
    def examine(table: Table) -> list[Finding]:
        """What is noteworthy about the samples themselves, whatever the model."""
        ...

    @staticmethod
    def from_table(table: Table) -> dict[str, Any]:
        """The spec that the targets of the training data give. Raises UserError where there is nothing to learn."""
        ...

    def check(self, table: Table) -> list[Finding]:
        """What is wrong with the targets of a split table. Raises UserError where it cannot be trained or judged on."""
        ...

    def for_training(self, encoded: np.ndarray, smoothing: float = 0.0, balance: str | None = None) -> Task:
        """The same task with a loss for training on these targets: labels smoothed, classes weighed ("weights")."""
        ...

    def sample_weights(self, encoded: np.ndarray) -> np.ndarray:
        """float64 [n], mean 1: how often to draw each sample so that what is rare comes up as often as the rest."""
        ...

    def encode(self, column: pa.ChunkedArray) -> np.ndarray:
        """Targets of a `target` column, one row a sample: int64 [n], float32 [n, classes], or object [n]."""
        ...

    def targets(self, encoded: np.ndarray, closing: bool = False) -> Tree:
        """A batch of encoded targets as tensors. `closing`: whether it is of a phase's last steps, in which a loss may ask for more."""
        ...

    def mix(self, parts: list[Tree], shares: torch.Tensor) -> Tree:
        """Targets of mixed samples: batches of the targets of each part, `shares` float [B, parts] of them."""
        ...

    def strata(self, column: pa.ChunkedArray) -> np.ndarray:
        """int64 [n]: which samples count as alike when splits are cut."""
        ...

    @staticmethod
    def models(table: Table) -> Starts:
        """What to start from where the user names no model; the first that is at hand is taken."""
        ...

    @staticmethod
    def resolutions(shown: Preprocessing, sizes: np.ndarray) -> tuple[int, ...]:
        """The sizes at which a model is worth a look, the one of `shown` first, cheaper ones after it.

        `sizes` int64 [n]: of the samples, as `Inputs.size_of` counts them."""
        ...

    @staticmethod
    def suit(preprocessing: Preprocessing, table: Table, options: Options) -> Preprocessing:
        """A model's preprocessing, fitted to these samples and to what was asked of it. Raises UserError for what it cannot do."""
        ...

    @staticmethod
    def inputs(preprocessing: Preprocessing) -> Inputs: ...

    def tuning(self, head: nn.Module, preprocessing: Preprocessing) -> Tuning:
        """How the pretrained network that this head was made for is best moved, on samples shown so."""
        ...

    def head(self, features: Tree, backbone: Backbone) -> nn.Module:
        """A head for features shaped like this example batch: fresh, or made of what the backbone has kept of its own.

        It takes the backbone's features and gives outputs; with targets it gives what `loss` is of, which is the outputs for most.
        Where the task's tuning says that it can be solved,

        `pooled(features)` is what its linear map is of, [B, D].
        Its `readings` name what of the features it may read, `reading` what it reads, `read(features, reading)` gives that as [B, D], and
        `take(reading, weight, bias)` makes it a fitted linear map of it.
        """
        ...

    def loss(self, outputs: Tree, targets: Tree) -> tuple[torch.Tensor, int]:
        """(sum of the losses over the targets of the batch, number of targets in it)."""
        ...

    def divergence(self, outputs: Tree, others: Tree) -> torch.Tensor:
        """How far two outputs for the same samples are apart, as predictions: half of KL divergence both ways, summed over the samples."""
        ...

    def chances(self, outputs: Tree) -> torch.Tensor:
        """Outputs as probabilities [B, classes] that gradients flow through, where predictions are choices among classes."""
        ...

    def certainty(self, outputs: Tree, predictions: np.ndarray) -> torch.Tensor:
        """float [B]: how sure outputs are of what `predictions` [B, ...] answer, as log-odds that gradients flow through, where predictions
        are choices among classes."""
        ...

    def alike(self, targets: Tree) -> torch.Tensor:
        """float32 [B, B]: how much each two samples have in common by their targets, from 0 to 1."""
        ...

    def predictions(self, outputs: Tree) -> np.ndarray:
        """Outputs of a batch as one row a sample, float32: probabilities [n, classes] for classification."""
        ...

    def scores(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: how right each prediction is (1 = right, 0 = wrong), or what it adds to a metric that is no mean over samples:
        what a paired comparison compares. Their mean is the primary metric."""
        ...

    def losses(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: the loss of each prediction as it is judged, without what `for_training` changes."""
        ...

    def judge(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """(the primary metric, float64 [n] scores and losses of the samples): what validation says. Losses are those at the
        confidence that suits these targets best, so that they tell right from wrong and not bold from shy."""
        ...

    def settled(self, answers: Settling) -> Task:
        """The task with what is chosen on validation once training is over, a threshold, say; it travels with the model.

        `answers()`: (predictions, targets, whether the model has learned from these samples, so that it is surer of them than of others).
        """
        ...

    def unsettled(self) -> Task:
        """The task without what was chosen on validation for one model: what others are judged by."""
        ...

    def choices(self, predictions: np.ndarray) -> list[np.ndarray]:
        """Predictions as choices of one class a sample, float64 [n, K] of probabilities each: one choice, or one for each of several
        labels; none where predictions are no choice among classes."""
        ...

    def chosen(self, targets: np.ndarray) -> list[np.ndarray]:
        """Encoded targets as those of `choices`, int64 [n] each."""
        ...

    def doubts(self, predictions: np.ndarray, targets: np.ndarray, fold: np.ndarray | None = None) -> list[Doubt]:
        """Labels that predictions speak against, what is most likely wrong first.

        `fold`: int64 [n], where the samples of each fold were judged by what learned all others alone; None where there were none."""
        ...

    @staticmethod
    def apart(predictions: np.ndarray, others: np.ndarray) -> float:
        """How far two sets of predictions for the same samples are apart, as a probability."""
        ...

    def metrics(
        self, predictions: np.ndarray, targets: np.ndarray, only: Iterable[str] | None = None
    ) -> dict[str, Metric]:
        """All figures, or `only` those named; a figure that these samples leave undefined is left out."""
        ...

    def differences(
        self, predictions: np.ndarray, other: Task, others: np.ndarray, targets: np.ndarray
    ) -> dict[str, Metric]:
        """Beside the primary figure, by how much figures of this task's predictions are above those of another model's (`other`, settled
        on its own validation, and what it predicts) on the same samples, paired."""
        ...

    def by_class(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, Metric]]:
        """The figures of each class by its name, {"rose": {"recall": ...}}; those that these samples leave undefined are left out."""
        ...

    def confusion(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """{"classes": names of the rows, what is there; "given": names of the columns, what is answered; "counts": int, [row][column];
        "there": their sums by row[; "note": how they are counted]}; empty where one answer does not take the place of another."""
        ...

    def typical(self, predictions: np.ndarray, targets: np.ndarray) -> list[int]:
        """Places of the samples that show best what each class is, those of which the model is surest first."""
        ...

    def confused(self, predictions: np.ndarray, targets: np.ndarray) -> dict[tuple[str, str], list[int]]:
        """Places of the samples of each wrong pair of `confusion`, (what is there, what was answered), the surest mistakes first."""
        ...

    def calibration(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """How often answers are right by how sure they are, before and after what validation chose: {"temperature"[, "offset"], "before",
        "after": {"ece": Metric, "log_loss": Metric, "bins": [Bin]}} (`metrics.calibration`). Empty without an answer."""
        ...

    def errors(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
        """Kinds of mistakes, what costs most first: {"missed": {"at the threshold": 41, "map50": 0.034}}, how many there are (int) and by
        how much a figure would rise were they put right (float). Empty where figures by class say it all."""
        ...

    def baseline(
        self, table: Table, train: np.ndarray, val: np.ndarray, rows: np.ndarray, came: Came | None
    ) -> Baseline | None:
        """What a cheap model predicts for `rows`, fitted to the rows `train`, its settings picked on `val`: one without pretraining, or
        the pretrained one as it `came`; None where there is no such model."""
        ...

    def constant(self, targets: np.ndarray) -> np.ndarray | None:
        """The row of predictions that is best for a sample of which nothing is known, by encoded targets of others; None where
        there is none."""
        ...

    def at_its_best(self, predictions: np.ndarray, held: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Predictions of a baseline, as if validation had chosen for it what `settled` chooses, as far as the primary figure hangs on it:
        `unsettled` judges them. `held`: what it predicts for samples with these targets."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of an answer that are always told."""
        ...

    def answer(self, prediction: np.ndarray) -> dict[str, Any]:
        """One prediction in the user's words: {"label": "rose", "confidence": 0.93, ...}."""
        ...

    def exhibit(
        self, name: str, raw: Raw, inputs: Inputs, prediction: np.ndarray, target: Any, evidence: Any
    ) -> Exhibit:
        """One sample as it is shown to a person: what it is, what was answered (one row of predictions), and what that rests on.

        `target`: encoded, None where there is none; `evidence`: of `Inputs.evidence`, None where there is none.
        """
        ...

    @staticmethod
    def details(prepared: Tree) -> dict[str, Any]:
        """What `predict` tells of a sample beside its name and the answer: {"width": 640, "height": 480}."""
        ...

    def at(self, threshold: float) -> Task:
        """The same task, answering what it is sure of to this degree, 0 to 1. Raises UserError for another number, and where a
        threshold is nothing to its answers."""
        ...

    def forms(self, asked: Asked) -> dict[str, Form]:
        """How rows of answers can be written to a file, by its ending; stdout gets the first. Raises UserError where what was asked
        is nothing to its answers."""
        ...

    @property
    def pieces(self) -> dict[str, Piece]:
        """Files that `predict` can make of each sample besides, by the option that asks for them: {"draw": ...}."""
        ...
