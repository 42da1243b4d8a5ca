"""Frozen stages stay in eval mode and keep every bit, whatever trains above them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from acclimate.models.backbone import Backbone, Net
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.stages import cut


def block(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.5), nn.ReLU())


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    blocks = [nn.Conv2d(3, 8, 3), *(block(8) for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return Net(cut(nn.Sequential(*blocks), torch.randn(2, 3, 12, 12)), nn.Linear(8, 3))


def train(net: Net, steps: int = 3) -> None:
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, weight_decay=0.1)
    net.train()
    for step in range(steps):
        inputs = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(net(inputs), torch.tensor([0, 1, 2, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def changed(before: Backbone, after: Backbone) -> set[str]:
    """Stages of which any tensor differs."""
    return {
        stage.name for stage in after.stages if fingerprint(before, [stage.name]) != fingerprint(after, [stage.name])
    }


def test_only_trained_stages_change(net: Net) -> None:
    freeze(net.backbone, {"3", "4"})
    before, mark = copy.deepcopy(net.backbone), fingerprint(net.backbone)
    train(net)
    assert changed(before, net.backbone) == {"3", "4"}
    assert fingerprint(net.backbone) == mark


def test_without_freezing_everything_changes(net: Net) -> None:
    before = copy.deepcopy(net.backbone)
    train(net)
    assert changed(before, net.backbone) == {stage.name for stage in net.backbone.stages}


def test_train_leaves_frozen_stages_in_eval_mode(net: Net) -> None:
    freeze(net.backbone, {"4"})
    net.train()
    modes = {name: module.training for name, module in net.named_modules()}
    assert not any(modes[f"backbone.trunk.{name}.{part}"] for name in "123" for part in "0123")
    assert all(modes[f"backbone.trunk.4.{part}"] for part in "0123")
    assert modes["head"]
    net.eval()
    assert not any(module.training for module in net.modules())


def test_frozen_boundaries_do_not_depend_on_the_mode(net: Net) -> None:
    freeze(net.backbone, {"4"})
    inputs = torch.randn(4, 3, 12, 12)
    quiet = net.eval().backbone.run(inputs, 0, 4)
    assert torch.equal(net.train().backbone.run(inputs, 0, 4), quiet)
    assert not torch.equal(net.backbone.run(quiet, 4), net.backbone.run(quiet, 4)), "the trained stage has its dropout"


def test_freezing_again_replaces(net: Net) -> None:
    freeze(net.backbone, {"4"})
    freeze(net.backbone, {"1", "2"})
    net.train()
    assert net.backbone.frozen == {net.backbone.stages[0].name, "3", "4"}
    assert net.backbone.trunk[1].training and not net.backbone.trunk[4].training
    freeze(net.backbone, {stage.name for stage in net.backbone.stages})
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_copies_stay_frozen(net: Net) -> None:
    freeze(net.backbone, {"4"})
    twin = copy.deepcopy(net).train()
    assert not twin.backbone.trunk[1].training
    assert fingerprint(twin.backbone) == fingerprint(net.backbone)


def test_fingerprint_sees_one_bit_of_a_buffer(net: Net) -> None:
    freeze(net.backbone, {"4"})
    mark = fingerprint(net.backbone)
    net.backbone.trunk[1][1].num_batches_tracked += 1
    assert fingerprint(net.backbone) != mark


def test_a_name_that_is_no_stage(net: Net) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        freeze(net.backbone, {"nonsense"})
