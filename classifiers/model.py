"""Training a fastText classifier, folding it into one table of weights, and keeping both on disk.

A model is a folder: `card.json` (what it was trained on, how, how well it does, and the thresholds
that its user may rely on), `rows.npy` and `slots.npy` (the folded weights, see
`classifiers.scoring`), and, if wanted, `fasttext-K.bin`, which any fastText tool reads. Nothing in
it is unpickled or evaluated on loading.

Several fastText models that share words and buckets fold into one table, the mean of theirs: an
ensemble costs nothing when it is applied.
"""

import ctypes
import functools
import io
import json
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fasttext
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from classifiers import linear
from classifiers.model_files import CARD, ROWS, SLOTS, local_file, read_file, shipped_models
from classifiers.scoring import Scores, Table, score
from classifiers.tokens import token_text
from corpus.settings import Settings, UserError

FORMAT = 1
SEGMENTATION = "characters 2"  # the version of `classifiers.tokens`: change it with the tokens
PREFIX = "__label__"
Weights = tuple[npt.NDArray[np.float64], list[str]]  # [words + buckets, labels], the words
LONG_WINDOWS = 64  # half-overlapping windows of a document, some 4,000 tokens, that are not long


class FastText(Settings):
    """How one fastText classifier is trained; names and defaults follow fastText's."""

    learning_rate: float = 0.3
    epochs: int = 5
    dimension: int = 16
    """Columns of the hidden layer. It is folded away after training: only its training time and
    regularising effect matter."""
    ngrams: int = 3
    """The longest run of tokens that makes a feature."""
    min_count: int = 1
    """Words seen less often have no row of their own (their n-grams do)."""
    balance: float = 0.0
    """0: every text counts once. 1: rare labels are repeated until all weigh the same; between,
    the power of the ratio. No text is repeated more than 20 times."""
    svm_share: float = Field(0.5, ge=0, le=1)
    """How much the second opinion (`classifiers.linear`) weighs; 0 is fastText alone."""
    svm_cost: float = Field(1.0, gt=0)
    """The second opinion's C: larger fits the training texts closer."""


@dataclass(frozen=True)
class Model:
    """A trained classifier: one-vs-all probabilities for `labels`."""

    labels: tuple[str, ...]
    negative: str
    """The label that means that nothing was found; it is never reported."""
    table: Table
    window: int
    """Tokens of a scoring window."""
    slopes: npt.NDArray[np.float64]  # [labels], Platt scaling: p = sigmoid(slope*logit+intercept)
    intercepts: npt.NDArray[np.float64]  # [labels]
    thresholds: npt.NDArray[np.float64]  # [labels], the probability from which a label is given
    card: dict[str, Any]
    length_margin: float = 0.0
    """How much a document's best window counts less for every e-fold of its length beyond
    `LONG_WINDOWS`: among thousands of windows one is high by chance."""

    def score(self, texts: pa.Array) -> Scores:
        """Logits of every text, for whole documents and best windows."""
        return score(texts, self.table, self.window)

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities [documents, labels] of `logits` of the same shape."""
        return sigmoid(logits * self.slopes + self.intercepts)

    def peak_probabilities(self, scores: Scores) -> npt.NDArray[np.float64]:
        """Calibrated probabilities [documents, labels] of the best windows, less what long
        documents owe to their length."""
        windows = scores.tokens / (self.window / 2)
        owed = self.length_margin * np.log(np.maximum(windows / LONG_WINDOWS, 1.0))
        return sigmoid(scores.peak * self.slopes + self.intercepts - owed[:, None])


def sigmoid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def train_table(
    texts: Sequence[str],
    labels: Sequence[frozenset[str]],
    names: Sequence[str],
    settings: FastText,
    buckets: int,
    seeds: Iterable[int],
    bits: Literal[8, 16] = 16,
    keep_in: Path | None = None,
    learnt: Weights | None = None,
) -> Table:
    """Train a fastText model for each seed on `texts` and fold them into one table.

    texts, labels: one set of labels a text, never empty. names: the order of the table's columns.
    buckets: rows of hashed n-grams, a power of two. keep_in: write fastText's own files there.
    learnt: what `fasttext_weights` gives for all this, where it is known already.
    """
    seeds = list(seeds)
    folded, words = learnt or fasttext_weights(
        texts, labels, names, settings, buckets, seeds, keep_in
    )
    slots = word_slots(words)
    if settings.svm_share:
        features = linear.extract(texts, slots, len(words), buckets, settings.ngrams)
        truth = np.array([[name in tags for name in names] for tags in labels])
        second = linear.nb_svm(features, truth, len(folded), settings.svm_cost, seeds[0])
        # Both on one scale, fastText's: what they say of the training texts spreads as wide.
        spread = linear.scores(features, folded).std() / linear.scores(features, second).std()
        folded = (1 - settings.svm_share) * folded + settings.svm_share * spread * second
    return quantise(folded, slots, len(words), settings.ngrams, bits)


def fasttext_weights(
    texts: Sequence[str],
    labels: Sequence[frozenset[str]],
    names: Sequence[str],
    settings: FastText,
    buckets: int,
    seeds: Sequence[int],
    keep_in: Path | None = None,
) -> Weights:
    """The mean of a fastText model for each seed, its two matrices multiplied."""
    lines = [token_text(text) for text in texts]
    repeats = _repeats(labels, settings.balance)
    order = np.random.default_rng(0).permutation(len(lines))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        with path.open("w", encoding="utf-8") as file:
            for place in order:
                tags = " ".join(PREFIX + label for label in sorted(labels[place]))
                file.write(f"{tags} {lines[place]}\n" * repeats[place])
        folded: npt.NDArray[np.float64] | None = None
        for number, seed in enumerate(seeds):
            with _zeroing_malloc():
                model = fasttext.train_supervised(
                    str(path),
                    lr=settings.learning_rate,
                    epoch=settings.epochs,
                    dim=settings.dimension,
                    wordNgrams=settings.ngrams,
                    minCount=settings.min_count,
                    bucket=buckets,
                    minn=0,
                    maxn=0,
                    loss="ova",
                    seed=seed,
                    thread=1,  # more than one is not deterministic
                    verbose=0,
                )
            if keep_in is not None:
                model.save_model(str(keep_in / f"fasttext-{number}.bin"))
            columns = [model.get_labels().index(PREFIX + name) for name in names]
            weights = model.get_input_matrix() @ model.get_output_matrix()[columns].T
            folded = weights if folded is None else folded + weights
            words = model.get_words()
    assert folded is not None, "at least one seed"
    folded /= len(seeds)
    return folded, words


@contextmanager
def _zeroing_malloc() -> Iterator[None]:
    """Inside, glibc's malloc hands out zeroed memory.

    fastText 0.9.3 with one thread initialises only a tenth of its input matrix
    (DenseMatrix::uniform) and leaves the rest as it finds it: in a process whose heap was used
    before, training depends on what lay there, or meets a NaN. With zeros it depends on the seed
    alone, and n-grams that no text holds weigh nothing. Without glibc, train in a new process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    m_perturb = -6  # fill what is allocated with the complement of the given byte
    if mallopt is not None:
        mallopt(m_perturb, 0xFF)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(m_perturb, 0)


def quantise(
    weights: npt.NDArray[np.float64],
    slots: npt.NDArray[np.uint32],
    words: int,
    order: int,
    bits: Literal[8, 16],
) -> Table:
    """The table of `weights` (float [words + buckets, labels]), rounded to integers of `bits`."""
    largest = float(np.abs(weights).max()) or 1.0
    top = (1 << (bits - 1)) - 1
    rows = np.rint(weights * (top / largest)).astype(np.int16 if bits == 16 else np.int8)
    return Table(rows, slots, words, order, largest / top)


def word_slots(words: Sequence[str]) -> npt.NDArray[np.uint32]:
    """uint32 [power of two, 2]: a hash table from words' hashes to their rows (`Table.slots`)."""
    size = 1 << max(4, math.ceil(math.log2(2 * len(words) + 1)))
    slots = np.zeros((size, 2), np.uint32)
    for row, word in enumerate(words):
        digest = fasttext_hash(word)
        slot = digest & (size - 1)
        while slots[slot, 1] and slots[slot, 0] != digest:
            slot = (slot + 1) & (size - 1)
        if not slots[slot, 1]:  # of two words with one 32-bit hash, the more frequent one stays
            slots[slot] = digest, row + 1
    return slots


def fasttext_hash(word: str) -> int:
    """fastText's 32-bit hash of a word: FNV-1a over bytes that it takes for signed."""
    digest = 2166136261
    for byte in word.encode():
        digest ^= byte if byte < 0x80 else byte | 0xFFFFFF00
        digest = digest * 16777619 & 0xFFFFFFFF
    return digest


def save(model: Model, folder: Path) -> None:
    """Write `model` to `folder`; the card comes last, so that a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ROWS, model.table.rows, allow_pickle=False)
    np.save(folder / SLOTS, model.table.slots, allow_pickle=False)
    card = {
        "format": FORMAT,
        "labels": list(model.labels),
        "negative": model.negative,
        "segmentation": SEGMENTATION,
        "window": model.window,
        "words": model.table.words,
        "ngrams": model.table.order,
        "scale": model.table.scale,
        "slopes": model.slopes.tolist(),
        "intercepts": model.intercepts.tolist(),
        "thresholds": model.thresholds.tolist(),
        "length_margin": model.length_margin,
        **model.card,
    }
    partial = folder / "card.json.partial"
    partial.write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / CARD)


@functools.cache
def load(folder: str) -> Model:
    """The model of this name, folder or address (`classifiers.model_files`), once a process.

    Raises:
        UserError: there is no whole model there.
    """
    try:
        card = json.loads(read_file(folder, CARD))
        rows, slots = _array(folder, ROWS), _array(folder, SLOTS)
        if (card["format"], card["segmentation"]) != (FORMAT, SEGMENTATION):
            raise UserError(f"{folder}: this model is of another version: train it again")
        table = Table(rows, slots, card["words"], card["ngrams"], card["scale"])
        buckets = len(rows) - table.words
        if buckets & (buckets - 1) or len(slots) & (len(slots) - 1) or rows.ndim != 2:
            raise UserError(f"{folder}: the weights do not fit the card")
        return Model(
            tuple(card["labels"]),
            card["negative"],
            table,
            card["window"],
            np.array(card["slopes"]),
            np.array(card["intercepts"]),
            np.array(card["thresholds"]),
            card,
            card.get("length_margin", 0.0),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: there is no whole model here ({error}); give the folder of one that "
            "`python -m classifiers.train` wrote, or the name of a shipped one: "
            f"{', '.join(shipped_models())}"
        ) from error


def _array(model: str, name: str) -> npt.NDArray[Any]:
    path = local_file(model, name)
    if path is not None:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    return np.load(io.BytesIO(read_file(model, name)), allow_pickle=False)  # type: ignore[no-any-return]


def _repeats(labels: Sequence[frozenset[str]], balance: float) -> list[int]:
    counts: dict[str, int] = {}
    for names in labels:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    top = max(counts.values())
    return [
        max(min(20, round((top / counts[name]) ** balance)) for name in names) for names in labels
    ]
