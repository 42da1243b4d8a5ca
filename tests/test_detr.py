"""RT-DETR, RT-DETR v2, D-FINE and DEIMv2: they answer and learn as transformers says, and load from folders."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

from acclimate.core.errors import MissingExtra, UserError
from acclimate.core.tree import leaves
from acclimate.models.detection import frames
from acclimate.models.detection.canvas import Canvas
from acclimate.models.detection.detector import Detector, cut
from acclimate.models.detection.detr import taken_apart
from acclimate.models.load import load, rebuild

SIDE, QUERIES, CLASSES = 128, 30, ["tree", "cat", "dog"]
RESNET = {
    "model_type": "rt_detr_resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_indices": [2, 3, 4],
}
HGNET = {
    "model_type": "hgnet_v2",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "use_learnable_affine_block": True,
    "out_indices": [2, 3, 4],
}
ALL = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": QUERIES,
    "num_denoising": 20,
    "id2label": dict(enumerate(CLASSES)),
    "label2id": {name: place for place, name in enumerate(CLASSES)},
}
FINE = {"backbone_config": HGNET, "depth_mult": 0.34, "hidden_expansion": 0.5, "lqe_hidden_dim": 8, "max_num_bins": 8}
OWN = {
    "rt_detr": {"backbone_config": RESNET},
    "rt_detr_v2": {"backbone_config": {**RESNET, "layer_type": "bottleneck"}, "freeze_backbone_batch_norms": False},
    "d_fine": FINE,
    "deimv2": FINE,
}
BOTH = ("rt_detr_v2", "d_fine")


def made(kind: str) -> Any:
    """transformers' own model, small, its weights drawn so that answers differ between pictures."""
    model = AutoModelForObjectDetection.from_config(AutoConfig.for_model(kind, **{**ALL, **OWN[kind]}))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad and value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=random) * 1.5 / value[0].numel() ** 0.5)
        for module in model.modules():
            if "BatchNorm" in type(module).__name__:
                nn.init.ones_(module.weight)
    return model.eval()


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {kind: made(kind) for kind in OWN}


@pytest.fixture(scope="module")
def folders(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind in BOTH:
        found[kind] = tmp_path_factory.mktemp("models") / kind
        models[kind].save_pretrained(found[kind])
        told = {"size": {"height": SIDE, "width": SIDE}, "resample": 2, "do_normalize": False, "image_mean": [0.5] * 3}
        (found[kind] / "preprocessor_config.json").write_text(json.dumps(told))
        (found[kind] / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return found


@pytest.fixture(scope="module")
def shown() -> dict[str, torch.Tensor]:
    """Two pictures of 256 x 192 pixels on the canvas."""
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    pixels[0, :, :64] *= 0.2
    return {"pixels": pixels, "frame": frames.frame(SIDE / 256, SIDE / 192, SIDE, SIDE).repeat(2, 1, 1)}


def targets(*counts: int) -> dict[str, torch.Tensor]:
    """That many boxes of each picture, in its own pixels."""
    random, most = torch.Generator().manual_seed(3), max(1, *counts)
    low = torch.rand(len(counts), most, 2, generator=random) * torch.tensor([200.0, 150.0])
    size = 16 + torch.rand(len(counts), most, 2, generator=random) * 24
    labels = torch.randint(0, len(CLASSES), (len(counts), most), generator=random)
    for row, count in zip(labels, counts, strict=True):
        row[count:] = -1
    return {"boxes": torch.cat((low, low + size), -1), "labels": labels, "source": torch.zeros_like(labels)}


def labels(asked: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The same as transformers takes it: centres and sizes in shares of the picture."""
    found = []
    for boxes, own in zip(asked["boxes"], asked["labels"], strict=True):
        low, high = (boxes[own >= 0] / torch.tensor([256.0, 192.0] * 2)).split(2, dim=1)
        found.append({"class_labels": own[own >= 0], "boxes": torch.cat(((low + high) / 2, high - low), 1)})
    return found


def detector(model: Any) -> Detector:
    return taken_apart(copy.deepcopy(model)).eval()


@pytest.mark.parametrize("kind", OWN)
def test_answers_are_those_of_transformers(kind: str, models: dict[str, Any], shown: Any) -> None:
    own = detector(models[kind])
    own.head.most = QUERIES
    with torch.no_grad():
        found, told = own(**shown), models[kind](shown["pixels"])
    sizes = torch.tensor([[SIDE, SIDE]] * 2)
    wanted = RTDetrImageProcessor().post_process_object_detection(told, threshold=0.0, target_sizes=sizes)
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(found[name], torch.stack([one[name] for one in wanted]), atol=1e-4, rtol=0)
    assert torch.equal(found["frame"], shown["frame"])
    assert found["scores"].std() > 0.01 and found["boxes"].std(dim=1).min() > 5  # they can differ
    assert not torch.allclose(found["boxes"][0], found["boxes"][1], atol=1)


def test_the_best_are_answered_and_the_unlikely_left_out(models: dict[str, Any], shown: Any) -> None:
    own = detector(models["d_fine"])
    with torch.no_grad():
        all_of_them = own(**shown)
        own.head.most, own.head.floor = 7, float(all_of_them["scores"][0, 3])
        few = own(**shown)
    assert all_of_them["boxes"].shape == (2, len(CLASSES) * QUERIES, 4)
    assert few["labels"].shape == (2, 7) and few["labels"][0, 3:].eq(-1).all() and few["scores"][0, 3:].eq(0).all()
    assert torch.equal(few["boxes"][0, :3], all_of_them["boxes"][0, :3]) and few["boxes"][0, 3:].eq(0).all()


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_that_of_transformers(kind: str, training: bool, models: dict[str, Any], shown: Any) -> None:
    whole, own, asked = (
        copy.deepcopy(models[kind]).train(training),
        detector(models[kind]).train(training),
        targets(3, 1),
    )
    torch.manual_seed(4)
    wanted = whole(shown["pixels"], labels=labels(asked)).loss
    torch.manual_seed(4)
    found = own(**shown, targets=asked)
    assert found["count"] == 2
    torch.testing.assert_close(found["loss"], 2 * wanted, rtol=1e-4, atol=1e-4)
    torch.manual_seed(5)
    noisy = own(**shown, targets=asked)["loss"]
    assert torch.equal(noisy, found["loss"]) is not training  # denoising queries are drawn anew, in training alone


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (1,), (QUERIES, 1), (200, 3)])
def test_any_number_of_boxes(kind: str, counts: tuple[int, ...], models: dict[str, Any], shown: Any) -> None:
    own = detector(models[kind]).train()
    seen: list[int] = []
    own.head.model.model.decoder.register_forward_pre_hook(
        lambda _, args, named: seen.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    few = {name: value[: len(counts)] for name, value in shown.items()}
    found = own(**few, targets=targets(*counts))
    found["loss"].backward()
    assert found["count"] == len(counts) and found["loss"].isfinite()
    assert all(value.grad is None or value.grad.isfinite().all() for value in own.parameters())
    most = max(counts)
    denoising = 2 * most * max(1, 20 // most) if 0 < most <= QUERIES else 0
    assert seen == [QUERIES + denoising]


@pytest.mark.parametrize("kind", BOTH)
def test_features_that_are_not_finite_give_a_loss_that_is_not(kind: str, models: dict[str, Any], shown: Any) -> None:
    own = detector(models[kind]).train()
    maps = tuple(one * float("nan") for one in own.neck(own.body(shown["pixels"])))
    found = own.head({"maps": maps, "frame": shown["frame"]}, targets(2, 1))
    assert found["loss"].isnan() and found["loss"].requires_grad and found["count"] == 2


def test_a_label_beyond_the_classes(models: dict[str, Any], shown: Any) -> None:
    asked = targets(2, 2)
    asked["labels"][1, 0] = 3
    with pytest.raises(ValueError, match="label 3 in a head of 3"):
        detector(models["d_fine"])(**shown, targets=asked)


@pytest.mark.parametrize("kind", BOTH)
def test_dense_has_gradients(kind: str, models: dict[str, Any], shown: Any) -> None:
    own = detector(models[kind])
    maps = tuple(one.detach().requires_grad_() for one in own.neck(own.body(shown["pixels"])))
    found = own.head.dense({"maps": maps, "frame": shown["frame"]})
    assert found["logits"].shape == (2, QUERIES, 3) and found["boxes"].shape == (2, QUERIES, 4)
    sum(one.sum() for one in found.values()).backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in maps)


@pytest.mark.parametrize("kind", OWN)
def test_other_classes_change_class_outputs_alone(kind: str, models: dict[str, Any], shown: Any) -> None:
    head = detector(models[kind]).head
    before = {name: value.clone() for name, value in head.state_dict().items()}
    other = head.renewed(["owl", "dog", "bee", "tree"])
    after = other.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], head.state_dict()[name]) for name in before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parts = ("class_embed.0", "class_embed.1", "enc_score_head")
    ends = (*(f"{part}.{kind}" for part in parts for kind in ("weight", "bias")), "denoising_class_embed.weight")
    assert len(changed) == len(ends) and all(name.endswith(ends) for name in changed)
    for name in changed:
        assert torch.equal(after[name][[1, 3]], before[name][[2, 0]])
    assert after["model.model.enc_score_head.bias"][[0, 2]].tolist() == pytest.approx([-math.log(4)] * 2)
    for name in changed & {"model.model.denoising_class_embed.weight"}:
        assert after[name].shape[0] == 5 and torch.equal(after[name][4], before[name][3])
    whole = Detector(*(getattr(detector(models[kind]), part) for part in ("body", "neck")), other)
    asked = {**targets(2, 1), "labels": torch.tensor([[3, 0], [2, -1]])}
    assert whole.train()(**shown, targets=asked)["loss"].isfinite()
    assert whole.eval()(**shown)["labels"].max() == 3


@pytest.mark.parametrize("kind", BOTH)
def test_constants_are_not_trained(kind: str, models: dict[str, Any]) -> None:
    own = detector(models[kind])
    assert all(value.requires_grad for value in own.parameters())
    assert own.state_dict().keys() >= ({"head.model.model.decoder.up"} if kind == "d_fine" else set())


@pytest.mark.parametrize("kind", BOTH)
def test_a_folder(kind: str, folders: dict[str, Path], models: dict[str, Any], shown: Any) -> None:
    backbone, card = load(str(folders[kind]))
    assert (card.source, card.architecture, card.licence, card.offline) == ("hf", kind, "apache-2.0", True)
    canvas = Canvas(
        SIDE, (SIDE, SIDE), fit="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear"
    )
    assert card.preprocessing == canvas and not canvas.fixed
    assert [one.name for one in backbone.stages] == [
        "model.embedder",
        *(f"model.encoder.stages.{place}" for place in range(4)),
        "neck",
    ]
    with torch.no_grad():
        features = backbone.run(shown)
        for first in range(len(backbone.stages) + 1):
            again = backbone.run(backbone.run(shown, 0, first), first)
            assert all(map(torch.equal, leaves(again), leaves(features)))
        found, wanted = backbone.kept[0](features), detector(models[kind])(**shown)
    assert backbone.kept[0].classes == CLASSES
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    kept = [
        backbone.join(backbone.split(backbone.run(shown, 0, first))) for first in range(1, len(backbone.stages) + 1)
    ]
    assert all(map(torch.equal, leaves(kept[-1]), leaves(features)))


@pytest.mark.parametrize("kind", BOTH)
def test_without_weights_the_structure_is_the_same(kind: str, folders: dict[str, Path], shown: Any) -> None:
    backbone, card = load(str(folders[kind]))
    bare = rebuild(json.loads(json.dumps(card.json())), card.preprocessing)
    assert bare.stages == backbone.stages
    pairs = ((bare, backbone), (bare.kept[0], backbone.kept[0]))
    for one, other in pairs:
        assert [(name, value.shape) for name, value in one.state_dict().items()] == [
            (name, value.shape) for name, value in other.state_dict().items()
        ]
    assert all(one.std(dim=(2, 3)).max() > 0.05 for one in bare.run(shown)["maps"])  # transformers would draw it dead


class Maps(nn.Sequential):
    """A body that ends with a 1 x 1 convolution, as a classifier of maps would."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (super().forward(pixels),)


def test_the_last_layer_of_a_body_is_no_classifier(shown: Any) -> None:
    body = Maps(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    wanted = body(shown["pixels"])
    backbone = cut(Detector(body, None, nn.Identity()), shown)
    assert backbone.classifier is None and torch.equal(backbone.run(shown)["maps"][0], wanted[0])


def test_any_size(folders: dict[str, Path]) -> None:
    backbone, card = load(str(folders["rt_detr_v2"]), size=100)
    assert (card.preprocessing.width, card.preprocessing.height) == (128, 128)
    shown = Canvas(160, (160, 96), fit="squash", mean=(0.0,) * 3, std=(1.0,) * 3)  # type: ignore[arg-type]
    backbone, _ = load(str(folders["rt_detr_v2"]), shown=shown)
    example = shown.example(2)
    asked = {"boxes": torch.tensor([[[0.0, 0, 80, 96]]] * 2), "labels": torch.zeros(2, 1, dtype=torch.int64)}
    head = backbone.kept[0]
    (found, _) = head._labels(backbone.run(example), {**asked, "source": torch.zeros(2, 1, dtype=torch.int64)})
    assert found["boxes"].tolist() == [[0.25, 0.5, 0.5, 1.0]]
    assert head(backbone.run(example))["boxes"].isfinite().all()


def test_anchors_of_one_size_are_not_kept(models: dict[str, Any], folders: dict[str, Path], tmp_path: Path) -> None:
    model = copy.deepcopy(models["d_fine"])
    model.config.anchor_image_size = [640, 640]
    model.save_pretrained(tmp_path)
    backbone, card = load(str(tmp_path), size=SIDE)
    known, _ = load(str(folders["d_fine"]))
    example = card.preprocessing.example(2)
    assert card.preprocessing.size == SIDE and load(str(tmp_path), pretrained=False)[1].preprocessing.size == 640
    with torch.no_grad():
        found, wanted = (one.kept[0](one.run(example))["boxes"] for one in (backbone, known))
    assert torch.equal(found, wanted)


def test_weights_of_a_file(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["rt_detr_v2"]
    read, _ = load(str(folder), weights=folder / "model.safetensors")
    known, _ = load(str(folder))
    for one, other in ((read, known), (read.kept[0], known.kept[0])):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    with pytest.raises(UserError, match="lacks weights of its architecture"):
        load(str(folder), weights=folders["d_fine"] / "model.safetensors")


def test_it_learns(models: dict[str, Any], shown: Any) -> None:
    own = detector(models["rt_detr_v2"]).train()
    own.head = own.head.renewed(["wood", "sea"]).train()
    asked = {**targets(2, 1), "labels": torch.tensor([[0, 1], [0, -1]])}
    optimizer = torch.optim.AdamW(own.parameters(), lr=2e-3)
    losses = []
    for step in range(80):
        torch.manual_seed(step)
        loss = own(**shown, targets=asked)["loss"] / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(own.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    with torch.no_grad():
        found = own.eval()(**shown)
    assert found["labels"][1, 0] == 0  # class 0, which is no background


# --- wrong input


@pytest.mark.parametrize(
    ("change", "preprocessor", "wanted"),
    [
        (
            {"model_type": "yolos", "architectures": ["YolosForObjectDetection"]},
            {},
            ("kind that is not read: yolos", "d_fine"),
        ),
        ({"model_type": "deimv2", "share_bbox_head": True}, {}, ("shares one box layer", "larger size")),
        ({}, {"size": {"shortest_edge": 800}}, ("keeps proportions", "width")),
        (
            {"architectures": None, "backbone_config": {**HGNET, "stage_out_channels": [8, 16, 24, 64]}},
            {},
            ("lacks weights",),
        ),
    ],
)
def test_folders_that_are_not_read(
    change: dict[str, Any],
    preprocessor: dict[str, Any],
    wanted: tuple[str, ...],
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    config = json.loads((folders["d_fine"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (tmp_path / "model.safetensors").write_bytes((folders["d_fine"] / "model.safetensors").read_bytes())
    with pytest.raises(UserError) as raised:
        load(str(tmp_path))
    assert all(one in str(raised.value) for one in wanted)


def test_transformers_missing_or_too_old(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(folders["d_fine"])
    # not the module as it was imported above: the import of an image processor puts another in its place
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "5.17.0")
    with pytest.raises(UserError, match=r"needs transformers 5\.18 or newer"):
        load(name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"acclimate\[detect\]"):
        load(name)
