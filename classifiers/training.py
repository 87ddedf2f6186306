"""A training configuration: labelled texts, word lists, ordinary documents, and the search."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from classifiers.background import files_of
from corpus.settings import Settings


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
