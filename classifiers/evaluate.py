"""Evaluate a model on labelled texts: a page with figures and pictures to rest a threshold on.

`python -m classifiers.evaluate MODEL LABELS.csv … --out page.html`. Per label: precision, recall
and F1 at its threshold and at the thresholds for other precisions, the precision-recall curve, and
calibration; confusion with examples; slices by source, language and length; and a check that no
text is a near-duplicate of one that the model was trained on (`--train`). Texts stay hidden until
they are clicked.
"""

import argparse
import base64
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.figure import Figure

from classifiers.calibration import NEVER, average_precision, f1_scores, threshold_for
from classifiers.labels import Example, read_labels, without_leaks
from classifiers.model import Model, load
from corpus.settings import UserError, command

PRECISIONS = (0.8, 0.9, 0.95, 0.99)
LENGTHS = ((0, "under 20"), (20, "20 to 99"), (100, "100 to 499"), (500, "500 and more"))
BINS = 10  # of the calibration plot
EXAMPLES = 3  # of each confusion


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to labelled texts; arrays are [texts, labels]."""

    model: Model
    examples: Sequence[Example]
    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    leaks: int | None  # near-duplicates of training texts, left out; None: not checked


def evaluate(model: Model, examples: Sequence[Example], train: Sequence[Example]) -> Evaluation:
    """Score `examples`, less the near-duplicates of `train`.

    Raises:
        UserError: there is no text, or one with a label that the model does not know.
    """
    leaks = None
    if train:
        examples, leaks = without_leaks(examples, train)
    unknown = {name for example in examples for name in example.labels} - set(model.labels)
    if unknown or not examples:
        raise UserError(
            f"the model's labels are {', '.join(model.labels)}; "
            + (
                f"the texts also have {', '.join(sorted(unknown))}"
                if unknown
                else "no text is left"
            )
        )
    truth = np.array([[name in example.labels for name in model.labels] for example in examples])
    scores = model.score(pa.array([example.text for example in examples], pa.string()))
    return Evaluation(model, examples, truth, model.peak_probabilities(scores), leaks)


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers of the page, as JSON would have them."""
    model, truth = evaluation.model, evaluation.truth
    probabilities = evaluation.probabilities
    top = _top(probabilities)
    rows = []
    for k, name in enumerate(model.labels):
        own = {
            "label": name,
            "texts": int(truth[:, k].sum()),
            "average_precision": average_precision(probabilities[:, k], truth[:, k]),
            "calibration_error": calibration_error(probabilities[:, k], truth[:, k]),
            **_at(probabilities[:, k], truth[:, k], float(model.thresholds[k])),
        }
        others = []
        for precision in PRECISIONS:
            threshold = threshold_for(probabilities[:, k], truth[:, k], precision)
            others.append({"wanted": precision, **_at(probabilities[:, k], truth[:, k], threshold)})
        rows.append({**own, "thresholds": others})
    best = f1_scores(truth, top)
    return {
        "texts": len(evaluation.examples),
        "leaks": evaluation.leaks,
        "macro_f1": float(best[truth.any(axis=0)].mean()),
        "f1_of_best_label": dict(zip(model.labels, best.tolist(), strict=True)),
        "labels": rows,
        "slices": {
            "source": _slices(evaluation, [e.source or "(none)" for e in evaluation.examples]),
            "language": _slices(evaluation, [e.lang or "(none)" for e in evaluation.examples]),
            "length": _slices(evaluation, [_length(e.text) for e in evaluation.examples]),
        },
    }


def calibration_error(
    probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]
) -> float:
    """Expected calibration error over ten bins: how far probabilities and shares lie apart."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        abs(probabilities[bins == b].mean() - truth[bins == b].mean()) * (bins == b).sum()
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps) / len(truth))


def confusion(evaluation: Evaluation) -> list[dict[str, Any]]:
    """For each true and likeliest label that differ: how many, and the surest examples."""
    labels = evaluation.model.labels
    best = evaluation.probabilities.argmax(axis=1)
    found: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row, example in enumerate(evaluation.examples):
        given = labels[best[row]]
        if given in example.labels:
            continue
        pair = "|".join(sorted(example.labels)), given
        found[pair] += 1
        examples.setdefault(pair, []).append(
            (float(evaluation.probabilities[row, best[row]]), example.text)
        )
    return [
        {
            "true": true,
            "given": given,
            "texts": count,
            "examples": sorted(examples[true, given], reverse=True)[:EXAMPLES],
        }
        for (true, given), count in found.most_common()
    ]


def page(evaluation: Evaluation, name: str) -> str:
    """The page, one HTML file that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("classifiers", "."), autoescape=True
    )
    return environment.get_template("evaluation.html").render(
        name=name,
        figures=figures(evaluation),
        confusion=confusion(evaluation),
        pictures=[
            ("Precision and recall", _picture(_draw_precision_recall, evaluation)),
            ("Calibration", _picture(_draw_calibration, evaluation)),
            (
                "Confusion: true label by row, likeliest by column",
                _picture(_draw_matrix, evaluation),
            ),
        ],
        never=NEVER,
        card=json.dumps(evaluation.model.card, ensure_ascii=False, indent=1),
    )


def _at(
    probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    given = probabilities >= threshold
    right, found, wanted = int((given & truth).sum()), int(given.sum()), int(truth.sum())
    return {
        "threshold": threshold,
        "precision": right / found if found else None,
        "recall": right / wanted if wanted else None,
        "f1": 2 * right / (found + wanted) if found + wanted else None,
    }


def _slices(evaluation: Evaluation, names: Sequence[str]) -> list[dict[str, Any]]:
    model = evaluation.model
    harmful = np.array([name != model.negative for name in model.labels])
    flagged = (evaluation.probabilities >= model.thresholds)[:, harmful].any(axis=1)
    true = evaluation.truth[:, harmful].any(axis=1)
    order = dict.fromkeys([name for _, name in LENGTHS if name in names] + sorted(set(names)))
    rows = []
    for name in order:
        inside = np.array([own == name for own in names])
        hits = int((flagged & true & inside).sum())
        calm = int((~true & inside).sum())
        rows.append(
            {
                "slice": name,
                "texts": int(inside.sum()),
                "precision": hits / max(1, int((flagged & inside).sum())),
                "recall": hits / int((true & inside).sum()) if (true & inside).any() else None,
                "false_alarms": int((flagged & ~true & inside).sum()) / calm if calm else None,
            }
        )
    return rows


def _length(text: str) -> str:
    return [name for least, name in LENGTHS if len(text) >= least][-1]


def _top(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    top = np.zeros(probabilities.shape, np.bool_)
    top[np.arange(len(top)), probabilities.argmax(axis=1)] = True
    return top


def _picture(draw: Any, evaluation: Evaluation) -> str:
    with mpl.rc_context({"svg.hashsalt": "lianjin", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        draw(figure.subplots(), evaluation)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return base64.b64encode(buffer.getvalue()).decode()


def _draw_precision_recall(axes: Any, evaluation: Evaluation) -> None:
    for k, name in enumerate(evaluation.model.labels):
        order = np.argsort(-evaluation.probabilities[:, k], kind="stable")
        right = np.cumsum(evaluation.truth[order, k])
        if right[-1]:
            precision = right / np.arange(1, len(right) + 1)
            axes.plot(right / right[-1], precision, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()


def _draw_calibration(axes: Any, evaluation: Evaluation) -> None:
    axes.plot([0, 1], [0, 1], color="lightgray")
    for k, name in enumerate(evaluation.model.labels):
        values = evaluation.probabilities[:, k]
        bins = np.minimum((values * BINS).astype(int), BINS - 1)
        used = [b for b in range(BINS) if (bins == b).sum() >= 5]
        axes.plot(
            [values[bins == b].mean() for b in used],
            [evaluation.truth[bins == b, k].mean() for b in used],
            marker="o", label=name,
        )  # fmt: skip
    axes.set(xlabel="probability", ylabel="share that bear the label", xlim=(0, 1), ylim=(0, 1))
    axes.legend()


def _draw_matrix(axes: Any, evaluation: Evaluation) -> None:
    labels = evaluation.model.labels
    best = evaluation.probabilities.argmax(axis=1)
    matrix = np.array(
        [
            [
                int((evaluation.truth[:, true] & (best == given)).sum())
                for given in range(len(labels))
            ]
            for true in range(len(labels))
        ]
    )
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=30)
    axes.set_yticks(range(len(labels)), labels)
    for true, given in np.ndindex(matrix.shape):
        color = "white" if shares[true, given] > 0.5 else "black"
        axes.text(given, true, matrix[true, given], ha="center", va="center", color=color)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, write the page, and print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n"
        "  python -m classifiers.evaluate models/harm samples/labels/harm-test.csv \\\n"
        "      --train samples/labels/harm-train.csv --out evaluation.html",
    )
    parser.add_argument("model", help="folder of a model, or the name of a shipped one")
    parser.add_argument("labels", nargs="+", help="label files (CSV: text, label, lang, source)")
    parser.add_argument("--train", nargs="*", default=[], help="label files it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="the page (HTML)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(arguments)
    model = load(options.model)
    evaluation = evaluate(model, read_labels(options.labels), read_labels(options.train))
    numbers = figures(evaluation)
    options.out.write_text(page(evaluation, options.model), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(numbers, ensure_ascii=False, indent=1) + "\n")
    print(f"macro-F1 {numbers['macro_f1']:.4f} on {numbers['texts']} texts: {options.out}")
    if numbers["leaks"] is None:
        print("  not checked for near-duplicates of what it was trained on: give that with --train")
    elif numbers["leaks"]:
        print(f"  {numbers['leaks']} near-duplicates of training texts were left out")
    for line in _lines(numbers["labels"]):
        print(line)


def _lines(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    for row in rows:
        shown = [f"{row[key]:.3f}" if row[key] is not None else "-" for key in
                 ("threshold", "precision", "recall", "f1")]  # fmt: skip
        yield f"  {row['label']:16} threshold {shown[0]}, precision {shown[1]}, recall {shown[2]}"


if __name__ == "__main__":
    sys.exit(main())
