"""The sides of detection_others.py that are other people's trainers, each a whole process on the CPU. Not run by hand.

    python benchmarks/detection_sides.py ASK.json

Their scripts are run as they are, from a checkout, and nothing of their recipes is changed. Wrapped is what judges validation, so that it
is known when an epoch was as good as it was. Seconds count from the start of the process until training has ended; after that the test
pictures are answered with the weights that count, and everything is left in answer.json beside the question.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from text_sides import Clock
from torch import nn

LITE0 = "fasterrcnn_efficientnet_lite0_320_fpn"
"""What the detector is called in torchvision's registry."""
RATE, DEVICES, BATCH = 0.02, 8, 2
"""torchvision's learning rate, for how many devices that is meant, and the pictures on each of them."""
FALLS = (16 / 26, 22 / 26)
"""Where in its run the rate falls: after 16 and 22 of its 26 epochs."""
YOLOX_BATCH = 8
"""What its README recommends for one device; its rate follows by itself."""
EVERY = 10
"""Epochs after which YOLOX's trainer judges by itself, until mosaics end; from then on it judges each."""
WORKERS = 4
"""Default of both scripts; no more are begun than there are cores, beyond which torch warns."""


@dataclass
class Ask:
    """`side`: a key of `SIDES`; `folder`: of its code; `data`: pictures and boxes in COCO's layout, with a test split; `weights`: a
    checkpoint to begin with, where the side needs one; `began`: time.time()."""

    side: str
    folder: str
    data: str
    weights: str
    classes: list[str]
    epochs: int
    seed: int
    place: str
    began: float


@dataclass
class Answer:
    """`value`: average precision on validation of the weights that count; `curve`: (seconds since the process began, the same after an
    epoch); `boxes`: by the id of each test picture, [x1, y1, x2, y2, score, class from 0 on] of what was found."""

    seconds: float
    value: float
    curve: list[tuple[float, float]]
    boxes: dict[int, list[list[float]]]


def run_script(path: Path, seed: int, *words: object) -> None:
    """A script as from the command line."""
    for begin in (random.seed, np.random.seed, torch.manual_seed):
        begin(seed)
    sys.argv = [path.name, *map(str, words)]
    runpy.run_path(str(path), run_name="__main__")


def workers() -> int:
    from acclimate.core.device import cores

    return min(WORKERS, cores())


# --- torchvision's reference script


def torchvision(ask: Ask, clock: Clock) -> Answer:
    """references/detection/train.py. It keeps no best epoch: the last one counts."""
    sys.path.insert(0, ask.folder)
    import engine
    from torchvision.models._api import register_model

    build = partial(lite0, classes=len(ask.classes))
    register_model(LITE0)(build)
    curve: list[tuple[float, float]] = []
    evaluate = engine.evaluate

    def judged(*given: Any, **more: Any) -> Any:
        found = evaluate(*given, **more)
        curve.append((clock(), float(found.coco_eval["bbox"].stats[0])))
        return found

    engine.evaluate = judged
    out = Path(ask.place) / "out"
    said = ["--device", "cpu", "--model", LITE0, "--data-path", ask.data, "--output-dir", out, "--workers", workers()]
    said += ["--batch-size", BATCH, "--lr", RATE / DEVICES, "--epochs", ask.epochs]
    said += ["--lr-steps", *(round(share * ask.epochs) for share in FALLS)]
    run_script(Path(ask.folder) / "train.py", ask.seed, *said)
    seconds = clock()
    model = build()
    model.load_state_dict(torch.load(out / "checkpoint.pth", weights_only=False)["model"])
    return Answer(seconds, curve[-1][1], curve, answered(model.eval(), ask.data))


def lite0(*, classes: int, trainable_backbone_layers: int | None = None, **ignored: Any) -> nn.Module:
    """fasterrcnn_mobilenet_v3_large_320_fpn as torchvision builds it from pretrained MobileNet weights (batch norm frozen, the first three
    stages too, a pyramid on the last two), with EfficientNet-Lite0 in MobileNet's place.

    Ignored are the 91 classes of COCO that the script asks for whatever the data hold, and its names of weights.
    """
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import _mobilenet_extractor

    learned = 3 if trainable_backbone_layers is None else trainable_backbone_layers
    return FasterRCNN(
        _mobilenet_extractor(LikeMobileNet(), True, learned),
        classes + 1,
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3),
        min_size=320,
        max_size=640,
        rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=150,
        rpn_score_thresh=0.05,
        image_mean=[0.5] * 3,  # as Lite0 was trained
        image_std=[0.5] * 3,
    )


class LikeMobileNet(nn.Module):
    """EfficientNet-Lite0 with its packaged weights, laid out as torchvision's MobileNets are: torchvision cuts it as it cuts them."""

    def __init__(self) -> None:
        super().__init__()
        from timm.layers import freeze_batch_norm_2d

        from acclimate.models.load import describe

        source, card = describe("efficientnet_lite0")
        whole: Any = source.build(card, card.preprocessing.size, True)
        blocks = [block for stage in whole.blocks for block in stage]
        ends = (nn.Sequential(whole.conv_stem, whole.bn1), nn.Sequential(whole.conv_head, whole.bn2))
        self.features = nn.Sequential(ends[0], *blocks, ends[1])
        for layer in self.features:
            convolutions = [one for one in layer.modules() if isinstance(one, nn.Conv2d)]
            layer.out_channels = convolutions[-1].out_channels
            layer._is_cn = layer is not ends[0] and any(one.stride[0] > 1 for one in convolutions)
        freeze_batch_norm_2d(self.features)


@torch.no_grad()
def answered(model: nn.Module, data: str) -> dict[int, list[list[float]]]:
    """What a detector of torchvision finds in the test pictures."""
    found = {}
    for number, pixels in test_pictures(data):
        (one,) = model([pixels])
        rows = torch.cat((one["boxes"], one["scores"][:, None], one["labels"][:, None] - 1), dim=1)
        found[number] = rows.tolist()
    return found


def test_pictures(data: str) -> Iterator[tuple[int, torch.Tensor]]:
    """(id, float32 [3, H, W] from 0 to 1)."""
    from PIL import Image
    from torchvision.transforms.functional import to_tensor

    listed = json.loads((Path(data) / "annotations" / "instances_test2017.json").read_text())["images"]
    for one in listed:
        with Image.open(Path(data) / "test2017" / one["file_name"]) as picture:
            yield one["id"], to_tensor(picture.convert("RGB"))


# --- the trainer of YOLOX's repository


class Batches:
    """In the place of YOLOX's DataPrefetcher, which copies ahead to the GPU."""

    def __init__(self, loader: Any) -> None:
        self.batches = iter(loader)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, targets, *_ = next(self.batches)
        return pictures, targets


def without_gpu() -> None:
    """Replace what YOLOX's trainer asks of CUDA whatever the machine has, by the same on the CPU; it stays as it is beyond that."""
    import yolox.core.trainer as trainer
    import yolox.utils

    torch.Tensor.cuda = lambda tensor, *given, **more: tensor
    torch.cuda.FloatTensor = torch.FloatTensor
    torch.cuda.set_device = lambda device: None
    torch.cuda.max_memory_allocated = lambda *given: 0
    yolox.utils.get_num_devices = lambda: 1  # it counts what nvidia-smi lists
    trainer.DataPrefetcher = Batches
    trainer.Trainer.device = property(lambda own: "cpu", lambda own, asked: None)


def yolox(ask: Ask, clock: Clock) -> Answer:
    """tools/train.py -n yolox-nano. Its averaged weights count, of the epoch that was best on validation, as it keeps them.

    Every epoch is judged, so that the curve is as fine as the others; where the trainer would not have judged, the clock stands still.
    """
    sys.path.insert(0, ask.folder)
    from yolox.exp import get_exp
    from yolox.exp.yolox_base import Exp
    from yolox.layers import FastCOCOEvalOp

    without_gpu()
    curve: list[tuple[float, float]] = []
    evaluate = Exp.eval

    def judged(exp: Any, *given: Any, **more: Any) -> Any:
        began = clock()
        found = evaluate(exp, *given, **more)
        epoch = len(curve) + 1
        if epoch % EVERY and epoch < exp.max_epoch - exp.no_aug_epochs:
            clock.began += clock() - began
        curve.append((clock(), float(found[0][0])))
        return found

    Exp.eval = judged
    began = clock()
    FastCOCOEvalOp().load()  # is compiled once a machine, as at an installation
    clock.began += clock() - began
    out = Path(ask.place) / "out"
    asked = ["num_classes", len(ask.classes), "max_epoch", ask.epochs, "data_dir", ask.data, "output_dir", out]
    asked += ["eval_interval", 1, "data_num_workers", workers()]
    said = ["-n", "yolox-nano", "-d", 1, "-b", YOLOX_BATCH, "-c", ask.weights, "--cache", "ram", *asked]
    run_script(Path(ask.folder) / "tools" / "train.py", ask.seed, *said)
    seconds = clock()
    exp = get_exp(None, "yolox-nano")
    exp.merge(list(map(str, asked)))
    return Answer(seconds, max(value for _, value in curve), curve, tested(exp, out / "yolox_nano"))


def tested(exp: Any, folder: Path) -> dict[int, list[list[float]]]:
    """What the best checkpoint in the folder finds in the test pictures, by YOLOX's own evaluator."""
    model = exp.get_model()
    kept = next(path for name in ("best", "latest") if (path := folder / f"{name}_ckpt.pth").exists())
    model.load_state_dict(torch.load(kept, weights_only=False)["model"])
    evaluator = exp.get_evaluator(YOLOX_BATCH, False, testdev=True)
    _, found = evaluator.evaluate(model, return_outputs=True)
    return {
        number: [
            [*box, score, category - 1]
            for box, score, category in zip(one["bboxes"], one["scores"], one["categories"], strict=True)
        ]
        for number, one in found.items()
    }


SIDES = {"torchvision": torchvision, "yolox": yolox}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ask", metavar="ASK.json", type=Path)
    path = parser.parse_args().ask
    ask = Ask(**json.loads(path.read_text()))
    answer = SIDES[ask.side](ask, Clock(ask.began))
    (path.parent / "answer.json").write_text(json.dumps(asdict(answer)))


if __name__ == "__main__":
    main()
