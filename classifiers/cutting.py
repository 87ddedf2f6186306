"""Cutting harmful paragraphs out of a page, so that the rest of it can stay.

A paragraph is a line. A model says in which window of about a hundred tokens a page is harmful; of
the paragraphs that the window touches, those go that are harmful by themselves, and where none is,
all of them. What is left is scored again, until nothing is flagged any more.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.model import Model

ROUNDS = 64  # a page with more harmful places than this is no page with a harmful paragraph


@dataclass(frozen=True)
class Cut:
    """A stretch of whole lines, in characters of the text as it was given."""

    begin: int
    end: int
    label: str
    score: float  # the probability of the window for which it was cut


@dataclass(frozen=True)
class Pruned:
    """A text without its harmful paragraphs."""

    text: str
    cuts: tuple[Cut, ...]
    clean: bool  # False where after ROUNDS it was still flagged


def prune(text: str, model: Model, thresholds: npt.NDArray[np.float64]) -> Pruned:
    """Cut the paragraphs for which `text` reaches one of `thresholds` (float64 [labels])."""
    lines = [(begin, end) for begin, end in _lines(text) if text[begin:end].strip()]
    cuts: list[Cut] = []
    clean = False
    for _ in range(ROUNDS):
        pieces = [text[begin:end] for begin, end in lines]
        worst = _worst(pieces, model, thresholds)
        if worst is None:
            clean = True
            break
        label, score, first, last = worst
        touched = pieces[first:last]
        alone = model.peak_probabilities(model.score(pa.array(touched, pa.string())))[:, label]
        chosen = [k for k, own in enumerate(alone) if own >= thresholds[label]]
        for k in chosen or range(len(touched)):
            begin, end = lines[first + k]
            cuts.append(Cut(begin, end, model.labels[label], score))
        gone = {(cut.begin, cut.end) for cut in cuts}
        lines = [line for line in lines if line not in gone]
    cuts.sort(key=lambda cut: cut.begin)
    kept, place = [], 0
    for cut in cuts:
        kept.append(text[place : cut.begin])
        place = cut.end + (text[cut.end : cut.end + 1] == "\n")
    return Pruned("".join([*kept, text[place:]]), tuple(cuts), clean)


def _worst(
    pieces: list[str], model: Model, thresholds: npt.NDArray[np.float64]
) -> tuple[int, float, int, int] | None:
    """Label, probability, and range of the pieces of the window farthest above its threshold."""
    scores = model.score(pa.array(["\n".join(pieces)], pa.string()))
    probabilities = model.peak_probabilities(scores)[0]
    margin = probabilities - thresholds
    margin[model.labels.index(model.negative)] = -np.inf
    label = int(margin.argmax())
    if not pieces or margin[label] < 0:
        return None
    ends = np.cumsum([len(piece) + 1 for piece in pieces])
    first = int(np.searchsorted(ends, scores.begin[0, label], "right"))
    last = int(
        np.searchsorted(ends, max(scores.begin[0, label], scores.end[0, label] - 1), "right")
    )
    return label, float(probabilities[label]), first, min(last, len(pieces) - 1) + 1


def _lines(text: str) -> list[tuple[int, int]]:
    places, begin = [], 0
    for line in text.split("\n"):
        places.append((begin, begin + len(line)))
        begin += len(line) + 1
    return places
