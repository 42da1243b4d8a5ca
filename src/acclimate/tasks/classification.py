"""`Classification`: targets that are one class or several labels a sample, whatever the sample is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import nn

from acclimate.core.errors import fail, near
from acclimate.core.tree import Tree
from acclimate.data.gate import Finding, check_classes
from acclimate.data.table import Raw, Table
from acclimate.metrics import calibration, doubt
from acclimate.metrics import classification as metrics
from acclimate.metrics.comparison import difference
from acclimate.metrics.doubt import Doubt
from acclimate.metrics.intervals import paired
from acclimate.metrics.metric import Metric
from acclimate.models.backbone import Backbone
from acclimate.tasks import class_forms, strata
from acclimate.tasks.exhibit import Exhibit
from acclimate.tasks.forms import Asked, Form, Piece, no_effect
from acclimate.tasks.head import LinearHead
from acclimate.tasks.task import Inputs, Settling

MOST = 20_000_000
"""Samples times classes up to which sums of macro F1 are held in memory."""
COLD = (0.2, 5.0)
"""Bounds of the inverse temperature at which phases are judged."""


class Classification:
    """What is the same for pictures and texts; a task adds its `name`, `matches` and `inputs`.

    `spec`: {"classes": [names in natural order], "several": bool}, and what validation has chosen: "temperature" that outputs are
    divided by (1 where there is none), "thresholds" {label: probability above which it is given} (.5).
    `smoothing` (label smoothing, Szegedy et al. 2016) and `weights` change the loss in training alone: float32 [classes], or
    [2, labels] for (absent, present) of each label.
    """

    name: str
    objectives = ("supervised", "rdrop", "fgm", "contrastive")
    heedless: tuple[str, ...] = ()
    wraps: tuple[str, ...] = ()

    def __init__(self, spec: dict[str, Any], smoothing: float = 0.0, weights: torch.Tensor | None = None) -> None:
        self.spec = spec
        self.classes: list[str] = spec["classes"]
        self.several: bool = spec["several"]
        self.temperature: float = spec.get("temperature", 1.0)
        self.thresholds = np.array([spec.get("thresholds", {}).get(name, metrics.THRESHOLD) for name in self.classes])
        self.smoothing = smoothing
        self.weights = weights
        self.about = f"{len(self.classes):,} {'labels' if self.several else 'classes'}"
        self.primary = "sample_f1" if self.several else "accuracy"

    @staticmethod
    def from_column(column: pa.ChunkedArray) -> dict[str, Any]:
        """The spec that a `target` column gives. Raises UserError where there is nothing to tell apart."""
        several = _is_lists(column.type)
        names = pc.unique(pc.list_flatten(column) if several else column).drop_null().to_pylist()
        if len(names) < (1 if several else 2):
            found = f"one class only, {names[0]!r}" if names else "no label at all"
            rule = "a classifier needs a label" if several else "a classifier needs two classes or more"
            raise fail(found, rule, "add samples of another class, or name the column of the labels with --label")
        return {"classes": sorted(names, key=natural), "several": several}

    @staticmethod
    def mend(table: Table) -> tuple[Table, list[Finding]]:
        """Names are taken as they are."""
        return table, []

    @classmethod
    def from_table(cls, table: Table) -> dict[str, Any]:
        return cls.from_column(table.column("target"))

    def for_training(self, encoded: np.ndarray, smoothing: float = 0.0, balance: str | None = None) -> Classification:
        """The same task with its loss set for training on these targets.

        `balance` = "weights": every class counts as much as any other in all, by weights whose mean over the training
        samples is 1. Of several labels, presence and absence of each count alike.
        """
        weights = _weights(encoded, len(self.classes)) if balance == "weights" else None
        return type(self)(self.spec, smoothing, weights)

    def sample_weights(self, encoded: np.ndarray) -> np.ndarray:
        """float64 [n], mean 1: how often to draw each sample so that every class comes up equally often.

        Of several labels the rarest of a sample decides; a sample without any is drawn as often as if that were a
        label.
        """
        return strata.balanced(strata.rarest(encoded) if self.several else encoded)

    @staticmethod
    def check(table: Table) -> list[Finding]:
        """What is wrong with the classes of a split table. Raises UserError where it cannot be trained or judged on."""
        return check_classes(table)

    @property
    def columns(self) -> tuple[str, str]:
        """The columns of an answer, apart from the probabilities."""
        return ("labels" if self.several else "label", "confidence")

    # --- targets

    def encode(self, column: pa.ChunkedArray) -> np.ndarray:
        """int64 [n], or float32 [n, labels] of 0 and 1. Raises UserError for unknown classes and missing labels."""
        if column.null_count:
            raise fail(
                f"{column.null_count} of {len(column)} samples",
                "have no label",
                "label them, or leave them out of the data to train or evaluate on",
            )
        self._refuse_other(column)
        return self._multi_hot(column) if self.several else self._codes(column)

    def _refuse_other(self, column: pa.ChunkedArray) -> None:
        if _is_lists(column.type) != self.several:
            kinds = ("one class a sample", "several labels a sample")
            raise fail(
                f"targets of {kinds[not self.several]}",
                f"do not fit a model of {kinds[self.several]}",
                "give data labelled as the training data were (--separator cuts a field into several labels)",
            )

    def _multi_hot(self, column: pa.ChunkedArray) -> np.ndarray:
        lists = column.combine_chunks()  # list_parent_indices counts anew in every chunk
        hot = np.zeros((len(lists), len(self.classes)), dtype=np.float32)
        hot[pc.list_parent_indices(lists).to_numpy(), self._codes(pc.list_flatten(lists))] = 1
        return hot

    def _codes(self, names: pa.Array | pa.ChunkedArray) -> np.ndarray:
        codes = pc.index_in(names, value_set=pa.array(self.classes, type=names.type))
        if codes.null_count:
            missing = names.filter(pc.is_null(codes))
            unknown = sorted(pc.unique(missing).to_pylist(), key=lambda name: natural(str(name)))
            raise fail(
                f"class{'es' if len(unknown) > 1 else ''} {_listed(unknown)} ({len(missing)} targets)",
                f"not among the {len(self.classes)} classes of the training data",
                self._meant(unknown),
            )
        return codes.to_numpy().astype(np.int64)

    def _meant(self, unknown: list[Any]) -> str:
        """What to do about classes that are not known."""
        cases = {name.casefold(): name for name in self.classes}
        for name in unknown:
            if (known := cases.get(str(name).casefold())) is not None:
                return f"only upper and lower case differ: write {known!r} for {name!r}"
        return f"take these samples out, or fit with them; {near(str(unknown[0]), self.classes)}"

    def decode(self, encoded: np.ndarray) -> list[Any]:
        """The names again: one string a sample, or a list of them."""
        if not self.several:
            return [self.classes[code] for code in encoded]
        return [[self.classes[code] for code in np.flatnonzero(row > 0.5)] for row in encoded]

    def targets(self, encoded: np.ndarray, closing: bool = False) -> torch.Tensor:
        return torch.from_numpy(encoded)

    def strata(self, column: pa.ChunkedArray) -> np.ndarray:
        """int64 [n]: the class; of several labels the set, or the rarest of them where few samples have it (`strata.of_sets`).

        Samples without a target are a stratum, too.
        """
        self._refuse_other(column)
        if not self.several:
            codes = pc.index_in(column, value_set=pa.array(self.classes, type=column.type))
            return pc.fill_null(codes, -1).to_numpy().astype(np.int64)
        return strata.of_sets(self._multi_hot(column))

    def mix(self, parts: list[torch.Tensor], shares: torch.Tensor) -> torch.Tensor:
        """Targets of mixed samples, float32 [B, classes]: `shares` [B, parts] of those of each part."""
        weighed = (share[:, None].float() * self._hot(part) for share, part in zip(shares.T, parts, strict=True))
        return torch.stack(list(weighed)).sum(0)

    def _hot(self, targets: torch.Tensor) -> torch.Tensor:
        return F.one_hot(targets, len(self.classes)).float() if targets.ndim == 1 else targets

    # --- from features to answers

    def head(self, features: Tree, backbone: Backbone) -> nn.Module:
        return LinearHead.of(features, len(self.classes))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, int]:
        """(sum over the samples, number of samples), in float32.

        One class: cross-entropy; `targets` int64 [B], or shares of the classes, float [B, classes]. Several labels:
        binary cross-entropy summed over the labels, so that each label learns as if it were alone. Weights multiply
        the terms and do not enter the number: since it depends on the number of samples only, accumulated
        micro-batches equal one big batch.
        """
        outputs = outputs.float()
        weights = self.weights.to(outputs.device) if self.weights is not None else None
        if not self.several:
            total = F.cross_entropy(outputs, targets, weights, reduction="sum", label_smoothing=self.smoothing)
            return total, len(targets)
        smooth = targets * (1 - self.smoothing) + self.smoothing / 2
        absent, present = (None, None) if weights is None else weights
        ratio = None if absent is None else present / absent
        total = F.binary_cross_entropy_with_logits(outputs, smooth, absent, reduction="sum", pos_weight=ratio)
        return total, len(targets)

    def divergence(self, outputs: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Half of KL divergence both ways, summed over the samples, of the classes or of each label by itself.

        In both cases KL(p | q) + KL(q | p) = sum (p - q) (s - t) with the outputs s, t that p and q come from.
        """
        s, t = outputs.float(), others.float()
        return ((self.chances(s) - self.chances(t)) * (s - t)).sum() / 2

    def chances(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities, float [B, classes], that gradients flow through."""
        return outputs.sigmoid() if self.several else outputs.softmax(dim=1)

    def certainty(self, outputs: torch.Tensor, predictions: np.ndarray) -> torch.Tensor:
        """float32 [B]: of the most likely class; of several labels the sum over those that are given, or of the likeliest where none is."""
        outputs = outputs.float()
        first = F.one_hot(torch.from_numpy(predictions.argmax(axis=1)), len(self.classes)).bool().to(outputs.device)
        if not self.several:
            return outputs[first] - outputs.masked_fill(first, -torch.inf).logsumexp(dim=1)
        given = torch.from_numpy(predictions > metrics.THRESHOLD).to(outputs.device)
        return (outputs * torch.where(given.any(dim=1, keepdim=True), given, first)).sum(dim=1)

    def alike(self, targets: torch.Tensor) -> torch.Tensor:
        """float32 [B, B]: what two samples' classes or labels have in common, as a share of what either has (1 or 0 for one class)."""
        hot = self._hot(targets).float()
        common = hot @ hot.T
        own = hot.square().sum(1)
        return common / (own[:, None] + own[None, :] - common).clamp_min(1e-12)

    def predictions(self, outputs: torch.Tensor) -> np.ndarray:
        """Probabilities, float32 [B, classes]: they sum to 1 over the classes, or each label has its own."""
        outputs = outputs.detach().float() / self.temperature
        return self.chances(outputs).cpu().numpy()

    def scores(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n], whose mean is the primary metric: 1 = right, 0 = wrong; of several labels F1 of each sample."""
        if self.several:
            return metrics.f1_scores(predictions, targets, self.thresholds)
        return (predictions.argmax(axis=1) == targets).astype(np.float64)

    def losses(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: log-loss in nats (of several labels the mean over them), neither smoothed nor weighted."""
        return (metrics.several_losses if self.several else metrics.losses)(predictions, targets)

    def judge(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        value = self.metrics(predictions, targets, [self.primary])[self.primary]["value"]
        logits = calibration.logits(predictions, self.several)
        heat = calibration.temperature(logits, targets, self.several, COLD)
        losses = self.losses(calibration.chances(logits, self.several, heat), targets)
        return value, self.scores(predictions, targets), losses

    def choices(self, predictions: np.ndarray) -> list[np.ndarray]:
        made = predictions.astype(np.float64)
        return [np.column_stack([1 - label, label]) for label in made.T] if self.several else [made]

    def chosen(self, targets: np.ndarray) -> list[np.ndarray]:
        return list((targets > 0.5).astype(np.int64).T) if self.several else [targets]

    def doubts(self, predictions: np.ndarray, targets: np.ndarray, fold: np.ndarray | None = None) -> list[Doubt]:
        """Confident learning (`metrics.doubt`), of several labels one by one."""
        found: list[Doubt] = []
        each = zip(self.choices(predictions), self.chosen(targets), strict=True)
        for number, (chances, given) in enumerate(each):
            doubtful = doubt.doubtful(chances, given, fold)
            for place, suggested, sure in zip(*map(np.ndarray.tolist, doubtful), strict=True):
                found.append(Doubt(place, *self._doubted(number, given[place], suggested), sure))
        return sorted(found, key=lambda one: -one.sure)

    def _doubted(self, number: int, given: int, suggested: int) -> tuple[str, str, str]:
        """(kind, label, suggested) of a choice."""
        if not self.several:
            return doubt.OTHER, self.classes[given], self.classes[suggested]
        name = self.classes[number]
        return (doubt.VAIN, name, "") if given else (doubt.LACKING, "", name)

    @staticmethod
    def apart(predictions: np.ndarray, others: np.ndarray) -> float:
        """The largest difference of a probability."""
        return float(np.abs(predictions - others).max())

    def settled(self, answers: Settling) -> Classification:
        """With the temperature that makes validation likeliest where that holds out of fold (`calibration.kept`) and, of several labels,
        the threshold of each that gives the best F1. Samples that were learned from tell neither: everything stays."""
        predictions, targets, learned = answers()
        if learned:
            return self
        logits = calibration.logits(predictions, self.several)
        heat, chosen = calibration.kept(logits, targets, self.several), dict[str, Any]()
        if heat != 1:
            chosen["temperature"] = heat * self.temperature
        if self.several:
            best = metrics.best_thresholds(calibration.chances(logits, True, heat), targets)
            chosen["thresholds"] = dict(zip(self.classes, best.tolist(), strict=True))
        return type(self)({**self.spec, **chosen}, self.smoothing, self.weights)

    def unsettled(self) -> Classification:
        return type(self)({name: self.spec[name] for name in ("classes", "several")})

    def metrics(
        self, predictions: np.ndarray, targets: np.ndarray, only: Iterable[str] | None = None
    ) -> dict[str, Metric]:
        """The figures of `metrics.classification`, or `only` those named; top5 from 6 classes on."""
        table = metrics.several(self.thresholds) if self.several else dict(metrics.SINGLE)
        if len(self.classes) <= 5:
            table.pop("top5", None)
        return metrics.figures(table, predictions, targets, only)

    def differences(
        self, predictions: np.ndarray, other: Classification, others: np.ndarray, targets: np.ndarray
    ) -> dict[str, Metric]:
        """Of macro F1 (paired bootstrap; not of very many samples and classes), and of log-loss (less is better)."""
        n, found = len(targets), dict[str, Metric]()
        if n * len(self.classes) <= MOST:
            both = ((predictions, self.thresholds), (others, other.thresholds))
            sums = (metrics.counted(made, targets, thresholds) for made, thresholds in both)
            value, low, high = difference(metrics.mean_f1, *sums)
            found["macro_f1"] = Metric(value=value, low=low, high=high, n=n)
        loss = paired(self.losses(predictions, targets), self.losses(others, targets))
        found["log_loss"] = Metric(value=loss.difference, low=loss.low, high=loss.high, n=n)
        return found

    def by_class(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, Metric]]:
        return metrics.by_class(self.classes, predictions, targets, self.thresholds)

    def confusion(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """Of several labels none takes another's place."""
        if self.several:
            return {}
        counts = metrics.confusion(predictions, targets)
        there = counts.sum(axis=1).tolist()
        return {"classes": self.classes, "given": self.classes, "counts": counts.tolist(), "there": there}

    def typical(self, predictions: np.ndarray, targets: np.ndarray) -> list[int]:
        hot = self._hot(torch.from_numpy(targets)).numpy() > 0.5
        right = self.scores(predictions, targets) == 1
        sure = np.where(hot, predictions + right[:, None], -1.0)  # those that are wholly right come first
        best = sure.argmax(axis=0)
        there = [number for number in range(len(self.classes)) if hot[:, number].any()]
        return [int(best[number]) for number in sorted(there, key=lambda number: -sure[best[number], number])]

    def confused(self, predictions: np.ndarray, targets: np.ndarray) -> dict[tuple[str, str], list[int]]:
        if self.several:
            return {}
        sure, given = predictions.max(axis=1), predictions.argmax(axis=1)
        places = sorted(np.flatnonzero(given != targets), key=lambda place: (-sure[place], place))
        order = sorted(places, key=lambda place: (targets[place], given[place]))
        pairs: dict[tuple[str, str], list[int]] = {}
        for place in order:
            pairs.setdefault((self.classes[targets[place]], self.classes[given[place]]), []).append(int(place))
        return pairs

    def calibration(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """{"temperature": that of the model, "before": it was divided by, "after"}, both {"ece", "log_loss", "bins"}."""
        logits = calibration.logits(predictions, self.several) * self.temperature
        plain = calibration.chances(logits, self.several).astype(predictions.dtype)
        return {
            "temperature": self.temperature,
            "before": self._reliability(plain, targets),
            "after": self._reliability(predictions, targets),
        }

    def _reliability(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        figures = self.metrics(predictions, targets, ["ece", "log_loss"])
        return {**figures, "bins": calibration.reliability(predictions, targets)}

    def errors(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
        return {}

    def constant(self, targets: np.ndarray) -> np.ndarray:
        """float32 [classes]: the share of the samples that each class or label has.

        Of several labels so many of the most frequent are given (above .5) as have the best mean F1 on these samples: to give none is no
        rival.
        """
        hot = self._hot(torch.from_numpy(targets)).float().numpy()
        shares = hot.mean(axis=0)
        if not self.several:
            return shares
        order = np.argsort(-shares, kind="stable")
        right, given = hot[:, order].cumsum(axis=1), np.arange(1, len(order) + 1)
        best = int((2 * right / (given + hot.sum(axis=1, keepdims=True))).mean(axis=0).argmax())
        shares[order[: best + 1]] = shares[order[: best + 1]].clip(np.nextafter(np.float32(metrics.THRESHOLD), 1))
        return shares

    def at_its_best(self, predictions: np.ndarray, held: np.ndarray, targets: np.ndarray) -> np.ndarray:
        if not self.several or not len(held):
            return predictions
        level = calibration.log_odds(metrics.best_thresholds(held, targets))
        return calibration.chances(calibration.logits(predictions, True) - level, True).astype(np.float32)

    def answer(self, prediction: np.ndarray) -> dict[str, Any]:
        """One row of predictions in words: {"label": "rose", "confidence": 0.93, "probabilities": {"rose": 0.93, ...}}.

        Several labels: "labels" is a list of those above their thresholds, "confidence" the probability that all are right
        if they were independent.
        """
        probabilities = dict(zip(self.classes, map(float, prediction), strict=True))
        if not self.several:
            label = max(probabilities, key=probabilities.__getitem__)
            return {"label": label, "confidence": probabilities[label], "probabilities": probabilities}
        given = prediction > self.thresholds
        labels = [name for name, one in zip(self.classes, given, strict=True) if one]
        confidence = float(np.where(given, prediction, 1 - prediction).astype(np.float64).prod())
        return {"labels": labels, "confidence": confidence, "probabilities": probabilities}

    def exhibit(
        self, name: str, raw: Raw, inputs: Inputs, prediction: np.ndarray, target: Any, evidence: Any
    ) -> Exhibit:
        """Labels are told as "a, b"; with several, it is right where all are."""
        told = self.answer(prediction)
        answer = told[self.columns[0]]
        truth = None if target is None else self.decode(np.asarray(target)[None])[0]
        right = None if truth is None else answer == truth
        words = [None if one is None else _words(one) for one in (truth, answer)]
        return Exhibit(name, words[0], words[1] or "", told["confidence"], right, inputs.shown(raw, evidence))

    @staticmethod
    def details(prepared: Tree) -> dict[str, Any]:
        """The answer says it all."""
        return {}

    def at(self, threshold: float) -> Classification:
        """Raises UserError: which classes are right is no matter of a threshold, and those of labels were chosen on validation."""
        raise no_effect(f"threshold {threshold}", self.name)

    def forms(self, asked: Asked) -> dict[str, Form]:
        """Tables of one row a sample, or JSON Lines."""
        if asked.coco is not None:
            raise no_effect(f"coco {asked.coco}", self.name)
        return class_forms.forms(self.columns, self.classes, asked.probabilities)

    pieces: ClassVar[dict[str, Piece]] = {}


def are_names(table: Table) -> bool:
    """Whether the targets of a table are names, or lists of names."""
    if "target" not in table:
        return False
    kind = table.column("target").type
    kind = kind.value_type if _is_lists(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def natural(name: str) -> tuple[Any, ...]:
    """The order people expect: 2 before 10, capital and small letters alike; the name itself breaks ties."""
    parts = re.split(r"(\d+)", name.casefold())
    return ([int(part) if index % 2 else part for index, part in enumerate(parts)], name)


def _is_lists(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _words(answer: str | list[str]) -> str:
    return answer if isinstance(answer, str) else ", ".join(answer) or "no label"


def _listed(names: list[Any], most: int = 5) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _weights(encoded: np.ndarray, classes: int) -> torch.Tensor:
    """Inverse to how often each class (presence and absence of each label) occurs; 1 where it does not."""
    n = len(encoded)
    if encoded.ndim == 1:
        counts = np.bincount(encoded, minlength=classes)
        kinds = (counts > 0).sum()
    else:
        present = encoded.sum(axis=0)
        counts = np.stack([n - present, present])
        kinds = (counts > 0).sum(axis=0)
    return torch.from_numpy(np.where(counts > 0, n / (kinds * np.maximum(counts, 1)), 1.0)).float()
