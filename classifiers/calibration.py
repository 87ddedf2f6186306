"""From scores to probabilities, thresholds and figures: what turns a ranking into a decision."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
NEVER = 1.0  # a threshold that no probability reaches: probabilities are below 1
LEAST = 0.5  # thresholds lie at or above it: what is more likely absent is never reported


def platt(logits: npt.NDArray[np.float32], truth: Bools) -> tuple[float, float]:
    """Slope and intercept such that sigmoid(slope * logit + intercept) is a probability.

    logits, truth: [texts]. Newton's method on the log-loss with the smoothed targets of Platt
    (1999), as Lin, Lin and Weng (2007) do it. Where the fit is degenerate (one class, or a slope
    that is not positive) the logits are left as they are.
    """
    x = logits.astype(np.float64)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return 1.0, 0.0
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, intercept = 1.0, float(np.log((positive + 1) / (negative + 1)))
    loss = _log_loss(x, target, slope, intercept)
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (slope * x + intercept)))
        error, spread = p - target, p * (1 - p)
        gradient = np.array([(error * x).sum(), error.sum()])
        cross = (spread * x).sum()
        hessian = np.array([[(spread * x * x).sum(), cross], [cross, spread.sum()]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-8:
            trial = slope - size * step[0], intercept - size * step[1]
            smaller = _log_loss(x, target, *trial)
            if smaller < loss:
                break
            size /= 2
        else:
            break
        (slope, intercept), loss = trial, smaller
        if np.abs(gradient).max() < 1e-6:
            break
    return (float(slope), float(intercept)) if slope > 0 else (1.0, 0.0)


def threshold_for(probabilities: Floats, truth: Bools, precision: float, least: int = 5) -> float:
    """The lowest threshold at which at least `precision` of the texts above it are right.

    probabilities, truth: [texts]. At least `least` texts must lie above it; where there is no such
    threshold the result is `NEVER`. It is never below `LEAST`.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    right = np.cumsum(truth[order])
    count = np.arange(1, len(order) + 1)
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True) if len(order) else np.empty(0, bool)
    good = (right >= precision * count) & last_of_ties & (count >= least)
    places = np.flatnonzero(good)
    return max(LEAST, float(ranked[places[-1]])) if len(places) else NEVER


def threshold_for_false_alarms(probabilities: Floats, rate: float) -> float:
    """The threshold that at most `rate` of the harmless texts' `probabilities` reach."""
    allowed = int(rate * len(probabilities))
    ranked = np.sort(probabilities)[::-1]
    if allowed >= len(ranked):
        return 0.0
    return float(np.nextafter(ranked[allowed], 2.0))


def average_precision(probabilities: Floats, truth: Bools) -> float:
    """The area under the precision-recall curve, as a sum over the texts that are true."""
    if not truth.any():
        return 0.0
    order = np.argsort(-probabilities, kind="stable")
    right = truth[order]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def f1_scores(truth: Bools, given: Bools) -> Floats:
    """F1 per label; truth, given: [texts, labels]. 0 where a label is neither true nor given."""
    right = (truth & given).sum(axis=0)
    total = truth.sum(axis=0) + given.sum(axis=0)
    return np.divide(2 * right, total, out=np.zeros(len(right)), where=total > 0)


def _log_loss(x: Floats, target: Floats, slope: float, intercept: float) -> float:
    z = slope * x + intercept
    return float((np.logaddexp(0, z) - target * z).sum())
