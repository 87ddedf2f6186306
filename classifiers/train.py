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
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from classifiers import labels as labelled
from classifiers.background import files_of, read_background, read_pieces
from classifiers.calibration import (
    NEVER,
    average_precision,
    f1_scores,
    platt,
    threshold_for,
    threshold_for_false_alarms,
)
from classifiers.labels import Example
from classifiers.lexicon import read_lexicon, write_lexicons
from classifiers.model import (
    FastText,
    Model,
    Weights,
    fasttext_weights,
    load,
    save,
    train_table,
)
from classifiers.scoring import Table, score
from corpus.settings import Settings, UserError, command
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


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"must be a power of two, such as {1 << value.bit_length()}")
    return value


class Lexicon(Settings):
    """A word list whose words are weak examples of a label."""

    path: str
    """One word a line."""
    label: str
    """The label that each of its words gets."""


class Documents(Settings):
    """Documents whose label is known by where they come from."""

    path: str
    """JSON lines (.gz or not) with a `text`, or a folder of Parquet (a run's `documents`)."""
    label: str | None = None
    """The label of all of them; several are joined by |."""
    column: str | None = None
    """Or the column that holds each one's label, such as `kind`; rows without one are passed over.
    """
    labels: tuple[str, ...] = ()
    """`column`: the labels taken; if none are named, all."""
    most: int = Field(1000, ge=1)
    """Documents taken of each label; pieces of them become texts."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "Documents":
        if (self.label is None) == (self.column is None):
            raise ValueError("give either `label` or `column`")
        return self


class Search(Settings):
    """Values to try on the dev split; every combination is trained once. What they mean and their
    defaults stand in `classifiers.model.FastText`."""

    learning_rate: tuple[float, ...] = (0.3,)
    epochs: tuple[int, ...] = (5,)
    dimension: tuple[int, ...] = (16,)
    ngrams: tuple[int, ...] = (3,)
    min_count: tuple[int, ...] = (1,)
    balance: tuple[float, ...] = (0.0,)
    svm_share: tuple[float, ...] = (0.5,)
    svm_cost: tuple[float, ...] = (1.0,)


class Training(Settings):
    """A training configuration; see configs/classifiers/ for commented ones."""

    name: str
    """What the model is called in its card."""
    train: tuple[str, ...] = ()
    """Label files: CSV with the columns text, label (several joined by |), lang, source."""
    dev: tuple[str, ...] = ()
    """Label files for the search, the calibration and the thresholds; if none, a share of
    `train` is taken, near-duplicates together."""
    test: tuple[str, ...] = ()
    """Label files for the figures of the card; treated like `dev` if none."""
    documents: tuple[Documents, ...] = ()
    """Files of documents with one label each; a quarter of them goes to dev and test."""
    relabel: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    """Labels of the label files -> the labels they become here."""
    negative: str = "normal"
    """The label that means that nothing was found."""
    lexicons: tuple[Lexicon, ...] = ()
    """Word lists: four fifths of their words join the training texts, the rest dev and test."""
    keywords: tuple[Lexicon, ...] = ()
    """Word lists that decide, in the stage `classify`, where no label but the negative one is
    likely: for kinds of which there are no documents to learn from. Theirs need not be learnt."""
    search: Search = Search()
    members: int = Field(1, ge=1, le=16)
    """fastText models, of different seeds, that are averaged. The average is as fast as one."""
    buckets: Annotated[int, AfterValidator(_power_of_two)] = Field(1 << 18, ge=1 << 8, le=1 << 24)
    """Rows of hashed n-grams, a power of two: more collide less and take more memory."""
    bits: Literal[8, 16] = 16
    """Size of a stored weight: 8 halves the model."""
    window: int = Field(128, ge=16)
    """Long documents are scored by windows of about so many tokens (characters, words)."""
    precision: float = Field(0.9, gt=0, lt=1)
    """Each label's threshold is the lowest above which at least this share of the dev split's
    texts bear it or another label but the negative one: for a filter that is the same."""
    background: tuple[str, ...] = ()
    """JSON-lines files (.gz or not) of ordinary documents with a `text`: pieces of them join the
    negatives, a quarter of the documents is kept for the thresholds."""
    background_documents: int = Field(1000, ge=1)
    """Documents taken of each background file."""
    background_hard: int = Field(4000, ge=0)
    """So many further pieces of the background join the negatives: those that a first model takes
    for harmful most of all."""
    background_alarms: float = Field(0.002, ge=0, lt=1)
    """Share of the kept background documents of each file that the thresholds may flag, all labels
    together."""
    refit: bool = False
    """True: once the dev split has served the search, the calibration and the thresholds, train on
    it too. What the card says of dev is then from before; test stays unseen."""
    dev_share: float = Field(0.1, gt=0, lt=0.5)
    test_share: float = Field(0.1, gt=0, lt=0.5)
    seed: int = 17
    keep_fasttext: bool = False
    """Also keep fastText's own model files, for other tools."""

    @model_validator(mode="after")
    def _check_labels(self) -> "Training":
        if not self.train and not self.documents:
            raise ValueError("there must be something to train on: `train` or `documents`")
        for lexicon in self.lexicons:
            if lexicon.label == self.negative:
                raise ValueError(f"lexicons: {lexicon.path} cannot have the negative label")
        if self.lexicons and self.keywords:
            raise ValueError("give `lexicons` or `keywords`, not both")
        return self

    def inputs(self) -> list[str]:
        """The files that decide what the model becomes."""
        lists = [entry.path for entry in (*self.lexicons, *self.keywords)]
        documents = [file for entry in self.documents for file in files_of(entry.path)]
        background = [file for path in self.background for file in files_of(path)]
        return [*self.train, *self.dev, *self.test, *lists, *documents, *background]


def train(config: Training, folder: Path) -> Model:
    """Train what `config` describes, write it to `folder`, and return it.

    Raises:
        UserError: a file or label is missing, or a split is empty.
    """
    started = time.monotonic()
    train_set, dev_set, test_set, leaks = _splits(config)
    ordinary = read_background(config.background, config.background_documents)
    negative = frozenset([config.negative])
    train_set += [Example(piece, negative, "", "background") for piece in ordinary.pieces]
    names = list(labelled.count_labels(train_set))
    _check(config, names, train_set, dev_set, test_set)
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

    truth = _truth(dev_set, names)
    logits = score(_arrow(dev_set), table, config.window).peak
    fits = [platt(logits[:, k], truth[:, k]) for k in range(len(names))]
    slopes, intercepts = np.array([a for a, _ in fits]), np.array([b for _, b in fits])
    model = Model(
        tuple(names), config.negative, table, config.window, slopes, intercepts,
        np.ones(len(names)), {},
    )  # fmt: skip
    model = replace(model, length_margin=_length_margin(model, ordinary.held_out))
    thresholds = _thresholds(config, model, model.probabilities(logits), truth, ordinary.held_out)
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
        "metrics": {
            "dev": _metrics(model, thresholds, dev_set),
            "test": _metrics(replace(model, table=final), thresholds, test_set),
        },
    }
    model = replace(model, table=final, thresholds=thresholds, card=card)
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
    truth = _truth(dev_set, names)
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
        f1 = f1_scores(truth, _top(score(_arrow(dev_set), table, config.window).peak))
        trials.append({**settings.model_dump(), "dev_macro_f1": round(float(f1.mean()), 4)})
    best = max(range(len(trials)), key=lambda place: trials[place]["dev_macro_f1"])
    return combinations[best], trials


def _splits(config: Training) -> tuple[list[Example], list[Example], list[Example], int]:
    rows, dev, test = (
        [
            replace(row, labels=frozenset(config.relabel.get(name, name) for name in row.labels))
            for row in labelled.read_labels(paths)
        ]
        for paths in (config.train, config.dev, config.test)
    )
    weak = [
        Example(word, frozenset([lexicon.label]), "", f"lexicon:{Path(lexicon.path).name}")
        for lexicon in config.lexicons
        for word in read_lexicon(lexicon.path)
    ]
    shares = (0.0 if dev else config.dev_share, 0.0 if test else config.test_share)
    if rows and any(shares):
        rows, more_dev, more_test = labelled.split(rows, *shares, config.seed)
        dev, test = [*dev, *more_dev], [*test, *more_test]
    if weak:
        parts = labelled.split(weak, 0.1, 0.1, config.seed)
        rows, dev, test = [*rows, *parts[0]], [*dev, *parts[1]], [*test, *parts[2]]
    for entry in config.documents:
        sides = read_pieces(entry.path, entry.most, entry.label, entry.column or "")
        for side, pieces in zip((rows, dev, test), sides, strict=True):
            side += [
                Example(piece.text, frozenset(piece.label.split("|")), "", piece.source)
                for piece in pieces
                if not entry.labels or piece.label in entry.labels
            ]
    rows, leaks = labelled.without_leaks(rows, [*dev, *test])
    return rows, dev, test, leaks


def _check(config: Training, names: Sequence[str], *sets: Sequence[Example]) -> None:
    if config.negative not in names or len(names) < 2:
        raise UserError(
            f"{config.name}: the labels are {', '.join(names)}; there must be "
            f"{config.negative!r} (the key `negative`) and at least one other"
        )
    for split, examples in zip(("dev", "test"), sets[1:], strict=True):
        unknown = set(labelled.count_labels(examples)) - set(names)
        if unknown or not examples:
            problem = f"has labels that train lacks: {sorted(unknown)}" if unknown else "is empty"
            raise UserError(f"{config.name}: the {split} split {problem}")


def _thresholds(
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
    thresholds = np.array(
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
            raised = np.maximum(thresholds[harmful], least)
            if (alarms >= raised).any(axis=1).mean() <= config.background_alarms:
                break
        thresholds[harmful] = raised
    return np.minimum(thresholds, NEVER)


def _hardest(
    config: Training, table: Table, names: Sequence[str], pieces: Sequence[str]
) -> list[str]:
    """The pieces that `table` takes for harmful, most of all first, `background_hard` at most."""
    logits = score(pa.array(pieces, pa.string()), table, config.window).peak
    harmful = [k for k, name in enumerate(names) if name != config.negative]
    worst = logits[:, harmful].max(axis=1) - logits[:, names.index(config.negative)]
    order = np.argsort(-worst, kind="stable")[: config.background_hard]
    return [pieces[row] for row in order]


def _length_margin(model: Model, ordinary: Sequence[Sequence[str]]) -> float:
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


def _metrics(
    model: Model, thresholds: npt.NDArray[np.float64], examples: Sequence[Example]
) -> dict[str, Any]:
    """Figures per label at its threshold, and macro-F1 of the best label."""
    truth = _truth(examples, model.labels)
    logits = model.score(_arrow(examples)).peak
    probabilities = model.probabilities(logits)
    best = f1_scores(truth, _top(probabilities))
    given = probabilities >= thresholds
    right = (given & truth).sum(axis=0)
    found = given.sum(axis=0)
    harmful = [k for k, name in enumerate(model.labels) if name != model.negative]
    calm = ~truth[:, harmful].any(axis=1)
    per_label = {
        name: {
            "texts": int(truth[:, k].sum()),
            "f1_of_best_label": round(float(best[k]), 4),
            "average_precision": round(average_precision(probabilities[:, k], truth[:, k]), 4),
            "threshold": round(float(thresholds[k]), 4),
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


def _arrow(examples: Sequence[Example]) -> pa.Array:
    return pa.array([example.text for example in examples], pa.string())


def _truth(examples: Sequence[Example], names: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array([[name in example.labels for name in names] for example in examples])


def _top(scores: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    top = np.zeros(scores.shape, np.bool_)
    top[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return top


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
    metrics = load(str(options.out)).card["metrics"]["test"]
    print(f"test split: macro-F1 {metrics['macro_f1']:.3f}, "
          f"false alarms on {metrics['false_alarms']:.2%} of the harmless texts")  # fmt: skip
    print(f"{'label':16}{'texts':>7}{'F1':>8}{'threshold':>11}{'precision':>11}{'recall':>8}")
    for name, row in metrics["labels"].items():
        precision = "-" if row["precision"] is None else f"{row['precision']:.3f}"
        print(
            f"{name:16}{row['texts']:>7}{row['f1_of_best_label']:>8.3f}{row['threshold']:>11.3f}"
            f"{precision:>11}{row['recall']:>8.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
