"""Steps that go wrong: what counts as one, without a human looking and without stopping the GPU.

A step is bad when its loss is not finite, or a spike above the recent losses. The decision is
taken on the device before the last backward pass: a bad step's gradient is multiplied by NaN, and
an optimizer that refuses gradients that are not finite (DeepSpeed's does) leaves every weight and
every moment as it was. Gradients that overflow by themselves end the same way.
"""

from collections import deque

import numpy as np
import torch

from train.run_config import Watch


class LossWatch:
    """Remembers the last good losses and draws the line above which a loss is a spike."""

    def __init__(self, settings: Watch, recent: list[float]) -> None:
        self._settings = settings
        self._recent = deque(recent, maxlen=settings.window)

    @property
    def recent(self) -> list[float]:
        """The losses that the line is drawn from, oldest first."""
        return list(self._recent)

    def limit(self) -> float:
        """The largest loss that is no spike; infinite until the window is half full."""
        settings = self._settings
        if settings.spike == 0 or len(self._recent) < max(8, settings.window // 2):
            return float("inf")
        losses = np.asarray(self._recent)
        median = float(np.median(losses))
        deviation = 1.4826 * float(np.median(np.abs(losses - median)))
        return median + max(settings.least_spike, settings.spike * deviation)

    def add(self, loss: float) -> None:
        """Remember a good step's loss."""
        self._recent.append(loss)


def poison(step_loss: torch.Tensor, limit: float) -> torch.Tensor:
    """NaN if a step with this mean loss is bad, else 1; a scalar on the loss's device."""
    good = torch.isfinite(step_loss) & (step_loss <= limit)
    return torch.where(good, 1.0, float("nan"))
