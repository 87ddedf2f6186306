"""The stage `decontaminate`: drops documents that hold an item of an evaluation set."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
from pydantic import Field

from corpus.decontaminate.items import item_files, read_items
from corpus.decontaminate.matching import ItemIndex, Match, find_items, index_items, without_units
from corpus.settings import Settings
from corpus.stage import BatchStage, Read, StageContext, verdicts


class DecontaminateConfig(Settings):
    """The section `decontaminate` of a recipe."""

    items: tuple[str, ...] = Field(min_length=1)
    """Files of evaluation items (JSON lines, JSON or CSV; * and ** are allowed): MMLU, C-Eval,
    CMMLU, FinEval and what looks like them."""
    ngram: int = Field(default=5, ge=2, le=20)
    """Length of the n-grams, in words; a Han character counts as one."""
    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """The share of an item's n-grams that must stand close together in a document."""
    action: Literal["drop", "cut"] = "drop"
    """`drop` the document, or `cut` the lines over which the item stands and keep the rest."""
    min_units: int = Field(default=13, ge=2)
    """A question of fewer words is looked for together with its options. 13 is the length that
    GPT-3's authors used (Brown et al. 2020, appendix C)."""


class Decontaminate(BatchStage):
    """Drops documents by the rule `evaluation_item`; evidence: `item` (file and row), `question`.

    The value is the share of the item's n-grams that the document holds close together. Where the
    action is to cut, the lines that hold the item go and the rest stays; `evaluation_items` says
    how many were cut, and a document of which nothing is left is dropped by the same rule.
    """

    Config = DecontaminateConfig
    config: DecontaminateConfig
    _index: ItemIndex | None = None

    def __init__(self, name: str, config: DecontaminateConfig, context: StageContext) -> None:
        super().__init__(name, config, context)
        self.cuts = config.action == "cut"
        self.rewrites_text = self.cuts  # type: ignore[misc]  # it depends on the settings here

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("evaluation_items", pa.int32())] if self.cuts else [])

    @property
    def resources(self) -> Sequence[str]:
        return item_files(self.config.items)

    def prepare(self, read: Read) -> None:
        self._index = self._read()  # on the driver: workers need not see the files

    def _read(self) -> ItemIndex:
        config = self.config
        return index_items(read_items(config.items), config.ngram, config.min_units)

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._index is None:
            self._index = self._read()
        index, threshold = self._index, self.config.threshold
        texts = batch.column("text")
        matches: list[list[Match]] = [[] for _ in range(batch.num_rows)]
        for match in find_items(texts, index, threshold):
            matches[match.document].append(match)
        best = [max(own, key=lambda m: (m.share, -m.item), default=None) for own in matches]
        columns: dict[str, pa.Array] = {"doc_id": batch.column("doc_id")}
        dropped = best
        if self.cuts:
            left = texts.to_pylist()
            for row, own in enumerate(matches):
                if own:
                    left[row] = without_units(left[row], [(m.first, m.last) for m in own])
            columns["text"] = pa.array(left, pa.string())
            columns["evaluation_items"] = pa.array([len(own) for own in matches], pa.int32())
            dropped = [
                match if match and not text.strip() else None
                for match, text in zip(best, left, strict=True)
            ]
        columns["verdict"] = verdicts(
            ["evaluation_item" if match else None for match in dropped],
            [match.share if match else None for match in dropped],
            [threshold if match else None for match in dropped],
            [
                {"item": index.names[m.item], "question": index.stems[m.item][:120]} if m else None
                for m in dropped
            ],
        )
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
