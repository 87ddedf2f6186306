"""Matrix products in float8: the linear layers inside the blocks, by torchao.

Weights, gradients and optimizer stay as they are (bf16 with fp32 master weights); only the factors
of the products are rounded to 8 bits, each with a scale taken from its own values, per tensor or
per row (Micikevicius et al. 2022, arXiv 2209.05433; torchao's dynamic scaling). The output layer
and the embedding stay in bf16. Scaling costs passes over memory that only a compiler can merge, so
every layer's forward is compiled by itself.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from corpus.settings import UserError

Scales = Literal["tensorwise", "rowwise"]


def use_float8(causal_lm: PreTrainedModel, scales: Scales, device: torch.device) -> None:
    """Exchange the blocks' linear layers for torchao's, in place; names and weights stay.

    Raises:
        UserError: the device cannot multiply float8, or torchao is not installed.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise UserError("precision.fp8: needs an Ada, Hopper or later GPU; leave it out")
    for linear in to_float8(causal_lm.base_model.layers, scales):
        linear.forward = torch.compile(linear.forward)  # type: ignore[method-assign]


def to_float8(blocks: Any, scales: Scales, emulate: bool = False) -> list[nn.Module]:
    """The layers inside `blocks` that now multiply in float8.

    Args:
        blocks: a `ModuleList`.
        emulate: round as float8 does, and multiply in the weights' format (any device).

    Raises:
        UserError: torchao is not installed.
    """
    try:
        from torchao.float8 import (  # type: ignore[import-not-found]
            Float8LinearConfig,
            convert_to_float8_training,
        )
        from torchao.float8.float8_linear import Float8Linear  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError("precision.fp8: needs the package torchao") from error
    config = Float8LinearConfig.from_recipe_name(scales)
    convert_to_float8_training(
        blocks,
        config=dataclasses.replace(config, emulate=emulate),
        module_filter_fn=_fits,
    )
    return [module for module in blocks.modules() if isinstance(module, Float8Linear)]


def _fits(module: Any, name: str) -> bool:
    """The hardware multiplies in pieces of 16."""
    return module.in_features % 16 == 0 and module.out_features % 16 == 0
