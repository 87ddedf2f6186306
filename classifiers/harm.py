"""The stage `harm`: scores every document for harmful content, and drops by threshold.

Every document gets `harm_score` and `harm_label`, whether it is dropped or not, so that a recipe's
threshold can be defended, and moved, with the numbers at hand. Documents are scored by windows:
one harmful paragraph in a long page is found, and the evidence says where it stands. Where the
recipe says so, that paragraph is cut and the page stays (`classifiers.cutting`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from classifiers.cutting import prune
from classifiers.lexicon import load_matcher
from classifiers.model import Model, load
from classifiers.model_files import addresses
from classifiers.train import ensure_model, model_folder
from classifiers.training import Training
from corpus.settings import Settings
from corpus.settings import load as load_settings
from corpus.stage import BatchStage, Read, StageContext, verdicts

CUTS = pa.list_(
    pa.struct(
        [
            ("begin", pa.int32()),
            ("end", pa.int32()),
            ("label", pa.string()),
            ("score", pa.float64()),
        ]
    )
)


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
    action: Literal["drop", "cut", "score"] = "drop"
    """`drop` the document, `cut` its harmful paragraphs (lines) and keep the rest, or only `score`.
    """
    most_cut: float = Field(0.5, gt=0, le=1)
    """`cut`: a document of which a larger share of the characters would go is dropped whole."""

    @model_validator(mode="after")
    def _check(self) -> "HarmConfig":
        if (self.model is None) == (self.train is None):
            raise ValueError("give either `model` (a folder) or `train` (a configuration)")
        return self


class Harm(BatchStage):
    """Adds `harm_score` (the probability of the label that is surest for its threshold, double)
    and `harm_label` (that label); drops by the rule `harmful`.

    Where the action is to cut, it adds `harm_cuts` (begin and end in characters of the text as it
    came in, label, score), writes the text that is left, and drops by the rule `harmful` only where
    nothing is left and by `harmful_share` where too much would go. `python -m corpus.ledger RUN
    --doc ID --diff` shows the text that was cut.
    """

    Config = HarmConfig

    def __init__(self, name: str, config: HarmConfig, context: StageContext) -> None:
        super().__init__(name, config, context)
        self.config: HarmConfig = config
        self.rewrites_text = config.action == "cut"  # type: ignore[misc]
        self._models = Path(context.run_dir) / "models"
        if config.train is None:
            self._folder = str(config.model)
            load(self._folder)  # a missing or broken model is told now, not in a worker
        else:
            self._folder = str(model_folder(config.train, self._models))

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        cuts = [("harm_cuts", CUTS)] if self.rewrites_text else []
        return pa.schema([("harm_score", pa.float64()), ("harm_label", pa.string()), *cuts])

    @property
    def resources(self) -> Sequence[str]:
        if self.config.train is None:
            return addresses(self._folder)
        return [self.config.train, *load_settings(self.config.train, Training).inputs()]

    def prepare(self, read: Read) -> None:
        if self.config.train is not None:
            ensure_model(self.config.train, self._models)

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        model = load(self._folder)
        texts = batch.column("text")
        scores = model.score(texts)
        probabilities = model.peak_probabilities(scores)
        thresholds = self._thresholds(model)
        surest = _surest(probabilities, thresholds, model)
        rows = np.arange(len(texts))
        value, limit = probabilities[rows, surest], thresholds[surest]
        known = np.asarray(texts.is_valid())
        flagged = (value >= limit) & known
        labels = pa.array(model.labels).take(pa.array(surest, mask=~known))
        columns = {
            "doc_id": batch.column("doc_id"),
            "harm_score": pa.array(value, mask=~known),
            "harm_label": labels,
        }
        rules: list[str | None] = [None] * len(texts)
        values: list[float | None] = [None] * len(texts)
        limits: list[float | None] = [None] * len(texts)
        evidence: list[dict[str, str] | None] = [None] * len(texts)
        for row in np.flatnonzero(flagged & (self.config.action != "score")).tolist():
            begin = int(scores.begin[row, surest[row]])
            end = int(scores.end[row, surest[row]])
            rules[row], values[row], limits[row] = "harmful", float(value[row]), float(limit[row])
            evidence[row] = {
                "label": model.labels[surest[row]],
                "begin": str(begin),
                "end": str(end),
                "words": self._words(texts[row].as_py()[begin:end]),
            }
        if self.rewrites_text:
            self._cut(columns, texts, model, thresholds, rules, values, limits)
            evidence = [e if rule else None for e, rule in zip(evidence, rules, strict=True)]
        columns["verdict"] = verdicts(rules, values, limits, evidence)
        return pa.RecordBatch.from_pydict(columns)

    def _cut(
        self,
        columns: dict[str, pa.Array],
        texts: pa.Array,
        model: Model,
        thresholds: npt.NDArray[np.float64],
        rules: list[str | None],
        values: list[float | None],
        limits: list[float | None],
    ) -> None:
        """Add `text` and `harm_cuts`, and take back the verdicts of what stays without its cuts."""
        left = texts.to_pylist()
        cuts: list[list[dict[str, Any]] | None] = [None] * len(left)
        for row, rule in enumerate(rules):
            if rule is None:
                continue
            whole = left[row]
            pruned = prune(whole, model, thresholds)
            gone = sum(cut.end - cut.begin for cut in pruned.cuts)
            share = gone / max(1, len(whole))
            if not pruned.text.strip():
                continue  # harmful all over: the verdict stands
            if share > self.config.most_cut or not pruned.clean:
                rules[row] = "harmful_share"
                values[row], limits[row] = share, self.config.most_cut
                continue
            rules[row] = values[row] = limits[row] = None
            left[row] = pruned.text
            cuts[row] = [vars(cut) for cut in pruned.cuts]
        columns["text"] = pa.array(left, pa.string())
        columns["harm_cuts"] = pa.array(cuts, CUTS)

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
