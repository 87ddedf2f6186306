"""`select`: puts every document into its bucket, lang-domain-kind, and drops those without one.

A source's own tags win; where it left the language open, the language stage's finding fills it, and
where it left domain or kind open, what a classifier says.
"""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpus.settings import Settings
from corpus.stage import BatchStage, verdicts


class SelectConfig(Settings):
    """Which documents the corpus ends up with."""

    detected_language: bool = True
    """Fill an open `lang` with `lang_detected`, which the stage `language` adds."""
    fill: dict[Literal["domain", "kind"], str] = {}  # noqa: RUF012 - pydantic copies defaults
    """Fill an open `domain` or `kind` with a column, such as `kind_label` of the stage `classify`.
    """
    langs: tuple[str, ...] = ("zh", "en")
    """Languages that have buckets; documents of others are dropped."""
    min_characters: int = Field(default=1, ge=0)
    """Documents with fewer characters (Unicode code points) after cleaning are dropped."""


class Select(BatchStage):
    """Adds `bucket` (lang-domain-kind), `final_lang`, and where they are filled `final_domain` and
    `final_kind`; the documents bear the final ones."""

    Config = SelectConfig
    config: SelectConfig

    @property
    def needs(self) -> Sequence[str]:
        detected = ["lang_detected"] if self.config.detected_language else []
        return ["text", "lang", "domain", "kind", *detected, *self.config.fill.values()]

    @property
    def adds(self) -> pa.Schema:
        filled = [(f"final_{name}", pa.string()) for name in self.config.fill]
        return pa.schema([("final_lang", pa.string()), ("bucket", pa.string()), *filled])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        lang = batch["lang"]
        if self.config.detected_language:
            lang = pc.coalesce(lang, batch["lang_detected"])
        final: dict[str, pa.Array] = {"domain": batch["domain"], "kind": batch["kind"]}
        for name, column in self.config.fill.items():
            final[name] = pc.coalesce(batch[name], batch[column])
        # A missing part makes the whole bucket null.
        bucket = pc.binary_join_element_wise(lang, final["domain"], final["kind"], "-")
        characters = pc.fill_null(pc.utf8_length(batch["text"]), 0)
        rules: list[str | None] = []
        evidence: list[dict[str, str] | None] = []
        for row_lang, row_bucket, length in zip(
            lang.to_pylist(), bucket.to_pylist(), characters.to_pylist(), strict=True
        ):
            if row_bucket is None:
                rules.append("no_bucket")
                evidence.append({"message": "lang, domain or kind is not known"})
            elif row_lang not in self.config.langs:
                rules.append("unwanted_lang")
                evidence.append({"lang": row_lang})
            elif length < self.config.min_characters:
                rules.append("min_characters")
                evidence.append(None)
            else:
                rules.append(None)
                evidence.append(None)
        values = [
            float(length) if rule == "min_characters" else None
            for rule, length in zip(rules, characters.to_pylist(), strict=True)
        ]
        thresholds = [
            float(self.config.min_characters) if rule == "min_characters" else None
            for rule in rules
        ]
        columns = {
            "doc_id": batch["doc_id"],
            "final_lang": lang,
            "bucket": bucket,
            **{f"final_{name}": final[name] for name in self.config.fill},
            "verdict": verdicts(rules, values, thresholds, evidence),
        }
        return pa.RecordBatch.from_pydict(columns)
