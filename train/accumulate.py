"""Gradients added up inside the matrix products that make them.

Autograd computes a weight's gradient and then adds it to what the micro-batches before left: the
gradient is written, read again, and the sum read and written. A matrix product can add to its
output for free (Megatron-LM calls it gradient accumulation fusion). The sum is rounded once
instead of twice. The same holds for the gradient of an input that several layers read.

For weights, a step's first and last micro-batch go the usual way: the first makes the tensors,
and the last must fire DeepSpeed's hooks. Only where a rank keeps whole gradients (ZeRO stages 0
and 1).
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


def products(x: torch.Tensor, *layers: Any) -> tuple[torch.Tensor, ...]:
    """What each layer makes of x, of x's dtype.

    Where `accumulate_in_products` prepared them all, the gradient of x is summed inside their
    backward products instead of by additions that read and write it again. Hooks on such layers
    do not fire, since none is called by itself.

    Args:
        x: [..., in].
        layers: modules; each makes [..., its out] of x.
    """
    if all(getattr(layer.forward, "__func__", None) is _forward for layer in layers):
        outs: tuple[torch.Tensor, ...] = _Products.apply(x, *(layer.weight for layer in layers))
        return outs
    return tuple(layer(x) for layer in layers)


def _forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _Products.apply(x, self.weight)[0]
    return out


class _Products(torch.autograd.Function):
    """x @ weight.T for each weight [out, in], for x [..., in]."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.weights = weights
        return tuple(x @ weight.t() for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        lower = x.flatten(0, -2)
        grad_x = None
        grad_weights: list[torch.Tensor | None] = []
        for grad, weight in zip(grads, ctx.weights, strict=True):
            upper = grad.flatten(0, -2)
            if ctx.needs_input_grad[0]:
                grad_x = upper @ weight if grad_x is None else grad_x.addmm_(upper, weight)
            if _adding and weight.grad is not None:
                weight.grad.addmm_(upper.t(), lower)
                grad_weights.append(None)
            else:
                grad_weights.append(upper.t() @ lower)
        return None if grad_x is None else grad_x.view_as(x), *grad_weights
