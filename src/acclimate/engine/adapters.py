"""Adapters: small parts that `peft` puts beside frozen layers while a phase trains, merged into those layers when it ends."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from acclimate.core.errors import MissingExtra, fail
from acclimate.core.seeds import torch_seeded
from acclimate.core.tree import Tree, leaves
from acclimate.engine.phase import Phase
from acclimate.engine.precision import forget
from acclimate.models.backbone import Net
from acclimate.models.trace import TRUNK

ROUNDING = 1e-3
"""Share of the outputs' size by which merging may change them."""
_KEY = re.compile(r"^base_model\.model\.(.*)\.(?:lora_[AB]\.weight|ia3_l)$")
"""What peft calls a parameter on disk; the layer's name in it."""


@dataclass(frozen=True)
class Kind:
    """One kind of adapter. `config`: peft's, of (pattern of the layers' names, rank); `takes`: whether it can stand beside a layer."""

    config: Callable[[str, int], Any]
    takes: Callable[[Any], bool] = lambda layer: True


def _lora(pattern: str, rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=pattern)


def _ia3(pattern: str, rank: int) -> Any:
    from peft import IA3Config

    return IA3Config(target_modules=pattern, feedforward_modules=[])


def _plain(layer: Any) -> bool:
    """Whether peft's small convolution beside a layer sees what the layer sees: it knows neither groups nor dilation nor other padding."""
    return not isinstance(layer, nn.Conv2d) or (
        layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    )


ADAPTERS: dict[str, Kind] = {"lora": Kind(_lora, _plain), "ia3": Kind(_ia3)}
"""lora: a product of two thin matrices is added to each weight (Hu et al., 2022), scaled by 2. ia3: a learned factor for each output of
each layer (after Liu et al., 2022, who scale keys, values and the inner activations of feed-forward parts only)."""


@dataclass
class Adapter:
    """An adapter of a net. `layers`: peft's layers by the name of the one that they stand for, in the trunk."""

    net: Net
    example: Tree
    layers: dict[str, Any]
    expected: list[torch.Tensor] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Its parameters as peft names them on disk."""
        return {
            f"base_model.model.{name}.{re.sub(r'[.]default(?=[.]weight$|$)', '', own)}": value.detach().cpu().clone()
            for name, layer in self.layers.items()
            for own, value in layer.named_parameters()
            if not own.startswith("base_layer.")
        }

    @torch.no_grad()
    def outputs(self) -> list[torch.Tensor]:
        """Of the net for the example, in plain arithmetic."""
        was = self.net.training
        found = [leaf.float() for leaf in leaves(self.net.eval()(self.example))]
        self.net.train(was)
        return found

    def merge(self) -> None:
        """Change the layers it stood beside so that they give what it gave. Raises RuntimeError where outputs differ beyond rounding."""
        for layer in self.layers.values():
            layer.merge()
        worst = max(
            float(torch.dist(after, before) / before.norm().clamp_min(1e-6))
            for after, before in zip(self.outputs(), self.expected, strict=True)
        )
        if not worst <= ROUNDING:
            raise RuntimeError(f"merging the adapter changed the outputs by {worst:.2g} of their size")


@contextmanager
def attached(net: Net, phase: Phase, example: Tree) -> Iterator[Adapter | None]:
    """Inside, the adapter that the phase names is in the stages that learn, and their parameters are the adapter's; the
    pretrained layers keep their weights. Afterwards the net is as it was.

    `example`: an input batch on the net's device; layers that it does not call are left alone. None where no adapter is named.
    Raises `UserError` where nothing can be adapted, and `MissingExtra` without peft.
    """
    if phase.adapter is None:
        yield None
        return
    backbone, trunk, stages = net.backbone, net.backbone.trunk, net.backbone.stages
    flags = {parameter: parameter.requires_grad for parameter in backbone.parameters()}
    names = _layers(net, phase, example)
    _inject(trunk, ADAPTERS[phase.adapter].config(_pattern(names), phase.rank), phase.seed)
    adapter = Adapter(net, example, {name: trunk.get_submodule(name) for name in names})
    own = [name for name, _ in backbone.named_parameters() if _beside(name, names)]
    homes = {f"{TRUNK}.{name}.weight": f"{TRUNK}.{name}." for name in names}
    backbone.stages = tuple(
        replace(
            stage,
            parameters=tuple(
                name for home in stage.parameters if home in homes for name in own if name.startswith(homes[home])
            ),
        )
        for stage in stages
    )
    forget(net)
    try:
        yield adapter
        adapter.expected = adapter.outputs()
    finally:
        for name, layer in adapter.layers.items():
            parent, _, last = name.rpartition(".")
            setattr(trunk.get_submodule(parent), last, layer.get_base_layer())
        del trunk.peft_config
        backbone.stages = stages
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        forget(net)


def files(
    tensors: Mapping[str, torch.Tensor], phase: Phase, model: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An adapter as peft reads it from a folder: (adapter_model.safetensors, adapter_config.json)."""
    assert phase.adapter is not None
    names = dict.fromkeys(found[1] for name in tensors if (found := _KEY.match(name)))
    config = ADAPTERS[phase.adapter].config(_pattern(list(names)), phase.rank)
    config.base_model_name_or_path, config.inference_mode = model, True
    told = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    return dict(tensors), told


def check_there(adapter: str) -> None:
    """Raises `MissingExtra` without peft."""
    try:
        import peft  # noqa: F401
    except ImportError:
        raise MissingExtra(f"--strategy {adapter}", "peft") from None


def _layers(net: Net, phase: Phase, example: Tree) -> list[str]:
    """Names in the trunk of the layers to adapt: linear maps and convolutions of the stages that learn, as far as they are called."""
    assert phase.adapter is not None
    check_there(phase.adapter)
    from transformers.pytorch_utils import Conv1D

    kinds, takes = (nn.Linear, nn.Conv2d, Conv1D), ADAPTERS[phase.adapter].takes
    own = {name for stage in net.backbone.stages if stage.name in phase.stages for name in stage.parameters}
    there = {
        module: name
        for name, module in net.backbone.trunk.named_modules()
        if type(module) in kinds and f"{TRUNK}.{name}.weight" in own and takes(module)
    }
    called: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda one, *_: called.add(one)) for module in there]
    try:
        with torch.no_grad():
            net.backbone.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for module, name in there.items() if module in called]
    if not names:
        raise fail(
            f"--strategy {phase.adapter}",
            "finds nothing to adapt: no linear layer or plain convolution in the stages that learn",
            "use --strategy last, full or bitfit, or leave out --freeze",
        )
    return names


def _pattern(names: list[str]) -> str:
    """What matches these names and no others."""
    return "|".join(map(re.escape, names))


def _inject(trunk: nn.Module, config: Any, seed: int) -> None:
    from peft import inject_adapter_in_model

    with torch_seeded("adapter", seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how Conv1D lies in memory
        inject_adapter_in_model(config, trunk)


def _beside(name: str, names: list[str]) -> bool:
    """Whether a parameter of the backbone is an adapter's: inside an adapted layer, and not its own."""
    inside = any(name.startswith(f"{TRUNK}.{one}.") for one in names)
    return inside and ".base_layer." not in name
