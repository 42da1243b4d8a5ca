"""YOLOX: its weights in every form they go round in, its assignment against a plain one, its head for other classes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from acclimate.core.errors import UserError
from acclimate.models.backbone import Net
from acclimate.models.detection import yolox
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.simota import Points, assign, iou, yolox_loss
from acclimate.models.load import describe, load
from acclimate.models.norms import recentre, restate
from acclimate.models.sources.yolox import coco, running

EXAMPLE = Canvas(64).example(2)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """With batch norm that is not the identity."""
    torch.manual_seed(0)
    module = yolox.build("nano", list(coco()))
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for value, low, high in ((layer.weight, 0.5, 1.5), (layer.bias, -0.3, 0.3)):
                torch.nn.init.uniform_(value, low, high)
            torch.nn.init.uniform_(layer.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module.eval()


def official(module: Detector) -> dict[str, torch.Tensor]:
    """The state by the names of official checkpoints."""
    names = {"body": "backbone.backbone", "neck": "backbone", "head": "head"}
    parts = ((name.partition("."), value) for name, value in module.state_dict().items())
    return {f"{names[part]}.{rest}": value for (part, _, rest), value in parts}


def folded(module: Detector) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of every convolution, batch norm folded in, in the order in which they run."""
    found = {}
    for name in running(module):
        layer: Any = module.get_submodule(name)
        weight, bias = layer.weight, layer.bias
        if name.endswith(".conv"):
            norm: Any = module.get_submodule(name.removesuffix("conv") + "bn")
            slope = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight, bias = weight * slope[:, None, None, None], norm.bias - slope * norm.running_mean
        found[name] = weight.detach().clone(), bias.detach().clone()
    return found


def answers(weights: Path) -> dict[str, torch.Tensor]:
    backbone, _ = load("yolox:nano", weights=weights, size=64)
    with torch.no_grad():
        return Net(backbone, backbone.kept[0]).eval()(EXAMPLE)


def write_onnx(path: Path, convolutions: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    import onnx
    from onnx import helper, numpy_helper

    held, nodes = [], []
    for i, pair in enumerate(convolutions):
        held += [numpy_helper.from_array(one.numpy(), f"{i}.{kind}") for one, kind in zip(pair, "wb", strict=True)]
        nodes.append(helper.make_node("Conv", ["x", f"{i}.w", f"{i}.b"], [f"y{i}"]))
    graph = helper.make_graph(nodes, "yolox", [], [], held)
    onnx.save(helper.make_model(graph), path)


@pytest.mark.parametrize("form", ["pth", "safetensors", "onnx", "folded"])
def test_weights_load_in_every_form(form: str, detector: Detector, tmp_path: Path) -> None:
    with torch.no_grad():
        wanted = detector(**EXAMPLE)
    path = tmp_path / f"yolox.{form}"
    if form == "pth":
        torch.save({"model": official(detector), "start_epoch": 300}, path)
    elif form == "safetensors":
        save_file(official(detector), path)
    elif form == "onnx":
        pytest.importorskip("onnx")
        write_onnx(path, list(folded(detector).values()))
    else:
        names = {"body": "backbone.backbone", "neck": "backbone", "head": "head"}
        path, told, tensors = tmp_path / "yolox.safetensors", [], {}
        for i, (name, (weight, bias)) in enumerate(folded(detector).items()):
            part, _, rest = name.partition(".")
            told.append({"weight": f"{2 * i}", "bias": f"{2 * i + 1}", "module": f"{names[part]}.{rest}"})
            tensors |= {f"{2 * i}": weight, f"{2 * i + 1}": bias}
        save_file(tensors, path)
        path.with_suffix(".names.json").write_text(json.dumps({"convolutions": told}))
    found = answers(path)
    torch.testing.assert_close(found["boxes"], wanted["boxes"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["scores"], wanted["scores"], atol=1e-5, rtol=1e-4)


def test_a_file_of_another_size_or_of_nonsense_is_refused(detector: Detector, tmp_path: Path) -> None:
    torch.save({"model": official(yolox.build("tiny", ["a"]))}, tmp_path / "tiny.pth")
    with pytest.raises(UserError, match="does not fit"):
        load("yolox:nano", weights=tmp_path / "tiny.pth", size=64)
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish" * 9)
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match="damaged or no ONNX"):
        load("yolox:nano", weights=tmp_path / "rubbish.onnx", size=64)
    write_onnx(tmp_path / "short.onnx", list(folded(detector).values())[:-1])
    with pytest.raises(UserError, match="112 convolutions"):
        load("yolox:nano", weights=tmp_path / "short.onnx", size=64)
    (tmp_path / "x.names.json").write_text("{}")
    save_file(official(detector), tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="does not go with"):
        load("yolox:nano", weights=tmp_path / "x.safetensors", size=64)


def test_a_file_of_somebodys_own_classes_loads(tmp_path: Path) -> None:
    torch.save({"model": official(yolox.build("nano", ["a", "b", "c"]))}, tmp_path / "own.pth")
    backbone, _ = load("yolox:nano", weights=tmp_path / "own.pth", size=64)
    assert backbone.kept[0].classes == ["class 0", "class 1", "class 2"]


def test_sizes_have_the_parameters_of_the_paper() -> None:
    millions = {"nano": 0.91, "tiny": 5.06, "s": 9.0, "m": 25.3, "l": 54.2, "x": 99.1}
    for size, wanted in millions.items():
        with torch.device("meta"):
            module = yolox.build(size, list(coco()))
        assert sum(value.numel() for value in module.parameters()) / 1e6 == pytest.approx(wanted, abs=0.06)
    assert describe("yolox:s")[1].preprocessing.size == 640


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="nano"):
        describe("yolox:nanno")


def test_stages_are_the_parts_of_the_paper_and_can_be_run_apart() -> None:
    backbone, _ = load("random:yolox:nano", size=64)
    assert [stage.name for stage in backbone.stages] == ["stem", "dark2", "dark3", "dark4", "dark5", "neck"]
    held = [name for stage in backbone.stages for name in (*stage.parameters, *stage.buffers)]
    assert sorted(held) == sorted(backbone.state_dict())
    with torch.no_grad():
        whole = backbone(EXAMPLE)
        for k in range(len(backbone.stages) + 1):
            again = backbone.run(backbone.run(EXAMPLE, 0, k), k)
            assert all(map(torch.equal, whole["maps"], again["maps"]))
            assert torch.equal(again["frame"], EXAMPLE["frame"])


def test_other_classes_change_class_outputs_only(detector: Detector) -> None:
    head = detector.head
    other = head.renewed(["zebra crossing", "dog", "person"])
    before, after = head.state_dict(), other.state_dict()
    changed = {
        name for name in before if before[name].shape != after[name].shape or not before[name].equal(after[name])
    }
    assert changed == {f"cls_preds.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")}
    for level in range(3):
        new, old = other.cls_preds[level], head.cls_preds[level]
        for name, place in (("dog", 1), ("person", 2)):
            assert torch.equal(new.weight[place], old.weight[coco().index(name)])
            assert torch.equal(new.bias[place], old.bias[coco().index(name)])
        assert float(new.bias[0].detach()) == pytest.approx(-math.log(99))
    assert head.classes == list(coco())


def test_a_batch_of_one_is_answered_as_in_company(detector: Detector) -> None:
    with torch.no_grad():
        both = detector(**EXAMPLE)
        one = detector(EXAMPLE["pixels"][1:], EXAMPLE["frame"][1:])
    torch.testing.assert_close(one["boxes"][0], both["boxes"][1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(one["scores"][0], both["scores"][1], atol=1e-6, rtol=1e-4)


# --- assignment and losses


def plain_assignment(raw: torch.Tensor, points: Points, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """SimOTA for one picture, box by box and point by point, after the paper and release 0.3."""
    decoded = points.decoded(raw[None, :, :4])[0]
    near = points.near(boxes[None])[0]
    candidates = near.any(0).nonzero().flatten().tolist()
    chances = (raw[:, 5:].sigmoid() * raw[:, 4:5].sigmoid()).sqrt()
    cost = torch.full((len(boxes), len(raw)), float("inf"))
    overlaps = torch.zeros(len(boxes), len(raw))
    for m, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        for p in candidates:
            overlaps[m, p] = iou(box, decoded[p])
            wanted = F.one_hot(label, raw.shape[1] - 5).float()
            of_class = F.binary_cross_entropy(chances[p], wanted, reduction="sum")
            cost[m, p] = of_class - 3 * torch.log(overlaps[m, p] + 1e-8) + 1e6 * (not near[m, p])
    claims: dict[int, list[int]] = {}
    for m in range(len(boxes)):
        best = overlaps[m, candidates].topk(min(10, len(candidates))).values
        for p in cost[m].topk(max(1, int(best.sum())), largest=False).indices.tolist():
            if math.isfinite(cost[m, p]):
                claims.setdefault(p, []).append(m)
    owner = torch.full((len(raw),), -1)
    for p, wanting in claims.items():
        owner[p] = wanting[0] if len(wanting) == 1 else int(cost[:, p].argmin())
    return owner


def scene(seed: int, boxes: int, classes: int = 4) -> tuple[torch.Tensor, Points, torch.Tensor, torch.Tensor]:
    """Raw answers of two pictures of 64 pixels that are half right, and boxes for the first."""
    random = torch.Generator().manual_seed(seed)
    points = Points.of([(8, 8), (4, 4), (2, 2)], (8, 16, 32), torch.device("cpu"))
    raw = torch.randn(2, len(points.strides), 5 + classes, generator=random)
    corners = torch.rand(1, boxes, 4, generator=random) * 40
    found = torch.cat((corners[..., :2], corners[..., :2] + corners[..., 2:] * 0.6 + 6), dim=-1)
    labels = torch.randint(0, classes, (1, boxes), generator=random)
    nothing = torch.full_like(labels, -1)
    return raw, points, torch.cat((found, found)), torch.cat((labels, nothing))


@pytest.mark.parametrize("boxes", [1, 3, 12])
@pytest.mark.parametrize("seed", range(4))
def test_the_assignment_is_the_plain_one(seed: int, boxes: int) -> None:
    raw, points, found, labels = scene(seed, boxes)
    owner = assign(raw, points.decoded(raw[..., :4]), points, found, labels)
    assert torch.equal(owner[0], plain_assignment(raw[0], points, found[0], labels[0]))
    assert (owner[1] == -1).all()


@pytest.mark.parametrize("boxes", [0, 1, 200])
def test_any_number_of_boxes_gives_a_finite_loss(boxes: int) -> None:
    raw, points, found, labels = scene(0, max(boxes, 1))
    labels = labels if boxes else torch.full_like(labels, -1)
    raw.requires_grad_()
    loss, count = yolox_loss(raw, points, found, labels, torch.tensor([True, True]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(raw.grad).all()  # type: ignore[union-attr]
    assert (count == 0) == (boxes == 0)


def test_boxes_beyond_every_point_teach_objectness_alone() -> None:
    raw, points, found, labels = scene(0, 2)
    _, count = yolox_loss(raw, points, found + 1000, labels, torch.tensor([True, True]))
    assert count == 0


@pytest.mark.parametrize("closing", [False, True])
def test_the_loss_is_that_of_the_formulas(closing: bool) -> None:
    """In the last steps what the network says of boxes learns by L1 too."""
    raw, points, found, labels = scene(1, 3)
    decoded = points.decoded(raw[..., :4])
    owner = assign(raw, decoded, points, found, labels)
    wanted = F.binary_cross_entropy_with_logits(raw[..., 4], (owner >= 0).float(), reduction="sum")
    for point in (owner[0] >= 0).nonzero().flatten():
        mine = owner[0, point]
        overlap = iou(decoded[0, point], found[0, mine])
        shares = F.one_hot(labels[0, mine], 4) * overlap
        wanted += 5 * (1 - overlap**2)
        wanted += F.binary_cross_entropy_with_logits(raw[0, point, 5:], shares, reduction="sum")
        if closing:
            (x1, y1, x2, y2), stride, (column, row) = found[0, mine], points.strides[point], points.grid[point]
            said = [(x1 + x2) / 2 / stride - column, (y1 + y2) / 2 / stride - row]
            said += [torch.log((x2 - x1) / stride + 1e-8), torch.log((y2 - y1) / stride + 1e-8)]
            wanted += (raw[0, point, :4] - torch.stack(said)).abs().sum()
    loss, count = yolox_loss(raw, points, found, labels, torch.tensor([closing, closing]))
    assert count == int((owner >= 0).sum())
    torch.testing.assert_close(loss, wanted)


def test_only_the_closing_pictures_of_a_batch_learn_by_l1() -> None:
    raw, points, found, labels = scene(1, 3)
    labels = labels[:1].expand(2, -1)
    closing = torch.tensor([False, True])
    loss, _ = yolox_loss(raw, points, found, labels, closing)
    alone = [yolox_loss(raw[i], points, found[i], labels[i], closing[i])[0] for i in torch.arange(2).split(1)]
    torch.testing.assert_close(loss, alone[0] + alone[1])


def test_points_say_what_they_are_asked() -> None:
    _, points, found, _ = scene(2, 12)
    places = torch.arange(60, 72)
    raw = torch.zeros(1, len(points.strides), 4)
    raw[0, places] = points.encoded(found[0], places)
    torch.testing.assert_close(points.decoded(raw)[0, places], found[0])


# --- batch norm


def test_recentred_batch_norm_computes_what_it_did_and_knows_the_data() -> None:
    backbone, _ = load("random:yolox:nano", size=64)
    net = Net(backbone, backbone.kept[0]).eval()
    torch.manual_seed(1)
    batches = [Canvas(64).example(4) for _ in range(2)]
    with torch.no_grad():
        before = net.dense(batches[0])
        recentre(net, net.modules(), batches, 0)
        torch.testing.assert_close(net.dense(batches[0]), before, atol=1e-3, rtol=1e-3)
        norm = backbone.trunk.stem.conv.bn  # type: ignore[union-attr]
        seen = torch.cat([backbone.trunk.stem.conv.conv(focused(batch["pixels"])) for batch in batches])  # type: ignore[operator, union-attr]
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)  # type: ignore[arg-type, union-attr]
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3), correction=0), atol=1e-3, rtol=1e-3)  # type: ignore[arg-type, union-attr]


def test_without_batch_norm_that_learns_nothing_is_computed() -> None:
    def never() -> Any:
        yield pytest.fail("a batch was asked for")

    backbone, _ = load("random:yolox:nano", size=64)
    net = Net(backbone, backbone.kept[0])
    for bring in (recentre, restate):
        bring(net, [torch.nn.Conv2d(1, 1, 1)], never(), 0)


def focused(pixels: torch.Tensor) -> torch.Tensor:
    """Every second pixel, as the stem reads them."""
    return torch.cat([pixels[..., y::2, x::2] for x in (0, 1) for y in (0, 1)], dim=1)


# --- suppression


def plainly_suppressed(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, floor: float, limit: float, most: int
) -> dict[str, torch.Tensor]:
    """Picture by picture and box by box: from the likeliest on, of equals from the first, each takes away what it overlaps of its class."""
    found = {
        "boxes": torch.zeros(len(boxes), most, 4),
        "scores": torch.zeros(len(boxes), most),
        "labels": torch.full((len(boxes), most), -1),
    }
    for i in range(len(boxes)):
        ranked = scores[i].sort(descending=True, stable=True).indices
        left = ranked[scores[i, ranked] > floor].tolist()
        kept: list[int] = []
        while left and len(kept) < most:
            kept.append(left.pop(0))
            shares = iou(boxes[i, kept[-1]].double(), boxes[i, left].double())
            near = (shares > limit) & (labels[i, left] == labels[i, kept[-1]])
            left = [place for place, taken in zip(left, near.tolist(), strict=True) if not taken]
        for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            found[name][i, : len(kept)] = values[i, kept]
    return found


def crowd(seed: int, classes: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """400 boxes in each of three pictures, in whole pixels around few places, many of equal scores; of the second none is likely."""
    random = torch.Generator().manual_seed(seed)
    places = torch.rand(3, 6, 2, generator=random) * spread - spread / 4
    centre = places[:, torch.randint(6, (400,), generator=random)] + torch.randn(3, 400, 2, generator=random) * 8
    half = torch.rand(3, 400, 2, generator=random) * 16 + 8
    boxes = torch.cat((centre - half, centre + half), dim=2).round()
    scores = (torch.rand(3, 400, generator=random) * 50).round() / 50
    scores[1] = 0.0
    return boxes, scores, torch.randint(classes, (3, 400), generator=random)


@pytest.mark.parametrize("limit", [0.5, 0.65])
@pytest.mark.parametrize("most", [1, 12, 100, 500])
@pytest.mark.parametrize(("classes", "spread"), [(1, 100.0), (3, 100.0), (80, 400.0), (80, 1e6), (3, -1e6)])
def test_the_same_boxes_stay_as_by_plain_suppression(classes: int, spread: float, most: int, limit: float) -> None:
    boxes, scores, labels = crowd(0, classes, spread)
    scores[0, :3] = 0.5
    boxes[0, 0] = torch.tensor([-torch.inf, 3.0, torch.inf, 9.0])  # what an exponential may say
    boxes[0, 1:3] = torch.tensor([-1e9, -1e9, 1e9, 1e9])
    each = (boxes.requires_grad_(), scores.requires_grad_())
    wanted = plainly_suppressed(boxes, scores, labels, 0.02, limit, most)
    found = yolox.suppressed(boxes, scores, labels, 0.02, limit, most)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert (found["labels"][1] == -1).all()
    grads = [torch.autograd.grad(one["boxes"][2].sum() + one["scores"].sum(), each) for one in (found, wanted)]
    assert all(map(torch.equal, *grads))


def test_pictures_without_points_or_no_pictures_have_no_boxes() -> None:
    for shape in ((2, 0), (0, 5)):
        found = yolox.suppressed(torch.zeros(*shape, 4), torch.ones(shape), torch.zeros(shape).long(), 0.0, 0.5, 3)
        assert found["labels"].tolist() == [[-1, -1, -1]] * shape[0]
