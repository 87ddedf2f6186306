"""First half of building shards: documents to sorted runs of ids, in Spark's Python workers.

A run is what one worker encoded between two flushes: `NAME.ids` (raw ids) and `NAME.arrow` (one
row a document), both sorted by bucket and then by the documents' hash. A shard covers a range of
hashes, and so a contiguous stretch of every run: the second half (`tokenization.gather`) merges
these. Spark sees a line of totals per run; ids never go through the JVM, whose shuffle would cost
more than encoding them.
"""

import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenization.encoder import EngineName, load_engine

TAG_COLUMNS = ("lang", "domain", "kind")
COLUMNS = ("doc_id", "text", *TAG_COLUMNS)
SUMMARY = "run string, summary string, digests binary"
FLUSH_TOKENS = 1 << 25  # 64 MB of uint16: bounds a worker's memory

INDEX = pa.schema(
    [
        ("key", pa.uint64()),  # hash of doc_id and seed: place in the bucket
        ("doc_id", pa.string()),
        ("digest", pa.binary(16)),  # hash of the ids: equal documents are found by it
        ("heldout", pa.bool_()),  # whether the hash of doc_id alone holds it out
        ("start", pa.int64()),  # in the run's .ids
        ("tokens", pa.int32()),
    ]
)
LEFT_OUT = pa.schema([("doc_id", pa.string()), ("rule", pa.string()), ("evidence", pa.string())])

# Only the last tag may hold a hyphen, or two buckets could have one name.
_IS_TAG = {
    "lang": re.compile(r"[\w.+]+").fullmatch,
    "domain": re.compile(r"[\w.+]+").fullmatch,
    "kind": re.compile(r"[\w.+-]+").fullmatch,
}


@dataclass(frozen=True)
class Section:
    """The rows of one bucket in one run."""

    run: str
    bucket: str
    tags: dict[str, str]
    first_row: int
    rows: int
    tokens: int
    heldout_tokens: int


@dataclass(frozen=True)
class RunSummary:
    """What the driver learns of a run."""

    run: str
    sections: list[Section]
    compared: int
    """Documents that both engines encoded."""
    different: list[str]
    """`doc_id`s of those that they encoded otherwise."""
    left_out: int
    heldout_digests: frozenset[bytes]

    @staticmethod
    def parse(summary: str, digests: bytes) -> "RunSummary":
        """Undo what `write_runs` yields."""
        content = json.loads(summary)
        sections = [Section(**section) for section in content.pop("sections")]
        found = frozenset(digests[k : k + 16] for k in range(0, len(digests), 16))
        return RunSummary(sections=sections, heldout_digests=found, **content)


@dataclass(frozen=True)
class EncodeJob:
    """What every worker must know."""

    tokenizer_dir: str
    engine: EngineName
    work_dir: str
    dtype: str
    seed: int
    eos_id: int
    bos_id: int | None
    heldout_share: float
    compare_share: float
    """Share of the documents that the reference encodes as well."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return write_runs(batches, self)


def order_keys(doc_ids: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """64-bit XXH3 of each `doc_id`, seeded: a document's place in its bucket."""
    hashes = (xxhash.xxh3_64_intdigest(doc_id.encode(), seed) for doc_id in doc_ids)
    return np.fromiter(hashes, np.uint64, len(doc_ids))


def is_held_out(doc_ids: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Whether each document is held out: by `doc_id` alone, so in every version of the shards."""
    numbers = (
        int.from_bytes(hashlib.blake2b(d.encode(), digest_size=8, person=b"heldout").digest())
        for d in doc_ids
    )
    threshold = round(share * 2**64)
    return np.fromiter((number < threshold for number in numbers), np.bool_, len(doc_ids))


def write_runs(batches: Iterable[pa.RecordBatch], job: EncodeJob) -> Iterator[pa.RecordBatch]:
    """Encode batches of `COLUMNS`, write runs, and yield a line of totals for each."""
    pending = _Pending(job)
    for batch in batches:
        for part in _slices(batch):
            pending.add(part)
            if pending.tokens >= FLUSH_TOKENS:
                yield pending.flush()
                pending = _Pending(job)
    if pending.size:
        yield pending.flush()


def _slices(batch: pa.RecordBatch, rows: int = 256) -> Iterator[pa.RecordBatch]:
    for first in range(0, batch.num_rows, rows):
        yield batch.slice(first, rows)


class _Pending:
    """Encoded documents that are not written yet."""

    def __init__(self, job: EncodeJob) -> None:
        self.job = job
        self.tokens = 0
        self.size = 0
        self._ids: list[npt.NDArray[np.generic]] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._doc_ids: list[str] = []
        self._tags: list[tuple[str, ...]] = []
        self._digests: list[bytes] = []
        self._left_out: list[tuple[str, str, str]] = []
        self._compared = 0
        self._different: list[str] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Encode a batch; what cannot be encoded is left out, with the reason."""
        self.size += batch.num_rows
        usable = [row for row, reason in enumerate(self._reasons(batch)) if reason is None]
        if len(usable) < batch.num_rows:
            batch = batch.take(pa.array(usable, pa.int64()))
        doc_ids, texts = batch.column("doc_id").to_pylist(), batch.column("text")
        ids, lengths = load_engine(self.job.tokenizer_dir, self.job.engine).encode(texts)
        self._compare(doc_ids, texts, ids, lengths)
        finished, lengths = self._with_ends(ids, lengths)
        ends = np.cumsum(lengths)
        for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True):
            self._digests.append(xxhash.xxh3_128_digest(finished[start:end].data))
        self._ids.append(finished)
        self._lengths.append(lengths)
        self._doc_ids += doc_ids
        tags = [batch.column(name).to_pylist() for name in TAG_COLUMNS]
        self._tags += zip(*tags, strict=True)
        self.tokens += len(finished)

    def flush(self) -> pa.RecordBatch:
        """Write the run's files; returns its line of totals."""
        run = uuid.uuid4().hex  # a task that Spark repeats writes another run; one of them counts
        lengths = np.concatenate(self._lengths)
        ids = np.concatenate(self._ids)
        starts = np.cumsum(lengths) - lengths
        keys = order_keys(self._doc_ids, self.job.seed)
        buckets = ["-".join(tags) for tags in self._tags]
        codes = np.unique(np.array(buckets, object), return_inverse=True)[1]
        order = np.lexsort((keys, codes))
        index = pa.table(
            {
                "key": keys[order],
                "doc_id": [self._doc_ids[row] for row in order],
                "digest": pa.array([self._digests[row] for row in order], pa.binary(16)),
                "heldout": is_held_out(self._doc_ids, self.job.heldout_share)[order],
                "start": np.cumsum(lengths[order]) - lengths[order],
                "tokens": lengths[order].astype(np.int32),
            },
            schema=INDEX,
        )
        prefix = f"{self.job.work_dir}/{run}"
        with fsspec.open(prefix + ".ids", "wb") as file:
            for row in order:
                file.write(ids[starts[row] : starts[row] + lengths[row]].data)
        _write_table(prefix + ".arrow", index)
        if self._left_out:
            left_out = dict(zip(LEFT_OUT.names, zip(*self._left_out, strict=True), strict=True))
            _write_table(prefix + ".left-out.arrow", pa.table(left_out, schema=LEFT_OUT))
        sections = self._sections(run, [buckets[row] for row in order], order, index)
        return self._summary(run, sections, index)

    def _sections(
        self, run: str, buckets: list[str], order: npt.NDArray[np.intp], index: pa.Table
    ) -> list[Section]:
        found = []
        first = 0
        tokens, heldout = index["tokens"].to_numpy(), index["heldout"].to_numpy()
        while first < len(buckets):
            last = first
            while last < len(buckets) and buckets[last] == buckets[first]:
                last += 1
            found.append(
                Section(
                    run=run,
                    bucket=buckets[first],
                    tags=dict(zip(TAG_COLUMNS, self._tags[order[first]], strict=True)),
                    first_row=first,
                    rows=last - first,
                    tokens=int(tokens[first:last].sum()),
                    heldout_tokens=int(tokens[first:last][heldout[first:last]].sum()),
                )
            )
            first = last
        return found

    def _summary(self, run: str, sections: list[Section], index: pa.Table) -> pa.RecordBatch:
        summary = {
            "run": run,
            "sections": [dataclasses.asdict(section) for section in sections],
            "compared": self._compared,
            "different": self._different[:100],
            "left_out": len(self._left_out),
        }
        held_out = index.filter(index["heldout"])["digest"].to_pylist()
        return pa.RecordBatch.from_arrays(
            [pa.array([run]), pa.array([json.dumps(summary)]), pa.array([b"".join(held_out)])],
            ["run", "summary", "digests"],
        )

    def _reasons(self, batch: pa.RecordBatch) -> list[str | None]:
        """Why each document cannot be encoded, None where it can; notes those left out."""
        reasons: list[str | None] = [None] * batch.num_rows
        evidence = [""] * batch.num_rows
        texts = batch.column("text")
        for row in np.flatnonzero(
            pc.fill_null(pc.binary_length(texts), 0).to_numpy() == 0
        ).tolist():
            reasons[row] = "no-text"
        for row in _invalid_utf8(texts):
            reasons[row] = "not-utf8"
        for name in TAG_COLUMNS:
            tags = batch.column(name)
            is_tag = _IS_TAG[name]
            bad = {tag for tag in tags.unique().to_pylist() if tag is None or not is_tag(tag)}
            for row, tag in enumerate(tags.to_pylist() if bad else []):
                if tag in bad and reasons[row] is None:
                    reasons[row], evidence[row] = "bad-tag", f"{name}: {tag}"
        if any(reasons):
            doc_ids = batch.column("doc_id").to_pylist()
            for doc_id, reason, words in zip(doc_ids, reasons, evidence, strict=True):
                if reason:
                    self._left_out.append((doc_id, reason, words))
        return reasons

    def _compare(
        self,
        doc_ids: list[str],
        texts: pa.Array,
        ids: npt.NDArray[np.int32],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        """Encode a sample with the reference too, and note where it differs."""
        if self.job.engine == "reference":
            return
        # Which documents are compared must not depend on how they are partitioned.
        threshold = round(self.job.compare_share * 2**64)
        hashes = order_keys(doc_ids, self.job.seed + 1).tolist()
        chosen = [row for row, number in enumerate(hashes) if number < threshold]
        if not chosen:
            return
        reference = load_engine(self.job.tokenizer_dir, "reference")
        expected, expected_lengths = reference.encode(texts.take(pa.array(chosen)))
        ends, expected_ends = np.cumsum(lengths), np.cumsum(expected_lengths)
        for number, row in enumerate(chosen):
            one = ids[ends[row] - lengths[row] : ends[row]]
            other = expected[expected_ends[number] - expected_lengths[number] :]
            if not np.array_equal(one, other[: expected_lengths[number]]):
                self._different.append(doc_ids[row])
        self._compared += len(chosen)

    def _with_ends(
        self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
        """Ids in the shard's dtype, with EOS after and, if wanted, BOS before each document."""
        ends = np.cumsum(lengths)
        typed = ids.astype(self.job.dtype)
        if self.job.bos_id is None:
            return np.insert(typed, ends, self.job.eos_id), lengths + 1
        places = np.stack([ends - lengths, ends], axis=1).ravel()
        values = np.tile([self.job.bos_id, self.job.eos_id], len(ends))
        return np.insert(typed, places, values), lengths + 2


def _invalid_utf8(texts: pa.Array) -> list[int]:
    """The rows that are not UTF-8, which Spark lets through where a text was bytes once."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return [0]
        middle = len(texts) // 2
        second = [middle + row for row in _invalid_utf8(texts.slice(middle))]
        return _invalid_utf8(texts.slice(0, middle)) + second
    return []


def _write_table(path: str, table: pa.Table) -> None:
    with fsspec.open(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
