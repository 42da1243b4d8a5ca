"""RT-DETR (Zhao et al., 2024) and its kin, RT-DETR v2, D-FINE and DEIMv2, of the library transformers: taken apart into body, neck, head.

Every part is a module of transformers', and so are the query selection, the denoising queries and the losses: the head calls the forward
pass of the whole model with the body and the neck taken out. Nothing is suppressed: the decoder answers an object once.
"""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torchvision.ops import box_convert

from acclimate.core.tree import Tree
from acclimate.models.detection.detector import Detector
from acclimate.models.detection.frames import to_canvas


class Body(nn.Module):
    """A backbone of transformers': pixels [B, 3, H, W] to a tuple of maps, the finest first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(pixels)
        return tuple(getattr(found, "feature_maps", found))


class Neck(nn.Module):
    """The hybrid encoder behind its projections: attention within the coarsest map, then maps are told to each other."""

    def __init__(self, projections: nn.ModuleList | None, encoder: nn.Module) -> None:
        super().__init__()
        self.projections = projections
        self.encoder = encoder

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        projected = list(maps)  # a list, which the encoder writes into
        if self.projections is not None:
            projected = [project(x) for project, x in zip(self.projections, maps, strict=True)]
        return tuple(self.encoder(projected)[0])


class Encoded(nn.Module):
    """Stands where the encoder was: what flows in is encoded already."""

    def forward(self, maps: Maps, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=maps, feature_maps=maps, hidden_states=None, attentions=None)


class Maps(tuple[torch.Tensor, ...]):
    """Maps in the place of one tensor of embeddings, which is asked for its batch and its device."""

    __slots__ = ()

    @property
    def shape(self) -> torch.Size:
        return self[0].shape

    @property
    def device(self) -> torch.device:
        return self[0].device


class DetrHead(nn.Module):
    """Queries, chosen among the places of all maps, that a decoder turns into objects. See `detector.Head`.

    `model`: a ...ForObjectDetection of transformers without body and neck.
    """

    tuned = "queries"

    def __init__(self, model: Any, classes: list[str]) -> None:
        super().__init__()
        self.model = model
        self.classes = list(classes)
        self.floor, self.iou, self.most = 0.001, 1.0, 100
        self.denoising: int = model.config.num_denoising

    def forward(self, features: Tree, targets: Tree | None = None) -> Tree:
        """The loss is the sum over pictures of transformers' own (varifocal, L1, generalized IoU; of all decoder layers, the chosen
        queries and, in training mode, denoising queries), a mean over the batch's boxes. Raises ValueError for a label that is no class.
        """
        if targets is None:
            return {**self._answers(features["maps"]), "frame": features["frame"]}
        labels = self._labels(features, targets)
        return {"loss": self._loss(features["maps"], labels) * len(labels), "count": len(labels)}

    def dense(self, features: Tree) -> dict[str, torch.Tensor]:
        """{"logits": [B, queries, classes], "boxes": [B, queries, 4], centre and size in shares of the canvas}."""
        found = self._run(features["maps"])
        return {"logits": found.logits, "boxes": found.pred_boxes}

    def renewed(self, classes: list[str]) -> DetrHead:
        """A copy whose class outputs, and embeddings of classes for denoising, are fresh but for classes of the same name."""
        other = copy.deepcopy(self)
        other.classes = list(classes)
        other.model.config.id2label = dict(enumerate(classes))
        other.model.config.label2id = {name: place for place, name in enumerate(classes)}
        kept = [(new, self.classes.index(name)) for new, name in enumerate(classes) if name in self.classes]
        inner = other.model.model
        inner.enc_score_head = _fresh(inner.enc_score_head, len(classes), kept)
        inner.decoder.class_embed = nn.ModuleList(_fresh(one, len(classes), kept) for one in inner.decoder.class_embed)
        if self.denoising:
            # the last row stands for no class
            rows = [*kept, (len(classes), len(self.classes))]
            inner.denoising_class_embed = _fresh(inner.denoising_class_embed, len(classes) + 1, rows)
        return other

    def _loss(self, maps: tuple[torch.Tensor, ...], labels: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        try:
            return self._run(maps, labels).loss
        except ValueError:  # transformers refuses boxes that are not finite; training passes over a loss that is not
            boxes = self._run(maps).pred_boxes
            if boxes.isfinite().all():
                raise
            return boxes.sum()

    def _run(self, maps: tuple[torch.Tensor, ...], labels: list[dict[str, torch.Tensor]] | None = None) -> Any:
        if labels is not None:
            # A picture of n boxes, be it the only one, gives every picture at least 2 n queries more. A crowd of more than can be
            # answered would take all memory for what teaches least.
            config, most = self.model.config, max(len(one["boxes"]) for one in labels)
            config.num_denoising = self.denoising if most <= config.num_queries else 0
        return self.model(pixel_values=None, inputs_embeds=Maps(maps), labels=labels)

    def _canvas(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """float32 [4]: width, height, width, height in pixels."""
        height, width = (side * self.model.config.feat_strides[0] for side in maps[0].shape[2:])
        return torch.tensor([width, height, width, height], dtype=torch.float32, device=maps[0].device)

    def _labels(self, features: Tree, targets: Tree) -> list[dict[str, torch.Tensor]]:
        boxes, there = to_canvas(targets["boxes"], targets["source"], features["frame"])
        labels = targets["labels"].masked_fill(~there, -1)
        if labels.max() >= len(self.classes):
            raise ValueError(f"label {int(labels.max())} in a head of {len(self.classes)} classes")
        boxes = box_convert(boxes / self._canvas(features["maps"]), "xyxy", "cxcywh")
        real = labels >= 0
        return [
            {"class_labels": label[one], "boxes": box[one]} for label, box, one in zip(labels, boxes, real, strict=True)
        ]

    def _answers(self, maps: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        """The likeliest pairs of a query and a class."""
        found = self._run(maps)
        chances = found.logits.float().sigmoid().flatten(1)
        scores, pairs = chances.topk(min(self.most, chances.shape[1]))
        boxes = box_convert(found.pred_boxes.float(), "cxcywh", "xyxy") * self._canvas(maps)
        boxes = boxes.gather(1, (pairs // len(self.classes))[..., None].expand(-1, -1, 4))
        none = scores <= self.floor
        return {
            "boxes": boxes.masked_fill(none[..., None], 0.0),
            "scores": scores.masked_fill(none, 0.0),
            "labels": (pairs % len(self.classes)).masked_fill(none, -1),
        }


@torch.no_grad()
def _fresh(layer: Any, rows: int, kept: list[tuple[int, int]]) -> Any:
    """A layer of another number of rows, drawn as RT-DETR does; `kept`: (row, the row of the old layer that it stays)."""
    fresh: Any
    if isinstance(layer, nn.Embedding):
        fresh = nn.Embedding(rows, layer.embedding_dim, padding_idx=rows - 1)
    else:
        fresh = nn.Linear(layer.in_features, rows)
        nn.init.constant_(fresh.bias, -math.log(rows))  # a chance of 1 / (classes + 1)
    nn.init.xavier_uniform_(fresh.weight)
    fresh.to(layer.weight.device)
    for new, old in kept:
        for value, before in zip(fresh.parameters(), layer.parameters(), strict=True):
            value[new] = before[old]
    return fresh


def taken_apart(model: Any) -> Detector:
    """The detector that a model of transformers is; the model is taken over.

    `model`: RTDetrForObjectDetection, RTDetrV2ForObjectDetection, DFineForObjectDetection or Deimv2ForObjectDetection.
    """
    inner, names = model.model, model.config.id2label
    outer = inner.conv_encoder if hasattr(inner, "conv_encoder") else inner.backbone
    projections = getattr(inner, "encoder_input_proj", getattr(outer, "encoder_input_proj", None))
    body, neck = Body(getattr(outer, "model", outer)), Neck(projections, inner.encoder)
    for name in ("backbone", "conv_encoder", "encoder_input_proj"):
        inner._modules.pop(name, None)
    inner.encoder = Encoded()
    for name in ("class_embed", "bbox_embed"):  # the decoder's, by another name
        model._modules.pop(name, None)
    _settle(model)
    return Detector(body, neck, DetrHead(model, [names[place] for place in range(len(names))]))


def _settle(model: nn.Module) -> None:
    """Constants that are kept as parameters without gradients become buffers, so that no phase trains them."""
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            if not value.requires_grad:
                delattr(module, name)
                module.register_buffer(name, value.detach())
