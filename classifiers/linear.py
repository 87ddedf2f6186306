"""A second opinion on fastText's own features: a linear SVM over naive-Bayes weighted n-grams.

NB-SVM (Wang and Manning, "Baselines and Bigrams", ACL 2012) scales every feature by its log-count
ratio between texts with and without the label, then trains an L2-regularised linear SVM, here by
dual coordinate descent (Hsieh et al., ICML 2008). It errs elsewhere than fastText does, and since
both are linear in the same features, their mean is one table, as fast as either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifiers.scoring import END_OF_LINE, NGRAM_FACTOR
from classifiers.tokens import token_hashes
from corpus.jit import kernel

SCALE = 6.0  # of the mean over features, so that costs near 1 suit texts of any length
SMOOTHING = 1.0  # added to every count
EPOCHS = 30


@dataclass(frozen=True)
class Features:
    """The features of many texts, as rows of one sparse matrix."""

    offsets: npt.NDArray[np.int64]  # [texts + 1]
    rows: npt.NDArray[np.int32]  # each text's feature rows, once each, in order
    values: npt.NDArray[np.float32]  # how often, divided by the text's number of features


def extract(
    texts: Sequence[str], slots: npt.NDArray[np.uint32], words: int, buckets: int, order: int
) -> Features:
    """The features of `texts`, by the table layout of `classifiers.scoring.Table`."""
    offsets, rows, values = [0], [], []
    for text in texts:
        hashes = np.append(token_hashes(text), np.uint32(END_OF_LINE))
        found = np.empty(len(hashes) * order, np.int32)
        size = _features(hashes, slots, words, buckets, order, found)
        unique, counts = np.unique(found[:size], return_counts=True)
        rows.append(unique.astype(np.int32))
        values.append((counts / max(1, size)).astype(np.float32))
        offsets.append(offsets[-1] + len(unique))
    return Features(np.array(offsets, np.int64), np.concatenate(rows), np.concatenate(values))


def nb_svm(
    features: Features, truth: npt.NDArray[np.bool_], size: int, cost: float, seed: int
) -> npt.NDArray[np.float64]:
    """Weights float64 [size, labels] for the mean over a text's features.

    truth: [texts, labels]. size: rows of the table. cost: the SVM's C; larger fits closer.
    """
    weights = np.zeros((size, truth.shape[1]))
    orders = np.array(
        [np.random.default_rng((seed, epoch)).permutation(len(truth)) for epoch in range(EPOCHS)]
    )
    for label in range(truth.shape[1]):
        ratio = _log_ratios(features.offsets, features.rows, truth[:, label], size)
        solution = _dual_descent(
            features.offsets, features.rows, features.values, ratio, truth[:, label], cost, orders
        )
        weights[:, label] = SCALE * ratio * solution
    return weights


def scores(features: Features, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 [texts, labels]: what `weights` [rows, labels] give to each text."""
    terms = features.values[:, None] * weights[features.rows]
    return np.add.reduceat(np.vstack([terms, np.zeros((1, weights.shape[1]))]), features.offsets)[
        :-1
    ]


@kernel
def _features(hashes, slots, words, buckets, order, found):  # type: ignore[no-untyped-def]
    mask = np.uint32(len(slots) - 1)
    size = 0
    for token in range(len(hashes)):
        slot = hashes[token] & mask
        while slots[slot, 1] != 0:
            if slots[slot, 0] == hashes[token]:
                found[size] = slots[slot, 1] - 1
                size += 1
                break
            slot = (slot + np.uint32(1)) & mask
        gram = np.uint64(np.int64(np.int32(hashes[token])))
        for after in range(token + 1, min(token + order, len(hashes))):
            gram = gram * NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[after])))
            found[size] = words + np.int64(gram & np.uint64(buckets - 1))
            size += 1
    return size


@kernel
def _log_ratios(offsets, rows, truth, size):  # type: ignore[no-untyped-def]
    """float64 [size]: log of how much likelier each feature is with the label; 0 if unseen."""
    with_label = np.zeros(size)
    without = np.zeros(size)
    for text in range(len(truth)):
        for place in range(offsets[text], offsets[text + 1]):
            if truth[text]:
                with_label[rows[place]] += 1
            else:
                without[rows[place]] += 1
    seen = np.sum((with_label + without) > 0)
    total_with = with_label.sum() + SMOOTHING * seen
    total_without = without.sum() + SMOOTHING * seen
    ratio = np.zeros(size)
    for row in range(size):
        if with_label[row] + without[row] > 0:
            ratio[row] = np.log((with_label[row] + SMOOTHING) / total_with) - np.log(
                (without[row] + SMOOTHING) / total_without
            )
    return ratio


@kernel
def _dual_descent(offsets, rows, values, ratio, truth, cost, orders):  # type: ignore[no-untyped-def]
    """L2-loss SVM without bias, in the dual; orders: int64 [epochs, texts]."""
    texts = len(truth)
    solution = np.zeros(len(ratio))
    alpha = np.zeros(texts)
    diagonal = 0.5 / cost
    squares = np.empty(texts)
    for text in range(texts):
        total = diagonal
        for place in range(offsets[text], offsets[text + 1]):
            total += (SCALE * values[place] * ratio[rows[place]]) ** 2
        squares[text] = total
    for epoch in range(len(orders)):
        largest = 0.0
        for text in orders[epoch]:
            sign = 1.0 if truth[text] else -1.0
            margin = 0.0
            for place in range(offsets[text], offsets[text + 1]):
                margin += SCALE * values[place] * ratio[rows[place]] * solution[rows[place]]
            gradient = sign * margin - 1.0 + alpha[text] * diagonal
            if alpha[text] == 0.0 and gradient >= 0.0:
                continue
            largest = max(largest, abs(gradient))
            old = alpha[text]
            alpha[text] = max(0.0, old - gradient / squares[text])
            step = (alpha[text] - old) * sign * SCALE
            for place in range(offsets[text], offsets[text + 1]):
                solution[rows[place]] += step * values[place] * ratio[rows[place]]
        if largest < 0.01:
            break
    return solution
