"""Shards from ids that are in memory already: for tests, experiments and other people's ids.

The corpus goes another way (`tokenization.build_shards`), on Spark; what lies on disk is the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy.typing as npt

from corpus.settings import UserError
from tokenization.indexed import IndexedWriter, smallest_dtype
from tokenization.manifest import Manifest, ShardEntry, Split, TokenizerInfo, write_manifest

TAGS = ("lang", "domain", "kind")


def bucket_tags(bucket: str) -> dict[str, str]:
    """`zh-general-law` → {"lang": "zh", "domain": "general", "kind": "law"}."""
    parts = bucket.split("-", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"{bucket}: a bucket is called <lang>-<domain>-<kind>")
    return dict(zip(TAGS, parts, strict=True))


def write_shards_from_token_lists(
    directory: str | Path,
    shards: Mapping[tuple[str, Split], Sequence[Iterable[npt.ArrayLike]]],
    vocabulary_size: int,
    eos_id: int,
    seed: int = 0,
    tokenizer: TokenizerInfo | None = None,
) -> Manifest:
    """Write shards and their manifest, documents in the order given.

    Args:
        shards: (bucket, split) → its shards → each shard's documents, each the ids of one
            document, `eos_id` included as the last. For example
            `{("zh-general-law", "train"): [[[5, 6, 2], [7, 2]]]}` is one shard of two documents.
        tokenizer: what made the ids; without it, a fingerprint of zeros stands for nobody.
    """
    dtype = smallest_dtype(vocabulary_size)
    entries = []
    for (bucket, split), parts in sorted(shards.items(), key=lambda item: item[0]):
        for number, documents in enumerate(parts):
            path = f"{bucket}/{split}-{number:05d}"
            with IndexedWriter(Path(directory) / path, dtype) as writer:
                for ids in documents:
                    writer.add(ids)
            entries.append(shard_entry(path, split, bucket_tags(bucket), writer))
    info = tokenizer or TokenizerInfo(
        fingerprint="0" * 64, vocabulary_size=vocabulary_size, eos_id=eos_id
    )
    manifest = Manifest(dtype=dtype, seed=seed, tokenizer=info, shards=tuple(entries))
    write_manifest(directory, manifest)
    return manifest


def shard_entry(
    path: str, split: Split, tags: Mapping[str, str], writer: IndexedWriter
) -> ShardEntry:
    """The manifest's line for a shard that `writer` has closed."""
    return ShardEntry(
        path=path,
        split=split,
        bucket="-".join(tags[tag] for tag in TAGS),
        tags=dict(tags),
        documents=writer.documents,
        tokens=writer.tokens,
        bytes=writer.bytes,
        sha256=writer.sha256,
        idx_sha256=writer.idx_sha256,
    )
