"""What DeepSpeed leaves undone at ZeRO stage 0, where every rank holds the whole optimizer.

Three things that stages 1 to 3 do are missing there (0.19):

- in fp32 nothing looks at the gradients, and one NaN is in every weight for good, nor does it tell
  their norm: `FiniteAdamW`;
- in bf16 the optimizer is made to take a step of zeros at the start, which AdamW's bias
  correction then counts; and its fp32 weights start from the bf16 ones: `begin_afresh`;
- in bf16 nothing hands out the fp32 weights: `master_weights`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch


class FiniteAdamW(torch.optim.AdamW):
    """AdamW that clips, and leaves weights and moments as they are if a gradient is not finite."""

    clipping = float("inf")
    """The largest norm of all gradients together."""
    # The engine asks for these two by their names.
    overflow = False
    """The last step was left out."""
    _global_grad_norm = torch.zeros(())

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step, or none. Gradients are the same on all ranks, and so is the decision."""
        trained = [parameter for group in self.param_groups for parameter in group["params"]]
        self._global_grad_norm = torch.nn.utils.clip_grad_norm_(trained, self.clipping)
        self.overflow = not bool(torch.isfinite(self._global_grad_norm))
        if not self.overflow:
            super().step(closure)


def begin_afresh(engine: Any, masters: Mapping[str, torch.Tensor]) -> None:
    """Put fp32 weights into a bf16 engine of stage 0, and set AdamW's count of steps back to 0.

    Args:
        masters: trained weights that bf16 would round, by the parameter's name.
    """
    for name, weight in master_weights(engine).items():
        if name in masters:
            weight.copy_(masters[name])
    engine.optimizer.optimizer.state.clear()


def master_weights(engine: Any) -> dict[str, torch.Tensor]:
    """The fp32 weights that a bf16 engine of stage 0 trains, by the parameter's name."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    optimizer = engine.optimizer
    return {
        names[id(narrow)]: wide.detach()
        for group in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        for narrow, wide in zip(*group, strict=True)
    }
