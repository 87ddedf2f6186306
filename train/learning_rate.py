"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from train.run_config import LearningRate


def learning_rate(settings: LearningRate, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of a phase of `steps` steps.

    The warm-up takes ceil(warmup * steps) steps and reaches the peak on its last; the first step
    after a cold start is not 0. The last step has the rate `floor * peak`.
    """
    warmup_steps = math.ceil(settings.warmup * steps)
    if step < warmup_steps:
        rise = (step + 1) / warmup_steps
        return settings.peak * (settings.start + (1 - settings.start) * rise)
    if settings.schedule == "constant":
        return settings.peak
    first = warmup_steps
    if settings.schedule == "wsd":
        first = max(warmup_steps, steps - math.ceil(settings.decay * steps))
    progress = (step - first + 1) / max(1, steps - first) if step >= first else 0.0
    fall = (1 - math.cos(math.pi * progress)) / 2 if settings.schedule == "cosine" else progress
    return settings.peak * (1 - (1 - settings.floor) * fall)
