"""The stage `classify`: adds what trained classifiers say (domain, kind, quality, …) as columns.

It drops nothing by itself unless a recipe gives limits. Several models are applied in one pass
over the text, so that it travels to the workers, and is cut into tokens, once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field

from classifiers.joint import joint_models
from classifiers.lexicon import load_matcher
from classifiers.model import load
from classifiers.model_files import addresses
from corpus.settings import Settings, UserError
from corpus.stage import BatchStage, StageContext, verdicts

KEYWORDS = 3  # different words of a list that say what a document is
UNSURE = 0.5  # a likeliest label with a smaller probability is not believed; nor an unusual one


class ClassifyConfig(Settings):
    """Settings of the stage."""

    models: dict[str, str] = Field(min_length=1)
    """Name of the added columns -> folder of the model, or the name of a shipped one (domain,
    kind, quality)."""
    scores_of: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    """Name -> the label whose probability is the score; else the likeliest label's."""
    at_least: dict[str, float] = {}  # noqa: RUF012
    """Name -> the score under which a document is dropped, by the rule of the name."""
    otherwise: dict[str, str] = {}  # noqa: RUF012
    """Name -> the label of documents whose likeliest label has a probability below 0.5, or below
    what 49 of 50 texts of that label have (`usual` in the model's card), and of which the model's
    keywords, if it has any, say nothing: pages that are of none of its kinds."""


class Classify(BatchStage):
    """Adds for each model NAME: `NAME_label` (the likeliest label of the whole document, string)
    and `NAME_score` (a probability, double; see `scores_of`). Documents without text get nulls."""

    Config = ClassifyConfig
    config: ClassifyConfig

    def __init__(self, name: str, config: ClassifyConfig, context: StageContext) -> None:
        super().__init__(name, config, context)
        for key, model in config.models.items():
            labels = load(model).labels
            wanted = config.scores_of.get(key)
            if wanted is not None and wanted not in labels:
                raise UserError(f"{name}: scores_of: {key} has no label {wanted!r}, only {labels}")
        _check_names("scores_of", config.scores_of, config.models, name)
        _check_names("at_least", config.at_least, config.models, name)
        _check_names("otherwise", config.otherwise, config.models, name)

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        fields = []
        for name in self.config.models:
            fields += [(f"{name}_label", pa.string()), (f"{name}_score", pa.float64())]
        return pa.schema(fields)

    @property
    def resources(self) -> Sequence[str]:
        return [file for model in self.config.models.values() for file in addresses(model)]

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text")
        known = np.asarray(texts.is_valid())
        rows = np.arange(len(texts))
        rules: list[str | None] = [None] * len(texts)
        values: list[float | None] = [None] * len(texts)
        limits: list[float | None] = [None] * len(texts)
        columns: dict[str, pa.Array] = {"doc_id": batch.column("doc_id")}
        models = [load(model) for model in self.config.models.values()]
        logits = joint_models(tuple(self.config.models.values())).documents(texts)
        for name, model, found in zip(self.config.models, models, logits, strict=True):
            probabilities = model.probabilities(found)
            best = probabilities.argmax(axis=1)
            value = probabilities[rows, best]
            labels = np.array(model.labels, object)[best]
            usual = np.array(model.card.get("usual", np.zeros(len(model.labels))))
            unsure = known & (value < np.maximum(UNSURE, usual)[best])
            if name in self.config.otherwise:
                labels[unsure] = self.config.otherwise[name]
            if model.card.get("keywords_decide"):
                nothing = unsure | (known & (best == model.labels.index(model.negative)))
                rows_left = np.flatnonzero(nothing)
                found_labels = by_keywords(self.config.models[name], texts.take(rows_left))
                for row, label in zip(rows_left.tolist(), found_labels, strict=True):
                    labels[row] = label or labels[row]
            if name in self.config.scores_of:
                value = probabilities[:, model.labels.index(self.config.scores_of[name])]
            columns[f"{name}_label"] = pa.array(labels, pa.string(), mask=~known)
            columns[f"{name}_score"] = pa.array(value, mask=~known)
            least = self.config.at_least.get(name)
            if least is not None:
                for row in np.flatnonzero(known & (value < least)).tolist():
                    if rules[row] is None:
                        rules[row], values[row], limits[row] = name, float(value[row]), least
        columns["verdict"] = verdicts(rules, values, limits)
        return pa.RecordBatch.from_pydict(columns)


def by_keywords(model: str, texts: pa.Array) -> list[str | None]:
    """For each text the label of whose list the most different words stand in it: three at least,
    and more than of any other."""
    matcher = load_matcher(model)
    counts = matcher.distinct(texts)
    best = counts.argmax(axis=1)
    most = counts.max(axis=1)
    sure = (most >= KEYWORDS) & ((counts == most[:, None]).sum(axis=1) == 1)
    return [matcher.labels[k] if known else None for k, known in zip(best, sure, strict=True)]


def _check_names(
    key: str, given: Mapping[str, object], models: Mapping[str, str], stage: str
) -> None:
    for name in given:
        if name not in models:
            raise UserError(f"{stage}: {key}: {name!r} is not among `models`: {', '.join(models)}")
