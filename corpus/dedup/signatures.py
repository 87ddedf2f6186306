"""The stage `signatures`: measures every document once, for all MinHash stages after it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from corpus.buffers import string_buffers
from corpus.dedup.kernels import permutations, signatures
from corpus.dedup.normal import Shingling
from corpus.settings import Settings
from corpus.stage import BatchStage, verdicts


class SignaturesConfig(Settings):
    """The section `signatures` of a recipe."""

    permutations: int = Field(default=112, ge=1, le=1024)
    """Values a signature (4 bytes each); more allow higher recall at lower thresholds."""
    shingle: Shingling = Shingling()
    """What the signature is made of."""
    seed: int = Field(default=1, ge=0)
    """datasketch's `seed`: signatures of one seed can be compared."""


class Signatures(BatchStage):
    """Adds `minhash`, the signature (uint32, little-endian), and `shingles`, their number.

    The signature is value for value `datasketch.MinHash(permutations, seed, scheme="affine32")`
    over the base hashes of the shingles (`kernels.signatures`). Where a document is too short for
    one shingle, `minhash` is null: it is compared by the stage `exact` only.
    """

    Config = SignaturesConfig
    config: SignaturesConfig

    @property
    def needs(self) -> Sequence[str]:
        return ("text",)

    @property
    def adds(self) -> pa.Schema:
        return pa.schema([("minhash", pa.binary()), ("shingles", pa.int32())])

    def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        minhash, shingles = sign(batch.column("text"), self.config)
        return pa.RecordBatch.from_arrays(
            [batch.column("doc_id"), minhash, shingles, verdicts([None] * batch.num_rows)],
            names=["doc_id", "minhash", "shingles", "verdict"],
        )


def sign(texts: pa.Array, config: SignaturesConfig) -> tuple[pa.Array, pa.Array]:
    """The signatures (binary, null without a shingle) and numbers of shingles of `texts`."""
    values, counts = signature_arrays(texts, config)
    width = 4 * config.permutations
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width),
        len(values),
        [
            pa.py_buffer(np.packbits(counts > 0, bitorder="little")),
            pa.py_buffer(values.astype("<u4", copy=False)),
        ],
    )
    return fixed.cast(pa.binary()), pa.array(counts.astype(np.int32))


def signature_arrays(
    texts: pa.Array, config: SignaturesConfig
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The signatures [documents, permutations], and numbers of shingles, of `texts`."""
    offsets, data = string_buffers(texts)
    a, b = permutations(config.permutations, config.seed)
    shingling = config.shingle
    values, counts = signatures(
        offsets, data, shingling.fold, shingling.words, shingling.size, shingling.keys, a, b
    )
    return values, counts


def signature_matrix(minhash: pa.Array, count: int) -> NDArray[np.uint32]:
    """The signatures of a `minhash` column: uint32 [documents, count], ones where it is null.

    Raises:
        ValueError: the signatures have another number of permutations than `count`.
    """
    offsets, data = string_buffers(minhash)
    lengths = np.diff(offsets)
    signed = lengths > 0
    other = lengths[signed & (lengths != 4 * count)]
    if len(other):
        raise ValueError(
            f"signatures hold {other[0] // 4} permutations, not {count}: `permutations` must be "
            "the same in the sections 'signatures' and 'minhash'"
        )
    flat = data[offsets[0] : offsets[-1]].view("<u4").reshape(-1, count)
    if signed.all():
        return flat
    matrix = np.full((len(minhash), count), 0xFFFFFFFF, np.uint32)
    matrix[signed] = flat
    return matrix
