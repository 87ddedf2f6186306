"""From a trained model to a filter: thresholds, what long documents owe, and the card's figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.calibration import (
    NEVER,
    average_precision,
    f1_scores,
    threshold_for,
    threshold_for_false_alarms,
)
from classifiers.labels import Example
from classifiers.model import Model
from classifiers.splits import texts_of, truth_of
from classifiers.training import Training

ENOUGH = 10  # held-out texts of a label, to say what is usual
UNUSUAL = 0.02  # share of the held-out texts of a label that are less sure than `usual`


def thresholds(
    config: Training,
    model: Model,
    probabilities: npt.NDArray[np.float64],
    truth: npt.NDArray[np.bool_],
    ordinary: Sequence[Sequence[str]],
) -> npt.NDArray[np.float64]:
    """float64 [labels]: each label's threshold, by precision on dev and alarms on `ordinary`,
    documents by file."""
    harmful = np.array([name != model.negative for name in model.labels])
    # Hate taken for abuse is no false alarm of a filter: above a label's threshold, texts with
    # any label but the negative one are right.
    right = truth.copy()
    right[:, harmful] |= (truth & harmful).any(axis=1, keepdims=True)
    limits = np.array(
        [
            threshold_for(p, true, config.precision)
            for p, true in zip(probabilities.T, right.T, strict=True)
        ]
    )
    for documents in ordinary:
        if not documents:
            continue
        scores = model.score(pa.array(documents, pa.string()))
        alarms = model.peak_probabilities(scores)[:, harmful]
        # One document may set off several labels: give each the whole allowance if it fits.
        for label_share in range(1, harmful.sum() + 1):
            rate = config.background_alarms / label_share
            least = [threshold_for_false_alarms(column, rate) for column in alarms.T]
            raised = np.maximum(limits[harmful], least)
            if (alarms >= raised).any(axis=1).mean() <= config.background_alarms:
                break
        limits[harmful] = raised
    return np.minimum(limits, NEVER)


def usual(
    probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """float64 [labels]: what nearly all texts of a label reach; 0 where there are too few of them.

    probabilities, truth: [texts, labels]. A model knows only the kinds that it was shown, and calls
    what is of none of them by the name of the nearest; such a text is less sure than its own are.
    """
    limits = [
        np.quantile(p[true], UNUSUAL, method="lower") if true.sum() >= ENOUGH else 0.0
        for p, true in zip(probabilities.T, truth.T, strict=True)
    ]
    return np.array(limits)


def length_margin(model: Model, ordinary: Sequence[Sequence[str]]) -> float:
    """How the best window's log-odds grow with the logarithm of a harmless document's length.

    A least-squares slope within the files of `ordinary`, over documents of eight windows and more.
    """
    harmful = [k for k, name in enumerate(model.labels) if name != model.negative]
    lengths, peaks = [], []
    for documents in ordinary:
        scores = model.score(pa.array(documents, pa.string()))
        odds = (scores.peak * model.slopes + model.intercepts)[:, harmful].max(axis=1)
        long = scores.tokens >= 4 * model.window
        if long.sum() > 1:
            logs = np.log(scores.tokens[long])
            lengths.append(logs - logs.mean())
            peaks.append(odds[long] - odds[long].mean())
    x, y = np.concatenate(lengths or [np.zeros(1)]), np.concatenate(peaks or [np.zeros(1)])
    return round(max(0.0, float(x @ y / max(1e-9, float(x @ x)))), 4)


def metrics(
    model: Model, limits: npt.NDArray[np.float64], examples: Sequence[Example]
) -> dict[str, Any]:
    """Figures per label at its threshold (`limits`, float64 [labels]), and macro-F1 of the label
    that is likeliest."""
    truth = truth_of(examples, model.labels)
    logits = model.score(texts_of(examples)).peak
    probabilities = model.probabilities(logits)
    best = f1_scores(truth, top(probabilities))
    given = probabilities >= limits
    right = (given & truth).sum(axis=0)
    found = given.sum(axis=0)
    harmful = [k for k, name in enumerate(model.labels) if name != model.negative]
    calm = ~truth[:, harmful].any(axis=1)
    per_label = {
        name: {
            "texts": int(truth[:, k].sum()),
            "f1_of_best_label": round(float(best[k]), 4),
            "average_precision": round(average_precision(probabilities[:, k], truth[:, k]), 4),
            "threshold": round(float(limits[k]), 4),
            "precision": round(float(right[k] / found[k]), 4) if found[k] else None,
            "recall": round(float(right[k] / max(1, truth[:, k].sum())), 4),
        }
        for k, name in enumerate(model.labels)
    }
    alarms = given[:, harmful].any(axis=1) & calm
    return {
        "macro_f1": round(float(best.mean()), 4),
        "false_alarms": round(float(alarms.sum() / max(1, calm.sum())), 4),
        "labels": per_label,
    }


def top(scores: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool [texts, labels]: true at each text's highest score."""
    highest = np.zeros(scores.shape, np.bool_)
    highest[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return highest
