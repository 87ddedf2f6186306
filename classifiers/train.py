"""Train a classifier from labelled texts and word lists: search, calibrate, set thresholds, report.

`python -m classifiers.train CONFIG.yaml --out FOLDER`. The result is a model folder
(`classifiers.model`) whose card says what it was trained on and how far it can be trusted.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers import labels as labelled
from classifiers.background import read_background
from classifiers.calibration import f1_scores, platt
from classifiers.labels import Example
from classifiers.lexicon import write_lexicons
from classifiers.model import (
    FastText,
    Model,
    Weights,
    fasttext_weights,
    load,
    save,
    train_table,
)
from classifiers.scoring import WHOLE_DOCUMENT, Table, score
from classifiers.splits import check_labels, read_splits, texts_of, truth_of, whole_texts
from classifiers.thresholds import length_margin, metrics, thresholds, top, usual
from classifiers.training import Training
from corpus.settings import command
from corpus.settings import load as load_settings
from corpus.stage import file_digest

EXAMPLE = """\
a configuration (every key: configs/classifiers/harm.yaml and own-classes.yaml):

  name: mine
  train: [labels.csv]                     # what `classifiers.annotate agree` writes: text, label
  negative: normal                        # the label that means that nothing was found
  lexicons:                               # word lists: weak examples, and shown in the evidence
    - {path: lexicons/gambling.txt, label: gambling}
  background: [documents.jsonl.gz]        # ordinary documents, of which hardly any may be flagged

examples:
  python -m classifiers.train configs/classifiers/harm-demo.yaml --out models/harm

Use the model in a recipe:
  - harm: {model: models/harm}

or let the pipeline train it:
  - harm: {train: configs/classifiers/harm-demo.yaml}
"""


def train(config: Training, folder: Path) -> Model:
    """Train what `config` describes, write it to `folder`, and return it.

    Raises:
        UserError: a file or label is missing, or a split is empty.
    """
    started = time.monotonic()
    train_set, dev_set, test_set, leaks = read_splits(config)
    ordinary = read_background(config.background, config.background_documents)
    negative = frozenset([config.negative])
    train_set += [Example(piece, negative, "", "background") for piece in ordinary.pieces]
    names = list(labelled.count_labels(train_set))
    check_labels(config, names, dev_set, test_set)
    texts = [example.text for example in train_set]
    sets = [example.labels for example in train_set]

    chosen, trials = _search(config, names, texts, sets, dev_set)
    hard: list[str] = []
    if ordinary.more and config.background_hard:
        first = train_table(texts, sets, names, chosen, config.buckets, [config.seed])
        hard = _hardest(config, first, names, ordinary.more)
        train_set += [Example(piece, negative, "", "background") for piece in hard]
        texts += hard
        sets += [negative] * len(hard)

    folder.mkdir(parents=True, exist_ok=True)
    seeds = [config.seed + member for member in range(config.members)]
    table = train_table(
        texts, sets, names, chosen, config.buckets, seeds, config.bits,
        folder if config.keep_fasttext else None,
    )  # fmt: skip

    truth = truth_of(dev_set, names)
    logits = score(texts_of(dev_set), table, config.window).peak
    fits = [platt(logits[:, k], truth[:, k]) for k in range(len(names))]
    slopes, intercepts = np.array([a for a, _ in fits]), np.array([b for _, b in fits])
    model = Model(
        tuple(names), config.negative, table, config.window, slopes, intercepts,
        np.ones(len(names)), {},
    )  # fmt: skip
    model = replace(model, length_margin=length_margin(model, ordinary.held_out))
    limits = thresholds(config, model, model.probabilities(logits), truth, ordinary.held_out)
    whole = whole_texts(config, dev_set)
    sureness = model.probabilities(score(texts_of(whole), table, WHOLE_DOCUMENT).document)
    final = table
    if config.refit:
        final = train_table(
            texts + [example.text for example in dev_set],
            sets + [example.labels for example in dev_set],
            names, chosen, config.buckets, seeds, config.bits,
            folder if config.keep_fasttext else None,
        )  # fmt: skip
    card = {
        "name": config.name,
        "trained_on": {
            "fingerprint": labelled.fingerprint(train_set),
            "splits": {
                "train": labelled.count_labels(train_set),
                "dev": labelled.count_labels(dev_set),
                "test": labelled.count_labels(test_set),
            },
            "background": {
                "pieces": len(ordinary.pieces),
                "hard_pieces": len(hard),
                "held_out_documents": sum(map(len, ordinary.held_out)),
            },
            "near_duplicates_of_held_out_texts_left_out": leaks,
            "sources": sorted({example.source for example in train_set}),
        },
        "settings": config.model_dump(mode="json"),
        "chosen": chosen.model_dump(),
        "search": trials,
        "precision_wanted": config.precision,
        "keywords_decide": bool(config.keywords),
        "usual": usual(sureness, truth_of(whole, names)).round(4).tolist(),
        "metrics": {
            "dev": metrics(model, limits, dev_set),
            "test": metrics(replace(model, table=final), limits, test_set),
        },
    }
    model = replace(model, table=final, thresholds=limits, card=card)
    lists = (*config.lexicons, *config.keywords)
    write_lexicons(folder, [(entry.label, entry.path) for entry in lists])
    save(model, folder)
    print(f"trained {config.name} in {time.monotonic() - started:.1f} s: {folder}", file=sys.stderr)
    return model


def ensure_model(config_path: str, folder: Path) -> Path:
    """The folder of the model that the training configuration at `config_path` describes.

    It is trained into a subfolder of `folder`, named by a hash of the configuration and its
    inputs, unless it is there already.
    """
    target = model_folder(config_path, folder)
    if not (target / "card.json").exists():
        train(load_settings(config_path, Training), target)
    return target


def model_folder(config_path: str, folder: Path) -> Path:
    """Where `ensure_model` puts the model: a path that follows from configuration and inputs.

    Raises:
        UserError: the configuration or one of its inputs cannot be read.
    """
    config = load_settings(config_path, Training)
    identity = hashlib.sha256(json.dumps(config.model_dump(mode="json")).encode())
    for path in config.inputs():
        identity.update(file_digest(path).encode())
    return folder / f"{config.name}-{identity.hexdigest()[:12]}"


def _search(
    config: Training,
    names: Sequence[str],
    texts: Sequence[str],
    sets: Sequence[frozenset[str]],
    dev_set: Sequence[Example],
) -> tuple[FastText, list[dict[str, Any]]]:
    """The combination with the best macro-F1 on dev, the first of equals, and all trials."""
    axes = config.search.model_dump()
    combinations = [
        FastText(**dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]
    if len(combinations) == 1:
        return combinations[0], []
    trials: list[dict[str, Any]] = []
    truth = truth_of(dev_set, names)
    learnt: dict[str, Weights] = {}  # the second opinion's settings do not change fastText's
    for settings in combinations:
        key = settings.model_dump_json(exclude={"svm_share", "svm_cost"})
        if key not in learnt:
            learnt[key] = fasttext_weights(
                texts, sets, names, settings, config.buckets, [config.seed]
            )
        table = train_table(
            texts, sets, names, settings, config.buckets, [config.seed], learnt=learnt[key]
        )
        f1 = f1_scores(truth, top(score(texts_of(dev_set), table, config.window).peak))
        trials.append({**settings.model_dump(), "dev_macro_f1": round(float(f1.mean()), 4)})
    best = max(range(len(trials)), key=lambda place: trials[place]["dev_macro_f1"])
    return combinations[best], trials


def _hardest(
    config: Training, table: Table, names: Sequence[str], pieces: Sequence[str]
) -> list[str]:
    """The pieces that `table` takes for harmful, most of all first, `background_hard` at most."""
    logits = score(pa.array(pieces, pa.string()), table, config.window).peak
    harmful = [k for k, name in enumerate(names) if name != config.negative]
    worst = logits[:, harmful].max(axis=1) - logits[:, names.index(config.negative)]
    order = np.argsort(-worst, kind="stable")[: config.background_hard]
    return [pieces[row] for row in order]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the card's figures."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE,
    )
    parser.add_argument("config", help="training configuration (YAML)")
    parser.add_argument("--out", required=True, type=Path, help="folder for the model")
    options = parser.parse_args(arguments)
    train(load_settings(options.config, Training), options.out)
    load.cache_clear()
    figures = load(str(options.out)).card["metrics"]["test"]
    print(f"test split: macro-F1 {figures['macro_f1']:.3f}, "
          f"false alarms on {figures['false_alarms']:.2%} of the harmless texts")  # fmt: skip
    print(f"{'label':16}{'texts':>7}{'F1':>8}{'threshold':>11}{'precision':>11}{'recall':>8}")
    for name, row in figures["labels"].items():
        precision = "-" if row["precision"] is None else f"{row['precision']:.3f}"
        print(
            f"{name:16}{row['texts']:>7}{row['f1_of_best_label']:>8.3f}{row['threshold']:>11.3f}"
            f"{precision:>11}{row['recall']:>8.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
