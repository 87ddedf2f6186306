"""The stage `template-lines`: counts lines over the documents of each source and cuts templates.

What a site prints on every page (its bars, notices, addresses, disclaimers) can be told from
content without knowing the site: it stands in many documents of one source. The lines are counted
by hash on Spark; the few that are templates travel to the workers as sorted hashes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.settings import Settings
from corpus.signals.stage import utf8_buffers
from corpus.stage import Stage, isolate_failures, spark_schema, verdicts
from corpus.template_lines.kernel import hash_lines

RULE = "template-line"
EDITS = pa.map_(pa.string(), pa.int64())
COUNTS = pa.schema([("source", pa.string()), ("line", pa.int64()), ("documents", pa.int64())])


class TemplateLineSettings(Settings):
    """What makes a line a template's."""

    documents: int = Field(default=20, ge=2)
    """A line must stand in this many documents of a source,"""
    share: float = Field(default=0.02, gt=0, le=1)
    """and in this share of the source's documents."""
    longest: int = Field(default=200, ge=2)
    """Longer lines (visible characters) are never a template's."""
    kinds: tuple[str, ...] = ("web", "news", "forum", "blog", "social", "announcement", "report")
    """The kinds of documents that are looked at. Statutes, books and questions say the same in the
    same words because they mean the same."""
    allow: tuple[str, ...] = (
        r"^第[一二三四五六七八九十百零〇\d]+[章节条编篇部分]",
        r"^[（(]?[一二三四五六七八九十\d]+[、.．)）]",
        r"^(?:单位|币种|注|备注|其中|合计|项目|资料来源|数据来源)(?:[:：]|$)",
    )
    """Regular expressions of lines that are kept however often they stand (`re.search`)."""

    @field_validator("allow")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
        return patterns


class TemplateLines(Stage):
    """Cuts the lines of a source's template; a document that is nothing else is dropped."""

    Config = TemplateLineSettings
    config: TemplateLineSettings
    rewrites_text: ClassVar[bool] = True

    @property
    def needs(self) -> Sequence[str]:
        return ("text", "source", "kind")

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([pa.field("template_edits", EDITS)])

    def decide(self, documents: DataFrame) -> DataFrame:
        documents = documents.select("doc_id", *self.needs)
        looked_at = documents.where(F.col("kind").isin(list(self.config.kinds)))
        templates = find_templates(looked_at, self.config)
        config, schema = self.config, self.output_schema()

        def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield from isolate_failures(
                        batch, lambda part: cut_templates(part, templates, config), schema
                    )

        return documents.mapInArrow(cut, spark_schema(schema))


def find_templates(
    documents: DataFrame, config: TemplateLineSettings
) -> dict[str, NDArray[np.uint64]]:
    """For each source the sorted hashes of the lines that are its template's."""
    longest = config.longest

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield count_lines(batch, longest)

    schema = spark_schema(COUNTS)
    counted = documents.select("source", "text").mapInArrow(count, schema)
    counted = counted.groupBy("source", "line").agg(F.sum("documents").alias("documents"))
    sizes = documents.groupBy("source").agg(F.count("*").alias("size"))
    often = counted.where(F.col("documents") >= config.documents).join(sizes, "source")
    rows = often.where(F.col("documents") >= F.col("size") * config.share).collect()
    by_source: dict[str, list[int]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row["line"])
    return {
        source: np.sort(np.array(lines, np.int64).view(np.uint64))
        for source, lines in by_source.items()
    }


def count_lines(batch: pa.RecordBatch, longest: int) -> pa.RecordBatch:
    """How many documents of each source in the batch hold each line (`COUNTS`)."""
    data, offsets = utf8_buffers(batch.column("text"))
    places, hashes = hash_lines(data, offsets, longest)
    sources = batch.column("source").dictionary_encode()
    codes = sources.indices.to_numpy(zero_copy_only=False)[places[:, 0]].astype(np.int64)
    once = np.unique(np.stack([codes, hashes.view(np.int64), places[:, 0]], axis=1), axis=0)
    lines, documents = np.unique(once[:, :2], axis=0, return_counts=True)
    names = sources.dictionary.take(pa.array(lines[:, 0]))
    return pa.RecordBatch.from_arrays(
        [names, pa.array(lines[:, 1]), pa.array(documents.astype(np.int64))], schema=COUNTS
    )


def cut_templates(
    batch: pa.RecordBatch,
    templates: Mapping[str, NDArray[np.uint64]],
    config: TemplateLineSettings,
) -> pa.RecordBatch:
    """The batch's documents without their sources' template lines."""
    texts = batch.column("text")
    data, offsets = utf8_buffers(texts)
    places, hashes = hash_lines(data, offsets, config.longest)
    sources, kinds = batch.column("source").to_pylist(), batch.column("kind").to_pylist()
    result = texts.to_pylist()
    edits: list[Counter[str]] = [Counter() for _ in result]
    allowed = [re.compile(pattern) for pattern in config.allow]
    edges = np.searchsorted(places[:, 0], np.arange(batch.num_rows + 1))
    for document, source in enumerate(sources):
        known = templates.get(source)
        if known is None or kinds[document] not in config.kinds:
            continue
        here = slice(edges[document], edges[document + 1])
        at = np.searchsorted(known, hashes[here])
        is_template = known[np.minimum(at, len(known) - 1)] == hashes[here]
        base = int(offsets[document])
        content = data[base : offsets[document + 1]].tobytes()
        parts, position = [], 0
        for start, stop in (places[here][is_template, 1:] - base).tolist():
            line = content[start:stop].decode("utf-8", "replace").strip()
            if any(pattern.search(line) for pattern in allowed):
                continue
            edits[document][RULE] += len(line)
            parts.append(content[position:start])
            position = min(stop + 1, len(content))
        if parts:
            rest = b"".join([*parts, content[position:]])
            if position == len(content):
                rest = rest.removesuffix(b"\n")
            result[document] = rest.decode("utf-8", "replace")
    emptied = [
        RULE if edit and not (text or "").strip() else None
        for text, edit in zip(result, edits, strict=True)
    ]
    return pa.RecordBatch.from_arrays(
        [
            batch.column("doc_id"),
            pa.array([list(edit.items()) for edit in edits], EDITS),
            pa.array(result, pa.string()),
            verdicts(emptied),
        ],
        ["doc_id", "template_edits", "text", "verdict"],
    )
