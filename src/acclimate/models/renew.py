"""Fresh weights for the last stages: what they learned last is what suits another task least (Zhang et al., 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from acclimate.core.seeds import torch_seeded
from acclimate.models.backbone import Backbone


@torch.no_grad()
def renew(backbone: Backbone, stages: int, seed: int) -> None:
    """The last `stages` stages begin anew, by each module's own initialisation; the same for the same seed.

    What a module has no initialisation for (a lone scale, say) stays pretrained.
    """
    if not stages:
        return
    initialise: Any = getattr(backbone.trunk, "_init_weights", _reset)
    with torch_seeded("renew", seed):
        for stage in backbone.stages[-stages:]:
            for name in stage.modules:
                for module in backbone.get_submodule(name).modules():
                    for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                        value.__dict__.pop("_is_hf_initialized", None)  # else transformers leaves it alone
                    initialise(module)


def _reset(module: nn.Module) -> None:
    reset: Any = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()
