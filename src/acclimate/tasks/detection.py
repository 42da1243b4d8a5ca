"""`Detection`: boxes and their classes in pictures, of any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn
from torchvision.ops import box_iou

from acclimate.core.errors import fail, near
from acclimate.core.recipe import Options
from acclimate.core.tree import Tree
from acclimate.data import boxes
from acclimate.data.gate import Finding, check_classes
from acclimate.data.table import Raw, Table
from acclimate.metrics import calibration
from acclimate.metrics import detection as metrics
from acclimate.metrics.box_doubt import box_doubts
from acclimate.metrics.comparison import difference
from acclimate.metrics.doubt import Doubt
from acclimate.metrics.errors import IGNORED, RIGHT, WRONG, error_kinds, judged
from acclimate.metrics.matching import boxes as truths_of
from acclimate.metrics.matching import detections
from acclimate.metrics.metric import Metric
from acclimate.models.backbone import Backbone
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.frames import to_picture
from acclimate.tasks import as_it_came, box_forms, draw, strata
from acclimate.tasks.canvas_inputs import CLASS, CROWD, CanvasInputs
from acclimate.tasks.classification import natural
from acclimate.tasks.exhibit import Exhibit
from acclimate.tasks.forms import Asked, Form, Piece, no_effect
from acclimate.tasks.pictures import OfPictures, smaller
from acclimate.tasks.task import Baseline, Came, Inputs, Settling, Starts
from acclimate.tasks.tuning import BOXES, Tuning

THRESHOLD = 0.3
"""Score above which a box is answered, until validation has chosen one."""
LIKELY = 0.05
"""Scores below this may come and go by rounding."""
PIXELS, FEWEST = 416**2, 2
"""Of the canvas for which the tuning's batch size is meant; pictures of a batch at least."""
ERRORS = {
    "cls": "wrong class",
    "loc": "badly placed",
    "both": "class and place",
    "dupe": "found twice",
    "bkg": "nothing there",
    "miss": "missed",
}
"""What the kinds of `metrics.errors` are called."""
COUNTED = (
    "A box counts as found where it is overlapped by half (IoU .5). One that is badly placed counts here twice, as missed and as nothing "
    "there; among the kinds of mistakes it counts once."
)
"""Why two tables of mistakes do not have the same numbers."""
NONE, TOLD = "no box", 5
NOTHING = np.array([0, 0, 0, 0, 0, -1], dtype=np.float32)
"""A row of predictions that finds nothing."""
OUTLIERS = 0.02
"""Share of the pictures that may be of other proportions than the canvas is cut for."""


class Detection(OfPictures):
    """`spec`: {"classes": [names in the order of the data, or in natural order], "threshold": score above which boxes are answered},
    and where validation has chosen them "temperature" and "offset" of scores (`calibration.Scale`)."""

    name = "detection"
    kind = Canvas.kind
    primary = "map"
    hub_tag = "object-detection"
    objectives = ("supervised", "fgm")
    heedless = ("label_smoothing", "balance weights")
    wraps = ("fasterrcnn", "retinanet", "fcos")

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.classes: list[str] = spec["classes"]
        self.scale = calibration.Scale(spec.get("temperature", 1.0), spec.get("offset", 0.0))
        self.about = f"boxes of {len(self.classes):,} class{'es' if len(self.classes) > 1 else ''}"

    @staticmethod
    def matches(table: Table) -> bool:
        """Pictures, with lists of boxes as targets."""
        if table.form not in ("path", "bytes") or "target" not in table:
            return False
        kind = table.column("target").type
        return pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)

    mend = staticmethod(boxes.mend)

    @staticmethod
    def from_table(table: Table) -> dict[str, Any]:
        """The classes that the data name, else those that have a box. Raises UserError where there is no box at all."""
        there = pc.unique(_labels(table.column("target").combine_chunks())).drop_null().to_pylist()
        if not there:
            raise fail(table.source, "holds no box", "give pictures with boxes to learn from")
        return {"classes": list(table.classes) or sorted(there, key=natural), "threshold": THRESHOLD}

    def check(self, table: Table) -> list[Finding]:
        """Raises UserError for classes that validation or test have and training lacks."""
        lists = table.column("target").combine_chunks()
        named = pa.ListArray.from_arrays(lists.offsets, _labels(lists))
        return check_classes(table.with_column("target", pa.chunked_array([named])), fewest=1)

    def for_training(self, encoded: np.ndarray, smoothing: float = 0.0, balance: str | None = None) -> Detection:
        """The loss is the head's own."""
        return self

    def sample_weights(self, encoded: np.ndarray) -> np.ndarray:
        """float64 [n], mean 1: pictures that hold a rare class come up as often as others."""
        return strata.balanced(strata.rarest(self._hot(encoded)))

    # --- targets

    def encode(self, column: pa.ChunkedArray) -> np.ndarray:
        """object [n]: of each picture float64 [m, 7], x1, y1, x2, y2 in pixels of the upright original, class, crowd (0 or 1), area.

        Raises UserError for classes that are not known.
        """
        lists = column.combine_chunks()
        fields = dict(zip([one.name for one in lists.type.value_type], lists.flatten().flatten(), strict=True))
        corners = [fields[name].to_numpy(zero_copy_only=False) for name in box_forms.CORNERS]
        own = (corners[2] - corners[0]) * (corners[3] - corners[1])
        said = fields["area"].to_numpy(zero_copy_only=False).astype(np.float64)
        area = np.where(np.isnan(said), own, said)
        crowd = pc.fill_null(fields["crowd"], False).to_numpy(zero_copy_only=False)
        rows = np.column_stack([*corners, self._codes(fields["label"]), crowd, area]).astype(np.float64)
        found = np.empty(len(lists), dtype=object)
        ends = np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
        for i, part in enumerate(np.split(rows, ends[:-1]) if len(ends) else []):
            found[i] = part
        return found

    def _codes(self, names: pa.Array) -> np.ndarray:
        codes = pc.index_in(names, value_set=pa.array(self.classes, type=names.type))
        if codes.null_count:
            unknown = sorted(pc.unique(names.filter(pc.is_null(codes))).to_pylist())
            rule = f"not among the {len(self.classes)} classes of the training data"
            remedy = f"take these boxes out, or fit with them; {near(str(unknown[0]), self.classes)}"
            raise fail(f"class {', '.join(map(repr, unknown[:5]))} ({codes.null_count} boxes)", rule, remedy)
        return codes.to_numpy(zero_copy_only=False).astype(np.int64)

    def targets(self, encoded: np.ndarray, closing: bool = False) -> Tree:
        """{"boxes": float32 [B, M, 4] in pixels of the originals, "labels": int64 [B, M], "source": int64 [B, M], "closing": bool [B]}: M
        is that of the picture with most, at least 1; where a picture has fewer, labels are -1. `source` is the picture of a mosaic.
        Crowds are not learned from."""
        single = [part[part[:, CROWD] == 0] for part in encoded]
        most = max(1, *(len(part) for part in single))
        found = {
            "boxes": torch.zeros(len(single), most, 4),
            "labels": torch.full((len(single), most), -1),
            "source": torch.zeros(len(single), most, dtype=torch.int64),
            "closing": torch.full((len(single),), closing),
        }
        for i, part in enumerate(single):
            found["boxes"][i, : len(part)] = torch.from_numpy(part[:, :4])
            found["labels"][i, : len(part)] = torch.from_numpy(part[:, CLASS])
        return found

    def mix(self, parts: list[Tree], shares: torch.Tensor) -> Tree:
        """The boxes of all parts, each with the number of its picture; what is not to be seen of them, their frames say."""
        sources = [torch.full_like(part["source"], number) for number, part in enumerate(parts)]
        joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in ("boxes", "labels")}
        return {**parts[0], **joined, "source": torch.cat(sources, dim=1)}

    def strata(self, column: pa.ChunkedArray) -> np.ndarray:
        """int64 [n]: the set of classes that a picture holds, or the rarest of them where few pictures have that set."""
        return strata.of_sets(self._hot(self.encode(column)))

    def _hot(self, encoded: np.ndarray) -> np.ndarray:
        hot = np.zeros((len(encoded), len(self.classes)), dtype=np.float32)
        for i, part in enumerate(encoded):
            hot[i, part[:, CLASS].astype(np.int64)] = 1
        return hot

    # --- the model

    @staticmethod
    def models(table: Table) -> Starts:
        """Models to start from where none is named."""
        return Starts(("fasterrcnn:tf_efficientnet_lite0",))

    @staticmethod
    def suit(preprocessing: Canvas, table: Table, options: Options) -> Canvas:
        """The canvas for these pictures: no larger than on the square of the same size any of them needs (but for a few outliers)."""
        shown = preprocessing.sized(options.size) if options.size else preprocessing
        if shown.fixed and options.size not in (None, preprocessing.size):
            raise fail(f"--size {options.size}", "is not read by this model", f"its own is {preprocessing.size}")
        if options.size is not None and options.size % shown.stride:
            below = options.size // shown.stride * shown.stride
            rule = f"is no multiple of {shown.stride}, which the coarsest maps of this model are made for"
            raise fail(f"--size {options.size}", rule, f"give {below or shown.stride} or {below + shown.stride}")
        if shown.fit == "squash" or not {"width", "height"} <= set(table.rows.column_names):
            return shown
        width, height = (table.column(name).drop_null().to_numpy().astype(float) for name in ("width", "height"))
        if not len(width) or len(width) != len(height):
            return shown
        longer = np.maximum(width, height)
        across, down = (float(np.quantile(side / longer, 1 - OUTLIERS)) for side in (width, height))
        return shown.shaped(across / down)

    @staticmethod
    def resolutions(shown: Canvas, sizes: np.ndarray) -> tuple[int, ...]:
        """Beside the suited canvas one of three quarters: on smaller ones small objects are lost."""
        return smaller(shown.size, 4 * shown.stride, 0.75, step=shown.stride) if not shown.fixed else (shown.size,)

    @staticmethod
    def inputs(preprocessing: Canvas) -> CanvasInputs:
        return CanvasInputs(preprocessing)

    def tuning(self, head: Any, preprocessing: Canvas) -> Tuning:
        """Batches are by pixels: on a larger canvas fewer pictures make one, `FEWEST` at least."""
        found = BOXES[head.tuned]
        usual = found.defaults["batch_size"]
        fitting = round(usual * PIXELS / (preprocessing.width * preprocessing.height))
        return replace(found, defaults={**found.defaults, "batch_size": min(usual, max(FEWEST, fitting))})

    def head(self, features: Tree, backbone: Backbone) -> nn.Module:
        """The pretrained head, its class outputs made for these classes."""
        (pretrained,) = backbone.kept
        return pretrained.renewed(self.classes)  # type: ignore[operator]

    def loss(self, outputs: Tree, targets: Tree) -> tuple[torch.Tensor, int]:
        """What the head says it is."""
        return outputs["loss"], outputs["count"]

    def divergence(self, outputs: Tree, others: Tree) -> torch.Tensor:
        raise NotImplementedError  # not among `objectives`

    def alike(self, targets: Tree) -> torch.Tensor:
        raise NotImplementedError

    # --- answers

    def predictions(self, outputs: Tree) -> np.ndarray:
        """float32 [B, N, 6]: x1, y1, x2, y2 in pixels of the upright original, score, class; the rest of N has class -1, score 0."""
        placed = to_picture(outputs["boxes"].detach().float(), outputs["frame"])
        scores, labels = outputs["scores"].detach().float(), outputs["labels"].float()
        placed = placed.masked_fill((labels < 0)[..., None], 0.0)
        return self._scaled(torch.cat((placed, scores[..., None], labels[..., None]), dim=2).cpu().numpy())

    def _scaled(self, predictions: np.ndarray) -> np.ndarray:
        """With scores on the scale of the task."""
        scores = np.where(predictions[..., 5] >= 0, self.scale.of(predictions[..., 4]), 0.0)
        return np.concatenate((predictions[..., :4], scores[..., None], predictions[..., 5:]), axis=-1).astype(
            np.float32
        )

    def scores(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: what each picture adds to average precision (its influence: the infinitesimal jackknife)."""
        return metrics.influences(self._match(predictions, targets))

    def losses(self, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [n]: one less the score; answers do not say what the training loss is."""
        return 1 - self.scores(predictions, targets)

    def judge(self, predictions: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        matches = self._match(predictions, targets)
        scores = metrics.influences(matches)
        return metrics.value(matches), scores, 1 - scores

    def settled(self, answers: Settling) -> Detection:
        """With the scale of scores that makes validation likeliest where that holds out of fold (`calibration.kept_scale`; 1 and 0 where
        these samples were learned from), and the threshold that gives the best F1, whether or not the model has learned from them."""
        predictions, targets, learned = answers()
        matches = self._match(predictions, targets)
        threshold, reached = metrics.best_threshold(matches)
        if not reached:
            return self
        plain = calibration.Scale()
        kept = plain if learned else calibration.kept_scale(metrics.answers(matches, LIKELY))
        chosen = {} if kept == plain else kept._asdict()
        # in float32, as predictions are: those with this very score are given
        return Detection({**self.spec, **chosen, "threshold": float(np.float32(kept.of(np.array(threshold))))})

    def chances(self, outputs: Tree) -> torch.Tensor:
        raise NotImplementedError  # for tasks with `choices`

    def certainty(self, outputs: Tree, predictions: np.ndarray) -> torch.Tensor:
        raise NotImplementedError

    def choices(self, predictions: np.ndarray) -> list[np.ndarray]:
        """Boxes are no choice among classes."""
        return []

    def chosen(self, targets: np.ndarray) -> list[np.ndarray]:
        return []

    def doubts(self, predictions: np.ndarray, targets: np.ndarray, fold: np.ndarray | None = None) -> list[Doubt]:
        """Boxes that are found and not labelled, the reverse, and those seen as another class (`metrics.box_doubt`)."""
        named = dict(enumerate(self.classes))
        return [
            Doubt(one.place, one.kind, named.get(one.label, ""), named.get(one.suggested, ""), one.sure, one.box)
            for one in box_doubts(predictions, targets, self.spec["threshold"])
        ]

    @staticmethod
    def apart(predictions: np.ndarray, others: np.ndarray) -> float:
        """Of every likely box, the difference to the box of the other set that is nearest: in score, or 1 - IoU."""
        both = (predictions, others)
        worst = 0.0
        for one, other in (both, both[::-1]):
            for mine, theirs in zip(one, other, strict=True):
                likely = mine[mine[:, 4] >= LIKELY]
                if len(likely):
                    worst = max(worst, float(_differences(likely, theirs).min(axis=1).max()))
        return worst

    def _match(self, predictions: np.ndarray, targets: np.ndarray) -> metrics.Matches:
        return metrics.match(predictions, targets, len(self.classes))

    def unsettled(self) -> Detection:
        return Detection({"classes": self.classes, "threshold": THRESHOLD})

    def metrics(
        self, predictions: np.ndarray, targets: np.ndarray, only: Iterable[str] | None = None
    ) -> dict[str, Metric]:
        return metrics.figures(predictions, targets, len(self.classes), threshold=self.spec["threshold"], only=only)

    def differences(
        self, predictions: np.ndarray, other: Detection, others: np.ndarray, targets: np.ndarray
    ) -> dict[str, Metric]:
        """Of F1, each at the threshold of its own model (paired bootstrap over pictures)."""
        sides = ((predictions, self), (others, other))
        sums = (metrics.counted(self._match(made, targets), task.spec["threshold"]) for made, task in sides)
        value, low, high = difference(metrics.RATES["f1"], *sums)
        return {"f1": Metric(value=value, low=low, high=high, n=len(targets))} if np.isfinite(value) else {}

    def by_class(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, Metric]]:
        return metrics.by_class(self._match(predictions, targets), self.classes)

    @property
    def _sides(self) -> tuple[list[str], list[str]]:
        """What a box can be, and what it can be answered as."""
        return [*self.classes, ERRORS["bkg"]], [*self.classes, NONE]

    def confusion(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """Of what is answered at the threshold; each box once, whatever its class."""
        counts = metrics.confusion(predictions, targets, len(self.classes), self.spec["threshold"])
        rows, columns = self._sides
        there = counts.sum(axis=1).tolist()
        return {"classes": rows, "given": columns, "counts": counts.tolist(), "there": there, "note": COUNTED}

    def typical(self, predictions: np.ndarray, targets: np.ndarray) -> list[int]:
        found = sorted(metrics.surest(self._match(predictions, targets), self.spec["threshold"]), reverse=True)
        return list(dict.fromkeys(picture for _, picture in found))

    def confused(self, predictions: np.ndarray, targets: np.ndarray) -> dict[tuple[str, str], list[int]]:
        """Pictures with most such boxes first."""
        rows, columns = self._sides
        each = metrics.taken_for(predictions, targets, len(self.classes), self.spec["threshold"])
        pairs: dict[tuple[str, str], Counter[int]] = {}
        for true, given, picture in zip(*(part.tolist() for part in each), strict=True):
            if rows[true] != columns[given]:
                pairs.setdefault((rows[true], columns[given]), Counter())[picture] += 1
        return {pair: [picture for picture, _ in counts.most_common()] for pair, counts in pairs.items()}

    def calibration(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """Of the scores of all likely boxes, whether or not they are answered: {"temperature", "offset", "before", "after"}, the last two
        {"ece", "log_loss", "bins"}."""
        after = metrics.answers(self._match(predictions, targets), float(self.scale.of(np.array(LIKELY))))
        if not len(after.right):
            return {}
        before = after._replace(confidence=self.scale.back(after.confidence))
        told = {when: _reliability(made, len(targets)) for when, made in (("before", before), ("after", after))}
        return {**self.scale._asdict(), **told}

    def errors(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
        """By the kinds of `metrics.errors`: what is answered at the threshold is counted, `map50` is of detections of any score."""
        count = len(self.classes)
        answered = np.where(predictions[..., 4:5] >= self.spec["threshold"], predictions, NOTHING)
        seen, found = (error_kinds(some, targets, count) for some in (answered, predictions))
        costly = sorted(found, key=lambda kind: -found[kind]["delta"])
        return {
            ERRORS[kind]: {"at the threshold": seen[kind]["count"], "map50": found[kind]["delta"]} for kind in costly
        }

    def baseline(
        self, table: Table, train: np.ndarray, val: np.ndarray, rows: np.ndarray, came: Came | None
    ) -> Baseline | None:
        """The detector as it came (`tasks.as_it_came`), where it was trained to find anything."""
        if came is None:
            return None
        targets = self.encode(table.column("target"))
        return Baseline(as_it_came.NAME, as_it_came.predictions(came, self.classes, train, targets, rows))

    @staticmethod
    def constant(targets: np.ndarray) -> None:
        """Boxes of a picture that was not seen are worth nothing."""

    @staticmethod
    def at_its_best(predictions: np.ndarray, held: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Average precision is of all thresholds."""
        return predictions

    columns = ("boxes", "classes", "scores")

    def answer(self, prediction: np.ndarray) -> dict[str, Any]:
        """Boxes above the threshold, best first: {"boxes": [[x1, y1, x2, y2], ...], "classes": ["cat", ...], "scores": [...]}."""
        kept = prediction[(prediction[:, 5] >= 0) & (prediction[:, 4] >= self.spec["threshold"])]
        kept[:, :4] = kept[:, :4].round(2)
        kept = kept[(kept[:, 2:4] > kept[:, :2]).all(axis=1)]  # at the edge of the picture nothing may be left of a box
        return {
            "boxes": [[round(float(edge), 2) for edge in row[:4]] for row in kept],
            "classes": [self.classes[int(row[5])] for row in kept],
            "scores": [round(float(row[4]), 4) for row in kept],
        }

    def exhibit(
        self, name: str, raw: Raw, inputs: Inputs, prediction: np.ndarray, target: Any, evidence: Any
    ) -> Exhibit:
        """The picture with the boxes at the threshold drawn into it as found, missed or wrong (`draw.LINES`), and what is wrong about them;
        without a target all that are answered are drawn as found."""
        answered = prediction[(prediction[:, 5] >= 0) & (prediction[:, 4] >= self.spec["threshold"])]
        each = self._judged(answered, target)
        notes = {kind: _counted([told for one, _, told in each if one == kind]) for kind in draw.LINES}
        names = [self.classes[int(row[5])] for row in answered]
        truth = None if target is None else _counted([self.classes[int(row[CLASS])] for row in target])
        right = None if target is None else not (notes["missed"] or notes["wrong"])
        told = tuple((kind, words) for kind, words in notes.items() if words)
        shown = draw.outlined(raw, [box for _, box, _ in each], [kind for kind, _, _ in each])
        return Exhibit(name, truth if truth != "" else NONE, _counted(names) or NONE, None, right, shown, told)

    def _judged(self, answered: np.ndarray, target: np.ndarray | None) -> list[tuple[str, np.ndarray, str]]:
        """(kind of line, box, in words) of the boxes answered, float32 [D, 6], and of those missed."""
        found = detections(answered[None])
        labels = [self.classes[label] for label in found.label]
        if target is None:
            return [("found", box, label) for box, label in zip(found.box, labels, strict=True)]
        targets = np.empty(1, dtype=object)
        targets[0] = target
        truths = truths_of(targets)
        kinds, means = judged(found, truths)
        words = {number: ERRORS[name] for name, number in WRONG.items()}
        each = [
            ("found", box, label) if kind in (RIGHT, IGNORED) else ("wrong", box, f"{label} ({words[kind]})")
            for kind, box, label in zip(kinds.tolist(), found.box, labels, strict=True)
        ]
        missed = np.setdiff1d(np.flatnonzero(truths.counted[:, 0]), means[kinds == RIGHT])
        return [*each, *(("missed", truths.box[i], self.classes[truths.label[i]]) for i in missed)]

    details = staticmethod(box_forms.details)

    def at(self, threshold: float) -> Detection:
        if not 0 <= threshold <= 1:
            raise fail(f"--threshold {threshold}", "is not from 0 to 1", f"its own is {self.spec['threshold']:.3g}")
        return Detection({**self.spec, "threshold": threshold})

    def forms(self, asked: Asked) -> dict[str, Form]:
        """JSON Lines, tables of one row a box, COCO results."""
        if asked.probabilities:
            raise no_effect("probabilities", self.name)
        return box_forms.forms(self.columns, self.classes, asked.coco)

    @property
    def pieces(self) -> dict[str, Piece]:
        """ "draw": the picture with its boxes; "yolo": a text file of them."""
        return box_forms.pieces(self.classes)


def _reliability(made: calibration.Answers, n: int) -> dict[str, Any]:
    figures = {"ece": calibration.error_of(made, n), "log_loss": calibration.loss_of(made, n)}
    return {**figures, "bins": calibration.bins_of(made)}


def _counted(names: list[str]) -> str:
    """ "3 cat, 1 dog", the most frequent first; of more than `TOLD` kinds the rest together."""
    told = Counter(names).most_common(TOLD)
    others = len(names) - sum(count for _, count in told)
    return ", ".join([*(f"{count} {name}" for name, count in told), *([f"{others} others"] if others else [])])


def _labels(lists: pa.ListArray) -> pa.Array:
    """The class of every box, of all lists."""
    return lists.values.field("label")


def _differences(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """float64 [m, n] between predictions [m, 6] and [n, 6]: 1 for boxes of other classes."""
    first, second = torch.from_numpy(mine).double(), torch.from_numpy(theirs).double()
    apart = 1 - box_iou(first[:, :4], second[:, :4])
    scores = (first[:, None, 4] - second[None, :, 4]).abs()
    return apart.maximum(scores).masked_fill(first[:, None, 5] != second[None, :, 5], 1.0).numpy()
