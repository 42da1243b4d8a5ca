"""One contract for every architecture: stages cover everything once, and any prefix with its suffix is the whole model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

from acclimate.core.tree import Tree, leaves, map_tree, rebuild, structure
from acclimate.models.backbone import Backbone, Net
from acclimate.models.frozen import fingerprint, freeze
from acclimate.models.stages import cut
from acclimate.models.whole import BODY

TORCHVISION = {
    "alexnet": 96,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
}
"""A small member of each family, and the smaller size; another, larger by half, must work too."""

TIMM = {
    "test_byobnet": 96,
    "test_convnext": 96,
    "test_efficientnet": 96,
    "test_mambaout": 96,
    "test_nfnet": 96,
    "test_resnet": 96,
    "test_vit": None,
    "dla46x_c": 64,
    "hrnet_w18_small": 64,
    "levit_128s": None,
    "pit_ti_224": None,
    "tf_efficientnet_lite0": 64,
    "xcit_nano_12_p16_224": None,
}
"""A dozen of timm's families for every run; None: the architecture is built for one size."""

TIMM_ALL = {
    "beit_base_patch16_224": None,
    "cait_xxs24_224": None,
    "coat_tiny": None,
    "convit_tiny": None,
    "convmixer_768_32": 128,
    "cpubone_nano": 128,
    "crossvit_tiny_240": None,
    "cs3darknet_focus_s": 128,
    "csatv2": None,
    "cspnext_tiny": 128,
    "davit_tiny": 128,
    "deit_tiny_patch16_224": None,
    "densenet121": 128,
    "dpn48b": 128,
    "edgenext_xx_small": 128,
    "efficientformer_l1": None,
    "efficientformerv2_s0": None,
    "efficientvim_m1": 128,
    "efficientvit_b0": 128,
    "efficientvit_m0": None,
    "ese_vovnet19b_slim_dw": 128,
    "fasternet_t0": 128,
    "fastvit_t8": 128,
    "focalnet_tiny_srf": 128,
    "gcvit_xxtiny": None,
    "ghostnet_050": 128,
    "gmlp_ti16_224": None,
    "halonet_h1": None,
    "hardcorenas_b": 128,
    "hgnetv2_b0": 128,
    "hiera_tiny_224": None,
    "iformer_t": 128,
    "inception_next_atto": 128,
    "inception_resnet_v2": 128,
    "inception_v3": 128,
    "inception_v4": 128,
    "lcnetv2_small": 128,
    "legacy_seresnet18": 128,
    "legacy_xception": 128,
    "lowformer_b0": 128,
    "mobilenetv3_small_050": 128,
    "mobilenetv5_base": 128,
    "mobilevit_xxs": 128,
    "mvitv2_tiny": None,
    "nasnetalarge": 128,
    "nest_tiny": None,
    "nextvit_small": 128,
    "pnasnet5large": 128,
    "poolformerv2_s12": 128,
    "pvt_v2_b0": 128,
    "rdnet_tiny": 128,
    "regnetx_002": 128,
    "repghostnet_050": 128,
    "repvit_m1": 128,
    "res2next50": 128,
    "resnest14d": 128,
    "resnetv2_18": 128,
    "rexnet_100": 128,
    "samvit_base_patch16_224": None,
    "selecsls42": 128,
    "sequencer2d_s": None,
    "shvit_s1": 128,
    "skresnet18": 128,
    "starnet_s050": 128,
    "swiftformer_xs": None,
    "swin_tiny_patch4_window7_224": None,
    "swinv2_cr_tiny_224": None,
    "swinv2_tiny_window8_256": None,
    "test_coatnet": None,
    "test_vit_relpos": None,
    "tiny_vit_5m_224": None,
    "tnt_s_legacy_patch16_224": None,
    "tresnet_m": 128,
    "twins_svt_small": None,
    "vgg11": 128,
    "visformer_tiny": None,
    "vit_tiny_patch16_dinov3_qkvb": None,
    "vit_tiny_r_s16_p8_224": None,
    "vitamin_small_224": None,
    "volo_d1_224": None,
    "xception41p": 128,
}


def torchvision_model(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, num_classes=10, **extra)


def torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(64, 16, 5, 2, 32, 64, num_classes=10)


def torchvision_maxvit() -> nn.Module:
    return torchvision.models.maxvit.MaxVit((64, 64), 16, 2, [16, 16, 24, 24], [1, 1, 1, 1], 8, 0.0, num_classes=10)


def timm_size(name: str) -> int:
    return timm.get_pretrained_cfg(name).input_size[-1]


def contract(make: Callable[[], nn.Module], size: int, other: int | None) -> Backbone:
    torch.manual_seed(0)
    module = make().eval()
    whole = copy.deepcopy(module)
    parameters = dict(module.named_parameters())
    backbone = cut(module, torch.randn(2, 3, size, size))
    covers_once(backbone, parameters)
    for side, batch in ((size, 3), (size, 1), (other, 3)):
        if side is not None:
            inputs = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
            agrees(backbone, whole, inputs)
    follows_device(backbone, size)
    return backbone


def follows_device(backbone: Backbone, size: int) -> None:
    """No tensor of the trace stays behind on the device where it was traced."""
    features = copy.deepcopy(backbone).to("meta")(torch.empty(2, 3, size, size, device="meta"))
    assert all(leaf.is_meta for leaf in leaves(features))


def covers_once(backbone: Backbone, parameters: dict[str, nn.Parameter]) -> None:
    held = [name for stage in backbone.stages for name in (*stage.parameters, *stage.buffers)]
    assert sorted(held) == sorted(backbone.state_dict())
    kept = {id(parameter) for parameter in backbone.parameters()}
    head = {name for name in parameters if name.rpartition(".")[0] == backbone.classifier}
    assert {name for name in parameters if id(parameters[name]) not in kept} <= {*backbone.dropped, *head}
    assert len({stage.name for stage in backbone.stages}) == len(backbone.stages)
    assert all(f"trunk.{stage.name}" in stage.modules for stage in backbone.stages)


@torch.no_grad()
def agrees(backbone: Backbone, whole: nn.Module, inputs: torch.Tensor) -> None:
    features = backbone(inputs)
    close(features, features_of(whole, backbone.classifier, inputs))
    state: Tree = inputs
    for number in range(len(backbone.stages)):
        before = map_tree(torch.clone, state)
        close(backbone.run(state, number), features)
        assert all(torch.equal(one, two) for one, two in zip(leaves(before), leaves(state), strict=True))
        state = backbone.run(state, number, number + 1)
        assert all(isinstance(leaf, torch.Tensor) and len(leaf) == len(inputs) for leaf in leaves(state))
    close(state, features)


def features_of(whole: nn.Module, classifier: str | None, inputs: torch.Tensor) -> torch.Tensor:
    """What flows into the original's classifier."""
    assert classifier is not None
    seen: list[torch.Tensor] = []
    hook = whole.get_submodule(classifier).register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    whole(inputs)
    hook.remove()
    return seen[-1]


def close(one: Tree, two: Tree) -> None:
    for a, b in zip(leaves(one), leaves(two), strict=True):
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a / scale, b / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_family(name: str) -> None:
    size = TORCHVISION[name]
    contract(lambda: torchvision_model(name), size, size * 3 // 2)


@pytest.mark.parametrize("make", [torchvision_vit, torchvision_maxvit])
def test_torchvision_family_of_one_size(make: Callable[[], nn.Module]) -> None:
    assert len(contract(make, 64, None).stages) >= 4


def test_every_torchvision_family_is_tested() -> None:
    families = {torchvision.models.get_model_builder(name).__module__ for name in TORCHVISION}
    families |= {"torchvision.models.vision_transformer", "torchvision.models.maxvit"}
    names = torchvision.models.list_models(module=torchvision.models)
    assert families == {torchvision.models.get_model_builder(name).__module__ for name in names}


def timm_contract(name: str, size: int | None) -> None:
    own = timm_size(name)
    backbone = contract(lambda: timm.create_model(name, num_classes=10), size or own, size and size * 3 // 2)
    assert [stage.name for stage in backbone.stages] != [BODY]
    assert len(backbone.stages) >= 4


@pytest.mark.parametrize("name", TIMM)
def test_timm_family(name: str) -> None:
    timm_contract(name, TIMM[name])


STAYS_BEHIND = pytest.mark.xfail(reason="its rotary positions are computed on the device of the trace", strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=STAYS_BEHIND if "dinov3" in name else ()) for name in TIMM_ALL]
)
def test_every_timm_family(name: str) -> None:
    timm_contract(name, TIMM_ALL[name])


TRANSFORMERS = {
    "ConvNext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]},
    "Dinov2": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64},
    "ResNet": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1], "embedding_size": 8},
    "Swin": {"embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 2, "image_size": 64},
    "ViT": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 64,
    },
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_family(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(**TRANSFORMERS[name])
    backbone = contract(lambda: getattr(transformers, f"{name}ForImageClassification")(config), 64, None)
    assert len(backbone.stages) == 5


def stage_names(module: nn.Module, size: int) -> list[str]:
    return [stage.name for stage in cut(module, torch.randn(2, 3, size, size)).stages]


def test_stages_have_the_names_a_person_expects() -> None:
    lite = stage_names(timm.create_model("tf_efficientnet_lite0"), 64)
    assert lite == ["conv_stem", *(f"blocks.{n}" for n in range(7)), "conv_head"]
    assert stage_names(torchvision.models.resnet50(), 64) == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    vit = stage_names(timm.create_model("vit_tiny_patch16_224"), 224)
    assert vit == ["patch_embed", *(f"blocks.{n}" for n in range(12))]


def test_position_and_class_token_belong_to_the_first_stage_and_the_last_norm_to_the_last() -> None:
    stages = cut(timm.create_model("test_vit"), torch.randn(2, 3, 160, 160)).stages
    assert {"trunk.pos_embed", "trunk.cls_token"} <= set(stages[0].parameters)
    assert "trunk.norm.weight" in stages[-1].parameters


def test_auxiliary_heads_are_dropped_and_named() -> None:
    backbone = cut(torchvision_model("googlenet"), torch.randn(2, 3, 64, 64))
    assert any(name.startswith("aux1.") for name in backbone.dropped)
    assert not any("aux" in name or "fc." in name for name in backbone.state_dict())
    assert "fc.weight" not in backbone.dropped, "the classifier is replaced, not lost"


def test_a_state_can_be_put_together_from_rows_of_other_batches() -> None:
    """Ints (the grid of xcit) and folded rows (the pixels of tnt) travel with their sample."""
    for name in ("xcit_nano_12_p16_224", "tnt_s_legacy_patch16_224"):
        torch.manual_seed(0)
        backbone = cut(timm.create_model(name), torch.randn(2, 3, 224, 224))
        inputs = torch.randn(3, 3, 224, 224)
        with torch.no_grad():
            features = backbone(inputs)
            for boundary in (1, 2, len(backbone.stages) - 1):
                rows = [backbone.run(inputs[row : row + 1], 0, boundary) for row in (2, 0)]
                parts = [torch.cat(leaf) for leaf in zip(*map(leaves, rows), strict=True)]
                close(backbone.run(rebuild(structure(rows[0]), parts), boundary), features[[2, 0]])


def test_a_probe_step_changes_only_the_head() -> None:
    torch.manual_seed(0)
    backbone = cut(timm.create_model("test_efficientnet"), torch.randn(2, 3, 64, 64))
    net = Net(backbone, nn.Linear(256, 4)).train()
    freeze(backbone, set())
    net.train()
    mark, head = fingerprint(backbone), net.head.weight.clone()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    nn.functional.cross_entropy(net(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    optimizer.step()
    assert fingerprint(backbone) == mark and not torch.equal(net.head.weight, head)
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_gradients_reach_every_stage_that_trains() -> None:
    backbone = cut(timm.create_model("test_resnet"), torch.randn(2, 3, 64, 64))
    state = backbone.run(torch.randn(2, 3, 64, 64), 0, 2).detach()
    backbone.run(state, 2).sum().backward()
    reached = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert reached == {name for stage in backbone.stages[2:] for name in stage.parameters}


def test_a_copy_runs_with_its_own_weights() -> None:
    backbone = cut(timm.create_model("test_resnet"), torch.randn(2, 3, 64, 64))
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = backbone(inputs)
        twin = copy.deepcopy(backbone)
        for parameter in twin.parameters():
            parameter.mul_(0.5)
        assert torch.equal(backbone(inputs), before) and not torch.equal(twin(inputs), before)


def test_torch_compile_looks_through() -> None:
    backbone = cut(timm.create_model("test_vit"), torch.randn(2, 3, 160, 160))
    inputs = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        state = backbone.run(inputs, 0, 1)
        features = backbone.run(state, 1)
        compiled = torch.compile(lambda state: backbone.run(state, 1), backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(state), features)


def test_channels_last_stays() -> None:
    backbone = cut(timm.create_model("test_efficientnet"), torch.randn(2, 3, 64, 64))
    inputs = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    state = backbone.to(memory_format=torch.channels_last).run(inputs, 0, 3)
    assert state.is_contiguous(memory_format=torch.channels_last)


class Writes(nn.Module):
    """Its forward pass assigns into a tensor: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs.clone()
        inputs[:, 0] = 0
        return self.fc(self.body(inputs).relu())


class Decides(nn.Module):
    """Its path depends on the input's width."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.wide(inputs) if inputs.shape[-1] > 16 else self.narrow(inputs)
        return self.fc(hidden.mean((2, 3)))


class ByName(nn.Module):
    """Two inputs by name, and a value that depends on one input's shape alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.place = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)) for _ in range(4))
        self.fc = nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = self.place(torch.arange(ids.shape[1], device=ids.device))
        hidden = self.embed(ids) + places
        for block in self.blocks:
            hidden = hidden + block(hidden) * mask[:, :, None] + places
        return self.fc((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


def test_what_cannot_be_traced_is_one_stage() -> None:
    module = Writes()
    whole, inputs = copy.deepcopy(module), torch.randn(5, 6)
    backbone = cut(module, torch.randn(2, 6))
    assert [stage.name for stage in backbone.stages] == [BODY]
    agrees(backbone, whole, inputs)


def test_a_decision_that_falls_otherwise_is_an_error_not_a_wrong_answer() -> None:
    backbone = cut(Decides(), torch.randn(2, 3, 32, 32))
    backbone(torch.randn(2, 3, 24, 24))
    with pytest.raises(RuntimeError, match="cut it anew"):
        backbone(torch.randn(2, 3, 8, 8))
    assert {name.split(".")[0] for name in backbone.dropped} == {"narrow"}


def test_inputs_by_name() -> None:
    torch.manual_seed(0)
    module = ByName()
    whole = copy.deepcopy(module).eval()
    backbone = cut(module, {"ids": torch.randint(10, (2, 6)), "mask": torch.ones(2, 6)})
    assert len(backbone.stages) == 5
    inputs = {"ids": torch.randint(10, (3, 9)), "mask": torch.ones(3, 9)}
    with torch.no_grad():
        for boundary in range(6):
            state = backbone.run(inputs, 0, boundary)
            assert all(len(leaf) == 3 for leaf in leaves(state))
            torch.testing.assert_close(whole.fc(backbone.run(state, boundary)), whole(**inputs))


def test_no_segment_outside_the_stages() -> None:
    backbone = cut(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(2, 4))
    with pytest.raises(IndexError):
        backbone.run(torch.randn(2, 4), 1, 0)
