"""Small shards for the tests of reading: documents of given lengths with tokens that tell their
place."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokenization.indexed import IndexedWriter
from tokenization.manifest import Manifest, ShardEntry, TokenizerInfo, write_manifest

EOS = 2
VOCABULARY = 60_000


def write_shards(
    folder: Path,
    documents: Mapping[str, Sequence[Sequence[int]]],
    dtype: str = "uint16",
    fingerprint: str = "f" * 64,
) -> None:
    """Shards of `documents`: bucket → shards → tokens of each document. Ids count up from 3."""
    entries = []
    for bucket, shards in documents.items():
        value = 3
        lang, domain, kind = bucket.split("-")
        for number, lengths in enumerate(shards):
            path = f"{bucket}/train-{number:05d}"
            with IndexedWriter(folder / path, dtype) as writer:
                for length in lengths:
                    ids = np.arange(value, value + length) % (VOCABULARY - 3) + 3
                    ids[-1] = EOS
                    value += length
                    writer.add(ids)
            names = [f"{bucket}/{number}/{place}" for place in range(len(lengths))]
            pq.write_table(pa.table({"doc_id": names}), folder / f"{path}.lineage.parquet")
            entries.append(
                ShardEntry(
                    path=path,
                    split="train",
                    bucket=bucket,
                    tags={"lang": lang, "domain": domain, "kind": kind},
                    documents=len(lengths),
                    tokens=writer.tokens,
                    bytes=writer.bytes,
                    sha256=writer.sha256,
                    idx_sha256=writer.idx_sha256,
                )
            )
    tokenizer = TokenizerInfo(
        fingerprint=fingerprint, vocabulary_size=VOCABULARY, eos_id=EOS, bos_id=None, path=None
    )
    manifest = Manifest(dtype=dtype, seed=0, tokenizer=tokenizer, shards=tuple(entries))
    write_manifest(folder, manifest)
