"""Weight gradients added up inside the matrix product, over the micro-batches of a step.

Autograd computes a weight's gradient and then adds it to what the micro-batches before left: the
gradient is written, read again, and the sum read and written. A matrix product can add to its
output for free (Megatron-LM calls it gradient accumulation fusion). The sum is rounded once
instead of twice.

A step's first and last micro-batch go the usual way: the first makes the tensors, and the last
must fire DeepSpeed's hooks. Only where a rank keeps whole gradients (ZeRO stages 0 and 1).
"""

import contextlib
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

_adding = False


@contextlib.contextmanager
def adding_in_place(on: bool) -> Iterator[None]:
    """Within, backward passes add to the gradients that are there, firing no hooks on them."""
    global _adding
    before, _adding = _adding, on
    try:
        yield
    finally:
        _adding = before


def accumulate_in_products(model: nn.Module) -> None:
    """Give every trained linear layer without bias inside `model` a backward pass that can add."""
    for module in model.modules():
        if type(module) is nn.Linear and module.bias is None and module.weight.requires_grad:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _Product.apply(x, self.weight)
    return out


class _Product(torch.autograd.Function):
    """x @ weight.T, for x [..., in] and weight [out, in]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.weight = weight
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        weight = ctx.weight
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        upper, lower = grad.flatten(0, -2), x.flatten(0, -2)
        if _adding and weight.grad is not None:
            weight.grad.addmm_(upper.t(), lower)
            return grad_x, None
        return grad_x, upper.t() @ lower
