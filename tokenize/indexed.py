"""The indexed dataset of Megatron-Core: token ids in `NAME.bin`, where each document lies in
`NAME.idx`.

Written and read here with numpy alone, byte for byte what Megatron's own IndexedDatasetBuilder
writes when every document is one sequence. `.bin` holds the ids of all documents, end to end.
`.idx`, little-endian, holds:

    9 bytes   b"MMIDIDX\\0\\0"
    uint64    version, 1
    uint8     code of the ids' dtype: 4 is int32, 8 is uint16
    uint64    S, the number of sequences
    uint64    D, the number of document boundaries (documents + 1)
    int32[S]  tokens of each sequence
    int64[S]  byte at which each sequence starts in .bin
    int64[D]  the sequence with which each document starts, then S

The layout is that of megatron/core/datasets/indexed_dataset.py (0.16). Nothing here needs Spark
or torch, so that training reads shards without either.
"""

import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal

import fsspec
import numpy as np
import numpy.typing as npt

from corpus.settings import UserError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
_HEADER = struct.Struct("<QBQQ")  # version, dtype, sequences, boundaries; MAGIC stands before
HEADER_BYTES = len(MAGIC) + _HEADER.size

# Megatron's codes; the signed ones are read (`from-megatron`), never written.
DTYPES: dict[int, np.dtype[np.generic]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
WRITTEN_DTYPES = ("uint16", "int32")

Ids = npt.NDArray[np.generic]


def smallest_dtype(vocabulary_size: int) -> Literal["uint16", "int32"]:
    """`uint16` where every id fits, else `int32`; the limit, 65,500, is Megatron's."""
    return "uint16" if vocabulary_size < 65_500 else "int32"


class IndexedWriter:
    """Writes `prefix.bin` as documents come and `prefix.idx` when closed.

    `prefix` may be any fsspec address. `dtype` is "uint16" or "int32". After `close` the
    attributes `bytes`, `sha256` (of .bin) and `idx_sha256` are set. Used as a context manager it
    writes no index if the body raises, so that a half-written shard is never taken for a whole.
    """

    def __init__(self, prefix: str | Path, dtype: str) -> None:
        if dtype not in WRITTEN_DTYPES:
            raise ValueError(f"dtype must be one of {WRITTEN_DTYPES}, not {dtype!r}")
        self.prefix = str(prefix)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.tokens = 0
        self.bytes = 0
        self.sha256 = ""
        self.idx_sha256 = ""
        self._lengths: list[npt.NDArray[np.int32]] = []
        self._digest = hashlib.sha256()
        filesystem, path = fsspec.core.url_to_fs(self.prefix)
        filesystem.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._filesystem, self._path = filesystem, path
        self._bin = filesystem.open(path + ".bin", "wb")

    @property
    def documents(self) -> int:
        """Documents written so far."""
        return sum(len(lengths) for lengths in self._lengths)

    def add(self, ids: npt.ArrayLike) -> None:
        """Append one document: a 1-d array of ids, its end-of-text id included."""
        array = np.asarray(ids)
        self.add_many(array, np.array([array.size], np.int32))

    def add_many(self, ids: npt.ArrayLike, lengths: npt.ArrayLike) -> None:
        """Append documents that lie end to end in `ids`; `lengths` are their token counts.

        Raises:
            ValueError: the lengths do not add up, or an id does not fit the dtype.
        """
        array, counts = np.asarray(ids), np.asarray(lengths, np.int64)
        if array.ndim != 1 or counts.sum() != array.size:
            raise ValueError(f"{array.size} ids in documents of {counts.sum()} tokens altogether")
        if array.dtype != self.dtype and array.size:
            limits = np.iinfo(self.dtype)
            if array.min() < 0 or array.max() > limits.max:
                raise ValueError(
                    f"ids {array.min()}…{array.max()} do not fit {self.dtype.name}, "
                    f"which holds 0…{limits.max}"
                )
        if counts.size and counts.max() > np.iinfo(np.int32).max:
            raise ValueError(f"a document of {counts.max()} tokens is longer than .idx can say")
        block = np.ascontiguousarray(array, self.dtype).view(np.uint8).data
        self._bin.write(block)
        self._digest.update(block)
        self._lengths.append(counts.astype("<i4"))
        self.tokens += array.size

    def close(self) -> None:
        """Write the index. The files are whole after this."""
        self._bin.close()
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, "<i4")
        index = index_bytes(lengths, self.dtype)
        with self._filesystem.open(self._path + ".idx", "wb") as file:
            file.write(index)
        self.bytes = self.tokens * self.dtype.itemsize
        self.sha256 = self._digest.hexdigest()
        self.idx_sha256 = hashlib.sha256(index).hexdigest()

    def __enter__(self) -> "IndexedWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._bin.close()


def index_bytes(lengths: npt.NDArray[np.int32], dtype: np.dtype[np.generic]) -> bytes:
    """The whole of an `.idx` for documents of `lengths` tokens each."""
    codes = {known: code for code, known in DTYPES.items()}
    documents = len(lengths)
    starts = np.zeros(documents, "<i8")
    np.cumsum(lengths[:-1].astype("<i8") * dtype.itemsize, out=starts[1:])
    return b"".join(
        [
            MAGIC,
            _HEADER.pack(VERSION, codes[dtype], documents, documents + 1),
            lengths.astype("<i4").tobytes(),
            starts.tobytes(),
            np.arange(documents + 1, dtype="<i8").tobytes(),
        ]
    )


class IndexedReader:
    """A shard on a local disk, mapped into memory: opening it reads the index only.

    Attributes:
        tokens: all ids of the shard, a read-only 1-d memmap of `dtype`.
        lengths: int32, tokens of each document, its end-of-text id included.
        offsets: int64, of size documents + 1: document k is `tokens[offsets[k]:offsets[k + 1]]`.

    Raises:
        UserError: a file is missing, cut short, or not what its header says; the text names it.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = str(prefix)
        index = _read(self.prefix + ".idx")
        self.dtype, sequence_lengths, starts, boundaries = _parse_index(index, self.prefix + ".idx")
        self.lengths = _document_lengths(sequence_lengths, boundaries)
        self.offsets = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(self.lengths, out=self.offsets[1:])
        self._check_data(starts, sequence_lengths)
        size = int(self.offsets[-1])
        self.tokens: Ids = (
            np.memmap(self.prefix + ".bin", self.dtype, "r", shape=(size,))
            if size
            else np.empty(0, self.dtype)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, k: int) -> Ids:
        """The ids of document `k` (a view, 1-d, of `dtype`), its end-of-text id included."""
        if not 0 <= k < len(self):
            raise UserError(f"{self.prefix}: there is no document {k}; it holds {len(self)}")
        return self.tokens[self.offsets[k] : self.offsets[k + 1]]

    def document_at(self, token: int) -> int:
        """The number of the document in which the `token`-th token of the shard lies."""
        if not 0 <= token < len(self.tokens):
            raise UserError(f"{self.prefix}: holds {len(self.tokens)} tokens, so none is {token}")
        return int(np.searchsorted(self.offsets, token, "right")) - 1

    def _check_data(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32]) -> None:
        path = self.prefix + ".bin"
        try:
            found = os.path.getsize(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        wanted = int(self.offsets[-1]) * self.dtype.itemsize
        if found != wanted:
            raise UserError(
                f"{path}: holds {found:,} bytes where its index tells of {wanted:,}: "
                f"{'cut short' if found < wanted else 'not its index'}; write or copy it again"
            )
        expected = np.zeros(len(lengths), np.int64)
        np.cumsum(lengths[:-1].astype(np.int64) * self.dtype.itemsize, out=expected[1:])
        if not np.array_equal(starts, expected):
            raise UserError(
                f"{self.prefix}.idx: its documents do not lie end to end: it is damaged"
            )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the shard's index cannot be read: {error.strerror}") from error


def _parse_index(
    index: bytes, path: str
) -> tuple[
    np.dtype[np.generic], npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]
]:
    if len(index) < HEADER_BYTES or not index.startswith(MAGIC):
        raise UserError(f"{path}: not the index of a Megatron indexed dataset (MMIDIDX)")
    version, code, sequences, boundaries = _HEADER.unpack_from(index, len(MAGIC))
    if version != VERSION:
        raise UserError(f"{path}: an index of version {version}; only version 1 is known")
    if code not in DTYPES:
        raise UserError(f"{path}: ids of dtype code {code}, which is none of {sorted(DTYPES)}")
    wanted = HEADER_BYTES + 12 * sequences + 8 * boundaries
    # A multimodal index has one more byte a sequence, which a text dataset can do without.
    if len(index) not in (wanted, wanted + sequences):
        raise UserError(
            f"{path}: holds {len(index):,} bytes where its header tells of {wanted:,}: it is "
            "damaged; write or copy it again"
        )
    lengths = np.frombuffer(index, "<i4", sequences, HEADER_BYTES)
    starts = np.frombuffer(index, "<i8", sequences, HEADER_BYTES + 4 * sequences)
    documents = np.frombuffer(index, "<i8", boundaries, HEADER_BYTES + 12 * sequences)
    if sequences and lengths.min() < 0:
        raise UserError(f"{path}: a document of {lengths.min()} tokens: it is damaged")
    ordered = boundaries > 0 and documents[0] == 0 and bool(np.all(np.diff(documents) >= 0))
    if not ordered or documents[-1] != sequences:
        raise UserError(f"{path}: its document boundaries do not cover its sequences: damaged")
    return DTYPES[code], lengths, starts, documents


def _document_lengths(
    lengths: npt.NDArray[np.int32], boundaries: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Tokens of each document: one sequence each in our shards, more in some of Megatron's."""
    if len(boundaries) == len(lengths) + 1 and np.array_equal(
        boundaries, np.arange(len(lengths) + 1)
    ):
        return lengths
    totals = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return np.diff(totals[boundaries]).astype(np.int32)


def concatenate(readers: Iterable[IndexedReader], writer: IndexedWriter) -> None:
    """Copy all documents of `readers`, in order, into `writer`, some 64 MB at a time."""
    for reader in readers:
        first = 0
        while first < len(reader):
            limit = reader.offsets[first] + (1 << 24)
            last = max(first + 1, int(np.searchsorted(reader.offsets, limit, "right")) - 1)
            ids = reader.tokens[reader.offsets[first] : reader.offsets[last]]
            writer.add_many(ids, reader.lengths[first:last])
            first = last
