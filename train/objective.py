"""The loss: next-token cross-entropy from hidden states, without ever holding all logits.

The output layer and the softmax are computed a few thousand tokens at a time, and each piece's
gradients at once, so memory is one piece of logits instead of [T, V], and the logits need not be
computed again in the backward pass (the idea of Liger's fused loss, Hsu et al. 2024). Two things
differ from there: the head's gradient is summed in fp32 over the pieces, and the loss of every
token comes back, which gives the loss per bucket for nothing.
"""

from typing import Any

import torch
from torch import nn

IGNORED = -100
"""The label of a position that is not predicted."""


class LossHead(nn.Linear):
    """An output layer that, given labels, returns each token's loss instead of logits.

    It takes the place of a model's `lm_head` (same parameter, same name), so that DeepSpeed's
    ZeRO-3 gathers the weight when it is called.
    """

    tokens_at_a_time = 8192
    fast = False
    """Softmax and gradient in one Triton kernel (GPU only)."""

    def forward(  # type: ignore[override]
        self, hidden: torch.Tensor, labels: torch.Tensor | None = None, scale: Any = None
    ) -> torch.Tensor:
        """Logits [..., V], or with labels the losses.

        Args:
            hidden: [T, hidden_size].
            labels: int64 [T]; `IGNORED` positions have loss 0 and no gradient.
            scale: scalar tensor by which the *gradient* of every token's loss is multiplied.

        Returns:
            fp32 [T], in nats. Only the gradient of its sum can be taken: the gradients are
            computed here, as for `losses.sum()` times `scale`.
        """
        if labels is None:
            return super().forward(hidden)
        if scale is None:
            scale = torch.ones((), device=hidden.device)
        losses: torch.Tensor = _ChunkedCrossEntropy.apply(
            hidden, self.weight, labels, scale, self.tokens_at_a_time, self.fast
        )
        return losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        scale: torch.Tensor,
        tokens_at_a_time: int,
        fast: bool,
    ) -> torch.Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = (
            torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
            if wants_weight
            else None
        )
        for begin in range(0, len(hidden), tokens_at_a_time):
            rows = slice(begin, begin + tokens_at_a_time)
            logits = hidden[rows] @ weight.t()
            if fast:
                from train.kernels import cross_entropy_

                cross_entropy_(logits, labels[rows], losses[rows], scale)
            else:
                logits = _cross_entropy(
                    logits, labels[rows], losses[rows], scale, wants_hidden or wants_weight
                )
            if grad_hidden is not None:
                torch.mm(logits, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                _add_product(grad_weight, logits.t(), hidden[rows])
        ctx.save_for_backward(
            grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)
        )
        return losses

    @staticmethod
    def backward(ctx: Any, grad_losses: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        # The gradients are those of the sum, so every element of `grad_losses` is the same.
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grad_losses.reshape(-1)[0]
        if grad_hidden is not None:
            grad_hidden = grad_hidden * factor.to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = grad_weight * factor.to(grad_weight.dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    losses: torch.Tensor,
    scale: torch.Tensor,
    wants_gradient: bool,
) -> torch.Tensor:
    """Write each row's loss; return the gradient with respect to the logits, times `scale`."""
    wide = logits.float()
    normalizer = wide.logsumexp(-1)
    learned = labels != IGNORED
    targets = labels.clamp(min=0)
    losses.copy_((normalizer - wide.gather(1, targets[:, None])[:, 0]) * learned)
    if not wants_gradient:
        return logits
    gradient = (wide - normalizer[:, None]).exp_()
    gradient.scatter_add_(1, targets[:, None], gradient.new_full((len(labels), 1), -1.0))
    gradient *= (learned * scale)[:, None]
    return gradient.to(logits.dtype)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total (fp32) += left @ right, summed in fp32 whatever the factors' dtype."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    elif left.is_cuda:
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total += (left @ right).float()
