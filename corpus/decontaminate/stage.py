"""The stage `decontaminate`: drops documents that hold an item of an evaluation set."""

from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame

from corpus.decontaminate.items import item_files, read_items
from corpus.decontaminate.matching import ItemIndex, find_items, index_items
from corpus.settings import Settings
from corpus.stage import BatchStage, verdicts


class DecontaminateConfig(Settings):
    """The section `decontaminate` of a recipe."""

    items: tuple[str, ...] = Field(min_length=1)
    """Files of evaluation items (JSON lines, JSON or CSV; * and ** are allowed): MMLU, C-Eval,
    CMMLU, FinEval and what looks like them."""
    ngram: int = Field(default=5, ge=2, le=20)
    """Length of the n-grams, in words; a Han character counts as one."""
    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """The share of an item's n-grams that must stand close together in a document."""
    min_units: int = Field(default=13, ge=2)
    """A question of fewer words is looked for together with its options. 13 is the length that
    GPT-3's authors used (Brown et al. 2020, appendix C)."""


class Decontaminate(BatchStage):
    """Drops documents by the rule `evaluation_item`; evidence: `item` (file and row), `question`.

    The value is the share of the item's n-grams that the document holds close together.
    """

    Config = DecontaminateConfig
    config: DecontaminateConfig
    _index: ItemIndex | None = None

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([])

    @property
    def resources(self) -> Sequence[str]:
        return item_files(self.config.items)

    def decide(self, documents: DataFrame) -> DataFrame:
        self._index = self._read()  # on the driver: workers need not see the files
        return super().decide(documents)

    def _read(self) -> ItemIndex:
        config = self.config
        return index_items(read_items(config.items), config.ngram, config.min_units)

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._index is None:
            self._index = self._read()
        index, threshold = self._index, self.config.threshold
        found, share = find_items(batch.column("text"), index, threshold)
        hit = (found >= 0).tolist()
        evidence = [
            {"item": index.names[k], "question": index.stems[k][:120]} if k >= 0 else None
            for k in found.tolist()
        ]
        verdict = verdicts(
            ["evaluation_item" if h else None for h in hit],
            share.tolist(),
            [threshold] * len(hit),
            evidence,
        )
        return pa.RecordBatch.from_arrays([batch.column("doc_id"), verdict], ["doc_id", "verdict"])
