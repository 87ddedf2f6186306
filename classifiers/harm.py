"""The stage `harm`: scores every document for harmful content, and drops by threshold.

Every document gets `harm_score` and `harm_label`, whether it is dropped or not, so that a recipe's
threshold can be defended, and moved, with the numbers at hand. Documents are scored by windows:
one harmful paragraph in a long page is found, and the evidence says where it stands.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator
from pyspark.sql import DataFrame

from classifiers.classify import model_path
from classifiers.lexicon import load_matcher
from classifiers.model import MODEL_FILES, Model, load
from classifiers.train import Training, ensure_model, model_folder
from corpus.settings import Settings
from corpus.settings import load as load_settings
from corpus.stage import BatchStage, StageContext, verdicts


class HarmConfig(Settings):
    """Settings of the stage; exactly one of `model` and `train` must be given."""

    model: str | None = None
    """Folder of a model that `python -m classifiers.train` wrote, or `harm`, the shipped one."""
    train: str | None = None
    """A training configuration; its model is trained into the run's folder when first needed."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Probability from which a document is dropped, for every label; null: each label's own, from
    the model's card."""
    ignore: tuple[str, ...] = ()
    """Labels that are scored but drop nothing."""
    drop: bool = True
    """False: only score."""

    @model_validator(mode="after")
    def _check(self) -> "HarmConfig":
        if (self.model is None) == (self.train is None):
            raise ValueError("give either `model` (a folder) or `train` (a configuration)")
        return self


class Harm(BatchStage):
    """Adds `harm_score` (the probability of the label that is surest for its threshold, double)
    and `harm_label` (that label); drops by the rule `harmful`."""

    Config = HarmConfig

    def __init__(self, name: str, config: HarmConfig, context: StageContext) -> None:
        super().__init__(name, config, context)
        self.config: HarmConfig = config
        self._models = Path(context.run_dir) / "models"
        if config.train is None:
            self._folder = model_path(str(config.model))
            load(self._folder)  # a missing or broken model is told now, not in a worker
        else:
            self._folder = str(model_folder(config.train, self._models))

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("harm_score", pa.float64()), ("harm_label", pa.string())])

    @property
    def resources(self) -> Sequence[str]:
        if self.config.train is None:
            return [str(Path(self._folder) / file) for file in MODEL_FILES]
        return [self.config.train, *load_settings(self.config.train, Training).inputs()]

    def decide(self, documents: DataFrame) -> DataFrame:
        if self.config.train is not None:
            ensure_model(self.config.train, self._models)
        return super().decide(documents)

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        model = load(self._folder)
        texts = batch.column("text")
        scores = model.score(texts)
        probabilities = model.probabilities(scores.peak)
        thresholds = self._thresholds(model)
        surest = _surest(probabilities, thresholds, model)
        rows = np.arange(len(texts))
        value, limit = probabilities[rows, surest], thresholds[surest]
        known = np.asarray(texts.is_valid())
        dropped = (value >= limit) & known & self.config.drop
        evidence: list[dict[str, str] | None] = [None] * len(texts)
        for row in np.flatnonzero(dropped).tolist():
            begin = int(scores.begin[row, surest[row]])
            end = int(scores.end[row, surest[row]])
            evidence[row] = {
                "label": model.labels[surest[row]],
                "begin": str(begin),
                "end": str(end),
                "words": self._words(texts[row].as_py()[begin:end]),
            }
        return pa.RecordBatch.from_pydict(
            {
                "doc_id": batch.column("doc_id"),
                "harm_score": pa.array(value, mask=~known),
                "harm_label": pa.array([model.labels[k] for k in surest], pa.string(), mask=~known),
                "verdict": verdicts(
                    ["harmful" if item else None for item in dropped],
                    value.tolist(),
                    limit.tolist(),
                    evidence,
                ),
            }
        )

    def _thresholds(self, model: Model) -> npt.NDArray[np.float64]:
        limits = model.thresholds.copy()
        if self.config.threshold is not None:
            limits[:] = self.config.threshold
        for k, name in enumerate(model.labels):
            if name in self.config.ignore:
                limits[k] = 2.0  # no probability reaches it
        return limits

    def _words(self, window: str) -> str:
        hits = load_matcher(self._folder).hits(window)
        return ", ".join(dict.fromkeys(f"{hit.word} ({hit.label})" for hit in hits))


def _surest(
    probabilities: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64], model: Model
) -> npt.NDArray[np.int64]:
    """int64 [documents]: the label whose probability lies highest above, or least below, its
    threshold, the negative label excepted."""
    margin = probabilities - thresholds
    margin[:, model.labels.index(model.negative)] = -np.inf
    return margin.argmax(axis=1)
