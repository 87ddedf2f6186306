"""LoRA (Hu et al. 2021, arXiv 2106.09685): train W + (alpha / rank) B A instead of W.

Adapters live inside the model during one phase; at its end they are merged into the weights, so
that what a phase leaves behind is always a plain model.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from corpus.settings import UserError
from train.run_config import LoraConfig


class AdaptedLinear(nn.Linear):
    """A linear layer with a low-rank adapter beside its weight."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_scale: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        low = F.linear(F.linear(input, self.lora_a), self.lora_b)
        return F.linear(input, self.weight, self.bias) + self.lora_scale * low


def add_adapters(model: nn.Module, settings: LoraConfig, seed: int) -> None:
    """Give every targeted linear layer an adapter that changes nothing yet (B = 0).

    A is drawn as the paper's code does (Kaiming uniform), from `seed`.

    Raises:
        UserError: no layer of the model bears a targeted name.
    """
    generator = torch.Generator().manual_seed(seed)
    found = False
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and name.rpartition(".")[2] in settings.targets:
            found = True
            module.__class__ = AdaptedLinear
            bound = 1 / math.sqrt(module.in_features)
            a = torch.rand(settings.rank, module.in_features, generator=generator)
            module.lora_a = nn.Parameter((2 * a - 1) * bound)
            module.lora_b = nn.Parameter(torch.zeros(module.out_features, settings.rank))
            module.lora_scale = settings.alpha / settings.rank  # type: ignore[assignment]
    if not found:
        raise UserError(f"phases.lora.targets: no layer is named any of {settings.targets}")


def merge_adapters(model: nn.Module, state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The plain model's weights: each W + (alpha / rank) B A, and no adapters.

    Args:
        model: the model with adapters, for their scales.
        state: all weights by name, fp32.
    """
    merged = {name: weight for name, weight in state.items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            change = state[f"{name}.lora_b"] @ state[f"{name}.lora_a"]
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + module.lora_scale * change
    return merged
