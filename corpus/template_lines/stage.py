"""The stage `template-lines`: counts lines over the documents of each source and cuts templates.

What a site prints on every page (its bars, notices, addresses, disclaimers) can be told from
content without knowing the site: it stands in many documents of one source. The lines are counted
by hash on Spark, packed, so that no row a line goes through the JVM; the few that are templates
travel to the workers as sorted hashes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from corpus.buffers import string_buffers, unblob
from corpus.dedup.buckets import RECORD_SCHEMA, Records, pack_records, unpack
from corpus.keys import document_keys
from corpus.settings import Settings
from corpus.stage import FrameDocuments, Read, Stage, isolate_failures, verdicts
from corpus.template_lines.kernel import hash_lines

RULE = "template-line"
EDITS = pa.map_(pa.string(), pa.int64())
SIZES = pa.schema([("source", pa.int64()), ("documents", pa.int64())])


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
        return self.decide_from(FrameDocuments(documents))

    def decide_from(self, read: Read) -> DataFrame:
        templates = find_templates(read, self.config)
        config, schema = self.config, self.output_schema()

        def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield from isolate_failures(
                        batch, lambda part: cut_templates(part, templates, config), schema
                    )

        return read.map(self.needs, cut, schema)


def find_templates(read: Read, config: TemplateLineSettings) -> NDArray[np.uint64]:
    """The sorted names (`line_names`) of the lines that are a template's."""

    def count_documents(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            sources = document_keys(_looked_at(batch, config).column("source"))
            yield pa.RecordBatch.from_arrays(
                [pa.array(column) for column in np.unique(sources, return_counts=True)],
                schema=SIZES,
            )

    def count_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pack_records(
            line_counts(_looked_at(batch, config), config.longest)
            for batch in batches
            if batch.num_rows
        )

    sizes = read.map(("source", "kind"), count_documents, SIZES).groupBy("source")
    size_of = {row[0]: row[1] for row in sizes.agg(F.sum("documents")).collect()}

    def pick(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _, names, sources, numbers in unpack(batches):
            found = often(names, sources, numbers[:, 0], size_of, config)
            if len(found):
                yield pa.RecordBatch.from_arrays([pa.array([found.tobytes()])], names=["names"])

    lines = read.map(("text", "source", "kind"), count_lines, RECORD_SCHEMA).repartition("part")
    return np.sort(unblob(lines.mapInArrow(pick, "names binary").toArrow()["names"], np.uint64))


def _looked_at(batch: pa.RecordBatch, config: TemplateLineSettings) -> pa.RecordBatch:
    """The documents of the wanted kinds that have a source."""
    is_wanted = pc.is_in(batch.column("kind"), pa.array(config.kinds, pa.string()))
    return batch.filter(pc.and_(is_wanted, batch.column("source").is_valid()))


def line_names(hashes: NDArray[np.uint64], sources: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64-bit names of lines of sources: `hashes` of lines, and the `document_keys` of sources."""
    names = hashes ^ (sources.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    names = (names ^ (names >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return names ^ (names >> np.uint64(33))


def line_counts(batch: pa.RecordBatch, longest: int) -> Records:
    """For each line of a source: its name, the source, and how many documents hold it here."""
    offsets, data = string_buffers(batch.column("text"))
    places, hashes = hash_lines(data, offsets, longest)
    sources = document_keys(batch.column("source"))[places[:, 0]]
    names = line_names(hashes, sources)
    order = np.lexsort((places[:, 0], names))
    names, sources, documents = names[order], sources[order], places[order, 0]
    is_first = np.append(True, names[1:] != names[:-1])[: len(names)]
    is_other = is_first | np.append(True, documents[1:] != documents[:-1])[: len(names)]
    counts = np.bincount(np.cumsum(is_first)[is_other] - 1)
    return names[is_first], sources[is_first], counts.astype(np.uint64)[:, None]


def often(
    names: NDArray[np.uint64],
    sources: NDArray[np.int64],
    documents: NDArray[np.uint64],
    size_of: Mapping[int, int],
    config: TemplateLineSettings,
) -> NDArray[np.uint64]:
    """The names, each once, that reach both limits; records as `line_counts` makes them."""
    order = np.argsort(names)
    starts = np.flatnonzero(np.append(True, np.diff(names[order]) != 0)[: len(names)])
    totals = np.add.reduceat(documents[order], starts) if len(starts) else documents
    enough = totals >= config.documents
    firsts, totals = order[starts[enough]], totals[enough]
    sizes = np.array([size_of[source] for source in sources[firsts].tolist()], np.int64)
    return names[firsts[totals >= sizes * config.share]]


def cut_templates(
    batch: pa.RecordBatch,
    templates: NDArray[np.uint64],
    config: TemplateLineSettings,
) -> pa.RecordBatch:
    """The batch's documents without their sources' template lines."""
    texts = batch.column("text")
    offsets, data = string_buffers(texts)
    places, hashes = hash_lines(data, offsets, config.longest)
    names = line_names(hashes, document_keys(batch.column("source"))[places[:, 0]])
    kinds = pa.array(config.kinds, pa.string())
    is_wanted = pc.and_(pc.is_in(batch.column("kind"), kinds), batch.column("source").is_valid())
    is_template = is_wanted.to_numpy(zero_copy_only=False)[places[:, 0]]
    if len(templates):
        at = np.searchsorted(templates, names)
        is_template &= templates[np.minimum(at, len(templates) - 1)] == names
    else:
        is_template[:] = False
    places = places[is_template]
    result = texts.to_pylist()
    edits: list[Counter[str]] = [Counter() for _ in result]
    allowed = [re.compile(pattern) for pattern in config.allow]
    edges = np.searchsorted(places[:, 0], np.arange(batch.num_rows + 1))
    for document in np.unique(places[:, 0]).tolist():
        here = slice(edges[document], edges[document + 1])
        base = int(offsets[document])
        content = data[base : offsets[document + 1]].tobytes()
        parts, position = [], 0
        for start, stop in (places[here, 1:] - base).tolist():
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
