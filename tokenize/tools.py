"""What one does with finished shards: merge, split, hand over to Hugging Face, take from Megatron.

All of these write a new folder (or a new bucket) and its manifest last, like building does, and
keep the lineage. None needs Spark.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import document_id
from corpus.settings import UserError
from tokenization.indexed import IndexedReader, IndexedWriter, smallest_dtype
from tokenization.manifest import (
    MANIFEST,
    Manifest,
    ShardEntry,
    Split,
    TokenizerInfo,
    read_manifest,
    verify,
    write_manifest,
)
from tokenization.token_lists import bucket_tags, shard_entry

LINEAGE = pa.schema([("doc_id", pa.string()), ("tokens", pa.int32()), ("offset", pa.int64())])
BLOCK_DOCUMENTS = 4_096  # copied at a time


def recut(
    inputs: Sequence[str | Path], output: str | Path, shard_tokens: int | None = None
) -> Manifest:
    """Write the documents of one or more folders of shards as one folder, cut anew.

    Documents keep their order, those of the first folder before those of the second, so a merge
    of folders is not shuffled across them (building them together is). A shard is closed when
    the next document would take it above `shard_tokens`; None puts each bucket's split into one.

    Raises:
        UserError: a folder is damaged, the tokenizers differ, or `output` is not empty.
    """
    manifests = [verify(folder) for folder in inputs]
    first = manifests[0]
    for folder, manifest in zip(inputs, manifests, strict=True):
        if manifest.tokenizer.fingerprint != first.tokenizer.fingerprint:
            raise UserError(f"{folder}: made by another tokenizer than {inputs[0]}")
        if (manifest.tokenizer.eos_id, manifest.tokenizer.bos_id) != (
            first.tokenizer.eos_id,
            first.tokenizer.bos_id,
        ):
            raise UserError(f"{folder}: its documents end or begin otherwise than {inputs[0]}'s")
    _require_empty(output)
    parts: dict[tuple[str, Split], list[tuple[Path, ShardEntry]]] = {}
    for folder, manifest in zip(inputs, manifests, strict=True):
        for shard in manifest.shards:
            key = (shard.bucket, shard.split)
            parts.setdefault(key, []).append((Path(folder) / shard.path, shard))
    entries: list[ShardEntry] = []
    # As `build_shards` orders them: by bucket, training before held-out.
    for bucket, split in sorted(parts, key=lambda key: (key[0], key[1] != "train")):
        members = parts[bucket, split]
        cutter = _Cutter(Path(output), bucket, split, members[0][1].tags, first.dtype, shard_tokens)
        for prefix, _ in members:
            reader = IndexedReader(prefix)
            cutter.copy(reader, read_lineage(prefix, len(reader)))
        entries += cutter.finish()
    manifest = first.model_copy(
        update={
            "shards": tuple(entries),
            "tokenizer": _moved(first.tokenizer, Path(inputs[0]), Path(output)),
        }
    )
    write_manifest(output, manifest)
    return manifest


def from_megatron(
    prefixes: Sequence[str | Path],
    output: str | Path,
    bucket: str,
    tokenizer: TokenizerInfo,
    split: Split = "train",
) -> Manifest:
    """Make an existing Megatron corpus a bucket of `output`, one shard per prefix.

    Documents of several sequences become one; those that do not end with the end-of-text id get
    it. The lineage's `doc_id` is the hash of the prefix and the document's number.

    Raises:
        UserError: a file is damaged, an id is not the tokenizer's, or the bucket is there already.
    """
    output = Path(output)
    tags = bucket_tags(bucket)
    dtype = smallest_dtype(tokenizer.vocabulary_size)
    kept: tuple[ShardEntry, ...] = ()
    seed = 0
    if (output / MANIFEST).exists():
        existing = verify(output)
        if existing.tokenizer.fingerprint != tokenizer.fingerprint:
            raise UserError(f"{output}: its shards were made by another tokenizer")
        if any(shard.bucket == bucket and shard.split == split for shard in existing.shards):
            raise UserError(f"{output}: has a bucket {bucket} ({split}) already")
        kept, seed, tokenizer = existing.shards, existing.seed, existing.tokenizer
    entries = []
    for number, prefix in enumerate(prefixes):
        reader = IndexedReader(prefix)
        highest = int(reader.tokens.max()) if len(reader.tokens) else 0
        lowest = int(reader.tokens.min()) if len(reader.tokens) else 0
        if lowest < 0 or highest >= tokenizer.vocabulary_size:
            raise UserError(
                f"{prefix}.bin: holds ids {lowest}…{highest}, the tokenizer knows "
                f"0…{tokenizer.vocabulary_size - 1}: it was made by another one"
            )
        path = f"{bucket}/{split}-{number:05d}"
        with IndexedWriter(output / path, dtype) as writer:
            for ids, lengths in _ended(reader, tokenizer.eos_id):
                writer.add_many(ids, lengths)
        doc_ids = [document_id(str(prefix), str(k)) for k in range(len(reader))]
        write_lineage(output / path, doc_ids, IndexedReader(output / path).lengths)
        entries.append(shard_entry(path, split, tags, writer))
    manifest = Manifest(dtype=dtype, seed=seed, tokenizer=tokenizer, shards=(*kept, *entries))
    write_manifest(output, manifest)
    return manifest


def to_hugging_face(directory: str | Path, output: str | Path) -> list[Path]:
    """Write every shard as a Parquet file that `datasets` loads: `doc_id`, `input_ids` (int32).

    The files lie under <bucket>/<split>-00000.parquet; a README.md in Hugging Face's format names
    each bucket as a configuration. Returns the Parquet files.
    """
    manifest = verify(directory)
    _require_empty(output)
    schema = pa.schema([("doc_id", pa.string()), ("input_ids", pa.list_(pa.int32()))])
    written = []
    for shard in manifest.shards:
        reader = IndexedReader(Path(directory) / shard.path)
        lineage = read_lineage(Path(directory) / shard.path, len(reader))
        path = Path(output) / f"{shard.path}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, schema, compression="zstd") as file:
            for first in range(0, len(reader), BLOCK_DOCUMENTS):
                last = min(len(reader), first + BLOCK_DOCUMENTS)
                offsets = reader.offsets[first : last + 1]
                ids = reader.tokens[offsets[0] : offsets[-1]].astype(np.int32)
                lists = pa.ListArray.from_arrays(
                    pa.array((offsets - offsets[0]).astype(np.int32)), pa.array(ids)
                )
                doc_ids = pa.array(lineage[first:last], pa.string())
                file.write_table(pa.table([doc_ids, lists], schema=schema))
        written.append(path)
    _write_card(Path(output), manifest)
    return written


def read_lineage(prefix: str | Path, documents: int) -> list[str | None]:
    """The `doc_id` of every document of a shard; Nones if the shard came without lineage."""
    path = Path(f"{prefix}.lineage.parquet")
    if not path.exists():
        return [None] * documents
    doc_ids = pq.read_table(path, columns=["doc_id"])["doc_id"].to_pylist()
    if len(doc_ids) != documents:
        raise UserError(
            f"{path}: tells of {len(doc_ids):,} documents where the shard holds {documents:,}: "
            "it belongs to another shard"
        )
    return doc_ids


def write_lineage(
    prefix: str | Path, doc_ids: Sequence[str | None], lengths: npt.ArrayLike
) -> None:
    """Write the file that leads from a shard's tokens back to documents."""
    tokens = np.asarray(lengths, np.int32)
    offsets = np.cumsum(tokens, dtype=np.int64) - tokens
    table = pa.table([pa.array(doc_ids, pa.string()), tokens, offsets], schema=LINEAGE)
    pq.write_table(table, f"{prefix}.lineage.parquet", compression="zstd")


@dataclass
class _Cutter:
    """Writes documents one after another, into a new shard whenever one is full."""

    output: Path
    bucket: str
    split: Split
    tags: dict[str, str]
    dtype: str
    shard_tokens: int | None
    entries: list[ShardEntry] = field(default_factory=list)
    writer: IndexedWriter | None = None
    doc_ids: list[str | None] = field(default_factory=list)
    lengths: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def copy(self, reader: IndexedReader, doc_ids: Sequence[str | None]) -> None:
        first = 0
        while first < len(reader):
            writer = self._open()
            last = min(len(reader), first + BLOCK_DOCUMENTS)
            if self.shard_tokens is not None:
                room = reader.offsets[first] + self.shard_tokens - writer.tokens
                fitting = int(np.searchsorted(reader.offsets, room, "right")) - 1
                if fitting <= first and writer.tokens:
                    self._close()
                    continue
                last = min(last, max(fitting, first + 1))
            ids = reader.tokens[reader.offsets[first] : reader.offsets[last]]
            writer.add_many(ids, reader.lengths[first:last])
            self.doc_ids += doc_ids[first:last]
            self.lengths.append(reader.lengths[first:last])
            first = last

    def finish(self) -> list[ShardEntry]:
        if self.writer is not None:
            self._close()
        return self.entries

    def _path(self) -> str:
        return f"{self.bucket}/{self.split}-{len(self.entries):05d}"

    def _open(self) -> IndexedWriter:
        if self.writer is None:
            self.writer = IndexedWriter(self.output / self._path(), self.dtype)
        return self.writer

    def _close(self) -> None:
        assert self.writer is not None
        self.writer.close()
        path = self._path()
        if any(doc_id is not None for doc_id in self.doc_ids):
            write_lineage(self.output / path, self.doc_ids, np.concatenate(self.lengths))
        self.entries.append(shard_entry(path, self.split, self.tags, self.writer))
        self.writer, self.doc_ids, self.lengths = None, [], []


def _ended(
    reader: IndexedReader, eos_id: int
) -> Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]]:
    """The documents of a shard, each with the end-of-text id as its last, in blocks."""
    for first in range(0, len(reader), BLOCK_DOCUMENTS):
        last = min(len(reader), first + BLOCK_DOCUMENTS)
        start = reader.offsets[first]
        ids = reader.tokens[start : reader.offsets[last]]
        lengths = reader.lengths[first:last].astype(np.int64)
        ends = reader.offsets[first + 1 : last + 1] - start
        open_ended = lengths == 0
        open_ended[~open_ended] = ids[ends[~open_ended] - 1] != eos_id
        yield np.insert(ids, ends[open_ended], eos_id), lengths + open_ended


def _require_empty(output: str | Path) -> None:
    if Path(output).exists() and any(Path(output).iterdir()):
        raise UserError(f"{output}: the folder is not empty; name another or remove it")


def _moved(tokenizer: TokenizerInfo, source: Path, output: Path) -> TokenizerInfo:
    """The tokenizer with its path as seen from another folder."""
    if tokenizer.path is None or "://" in tokenizer.path:
        return tokenizer
    relative = os.path.relpath(source / tokenizer.path, output)
    return tokenizer.model_copy(update={"path": Path(relative).as_posix()})


def _write_card(output: Path, manifest: Manifest) -> None:
    lines = ["---", "configs:"]
    for bucket in sorted({shard.bucket for shard in manifest.shards}):
        lines += [f"- config_name: {bucket}", "  data_files:"]
        for split in ("train", "heldout"):
            if any(shard.bucket == bucket and shard.split == split for shard in manifest.shards):
                lines += [f"  - split: {split}", f"    path: {bucket}/{split}-*.parquet"]
    info = manifest.tokenizer
    lines.append("---")
    lines.append(
        f"Token ids of a tokenizer with {info.vocabulary_size} entries (SHA-256 "
        f"{info.fingerprint}); every document ends with id {info.eos_id}."
    )
    (output / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def existing_manifest(shard: str | Path) -> tuple[Path, Manifest] | None:
    """The folder and manifest that a shard's prefix belongs to, if they are where they should."""
    folder = Path(shard).parent.parent
    return (folder, read_manifest(folder)) if (folder / MANIFEST).exists() else None
