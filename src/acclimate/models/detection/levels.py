"""Bodies and necks of detectors from networks of other libraries: `Levels` gives several maps as a tuple, `Pyramid` mixes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork

STRIDES = (8, 16, 32)
"""Of the maps that a pyramid is built on: in pixels."""
PROBE = (64, 96)
"""Height and width of a picture that shows what maps a network gives: not square, so that height, width and channels are told apart."""


class Levels(nn.Module):
    """Pixels [B, 3, H, W] to a tuple of maps [B, C, h, w], fine to coarse.

    `net` gives them in a dict or a list, with other things; `keys` are theirs. `channels_last`: it gives [B, h, w, C].
    """

    def __init__(self, net: nn.Module, keys: Sequence[int | str], channels_last: bool = False) -> None:
        super().__init__()
        self.net = net
        self.keys = tuple(keys)
        self.channels_last = channels_last

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.net(pixels)
        found = [maps[key] for key in self.keys]
        return tuple(one.permute(0, 3, 1, 2) for one in found) if self.channels_last else tuple(found)


class Pyramid(nn.Module):
    """torchvision's feature pyramid (Lin et al., 2017) as a neck: a tuple of maps to a tuple of maps, with those of its extra block."""

    def __init__(self, fpn: FeaturePyramidNetwork) -> None:
        super().__init__()
        self.fpn = fpn

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(self.fpn(OrderedDict((str(level), one) for level, one in enumerate(maps))).values())


# --- levels of a classification network


class Flat(Exception):
    """The network does not give maps at all of `STRIDES`."""


def of_timm(architecture: str) -> tuple[Levels, list[int]]:
    """(the network of this name of timm up to its last level, with random weights; channels of its levels). Raises Flat.

    It is looked at without computing anything, on torch's device "meta".
    """
    import timm

    def made(**more: Any) -> Any:
        return timm.create_model(architecture, features_only=True, **more).eval()

    refused: Exception | None = None
    for more in ({}, {"strict_img_size": False}):  # some were written for one size and take any when asked to
        try:
            with torch.device("meta"):
                whole = made(**more)
                _check_strides(whole.feature_info.reduction())
                maps = whole(torch.empty(1, 3, *PROBE))
            break
        except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
            refused = refused or error
    else:
        raise Flat(str(refused).splitlines()[0])
    places, channels, last = _levels(maps)
    indices = [whole.feature_info.out_indices[place] for place in places]
    return Levels(made(out_indices=indices, **more), range(len(places)), last), channels


def of_torchvision(module: nn.Module) -> tuple[Levels, list[int]]:
    """(the layers of a classification network of torchvision up to its last level, channels of its levels). Raises Flat.

    They are the network's own where these run one after the other, which most do; what lies behind the last level is left behind.
    """
    count = 3 * PROBE[0] * PROBE[1]
    pixels = torch.linspace(-1, 1, count, device=next(module.parameters()).device).view(1, 3, *PROBE)
    with torch.no_grad():
        layers, maps = _chain(module.eval(), pixels)
        places, channels, last = _levels(maps)
        names = list(layers)[: places[-1] + 1]
        _check_chain(module, layers[names[-1]], pixels, maps[places[-1]])
    chain = nn.Sequential(OrderedDict((name, layers[name]) for name in names))
    keys = [str(level) for level in range(len(places))]
    kept = dict(zip([names[place] for place in places], keys, strict=True))
    return Levels(IntermediateLayerGetter(chain, kept), keys, last), channels


def take_over(levels: Levels, state: Mapping[str, torch.Tensor]) -> None:
    """The weights of the whole network (timm's names, `state`) into its levels. Raises KeyError where one is missing."""
    known = {_plain(name): tensor for name, tensor in state.items()}
    levels.net.load_state_dict({name: known[_plain(name)] for name in levels.net.state_dict()})


def _plain(name: str) -> str:
    """A name without what timm changes when it takes levels out of a network: a module around it, containers made flat."""
    return name.removeprefix("model.").removeprefix("body.").replace(".", "_")


def _levels(maps: Sequence[torch.Tensor]) -> tuple[list[int], list[int], bool]:
    """(place of the last map at each of `STRIDES`, its channels, whether channels come last). Raises Flat."""
    for last in (False, True):
        sides = [tuple(one.shape[1:3] if last else one.shape[2:4]) for one in maps]
        wanted = [(PROBE[0] // stride, PROBE[1] // stride) for stride in STRIDES]
        if all(side in sides for side in wanted):
            places = [len(sides) - 1 - sides[::-1].index(side) for side in wanted]
            return places, [maps[place].shape[3 if last else 1] for place in places], last
    found = dict.fromkeys(f"{one.shape[3]} x {one.shape[2]}" for one in maps)
    raise Flat(f"of {PROBE[1]} x {PROBE[0]} pixels it makes maps of {', '.join(found) or 'no size'}")


def _check_strides(found: Sequence[int]) -> None:
    """Raises Flat where the network says itself that levels are missing."""
    if not set(STRIDES) <= set(found):
        raise Flat(f"its maps have the strides {', '.join(map(str, sorted(set(found))))}")


def _chain(module: nn.Module, x: torch.Tensor) -> tuple[dict[str, nn.Module], list[torch.Tensor]]:
    """The layers that run one after the other, by name, and the map that each gives, as long as there are maps."""
    layers: dict[str, nn.Module] = {}
    maps: list[torch.Tensor] = []
    made: Any
    todo = [(name, layer) for name, layer in module.named_children()]
    while todo:
        name, layer = todo.pop(0)
        try:
            made = layer(x)
        except (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError):
            made = None
        is_map = isinstance(made, torch.Tensor) and made.ndim == 4
        if isinstance(layer, nn.ModuleList) or (
            is_map and type(layer) is nn.Sequential and made.shape[2] * 2 < x.shape[2]
        ):
            todo = [(f"{name}_{inner}", one) for inner, one in layer.named_children()] + todo  # levels are inside
            continue
        if not is_map:
            break
        x = made
        layers[name] = layer
        maps.append(x)
    return layers, maps


def _check_chain(module: nn.Module, layer: nn.Module, pixels: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises Flat where the network itself brings something else to the layer than the layers before it."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda *call: seen.append(call[2].clone()))
    try:
        module(pixels)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise Flat(str(error).splitlines()[0]) from None
    finally:
        hook.remove()
    if not expected.is_meta and (seen[-1] - expected).norm() > 1e-3 * expected.norm():
        raise Flat("its layers do not run one after the other")
