"""A bucket's shards as memory: each `.bin` and `.idx` mapped when first needed, by its address.

The reading kernel works on addresses, so that one compiled call fills a batch from many shards.
Files are mapped without keeping a descriptor open (Python's own mmap keeps one each, and ten
thousand shards would meet the usual limit of 1,024).
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corpus.settings import UserError
from tokenization.indexed import DTYPES, HEADER_BYTES, MAGIC
from tokenization.manifest import Manifest, ShardEntry, file_sha256

_PROT_READ, _MAP_SHARED = 1, 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class ShardFiles:
    """Shards of one folder, mapped on demand.

    Attributes:
        bin_addresses: int64 [shards], of each `.bin`'s first byte; 0 while it is not mapped.
        idx_addresses: int64 [shards], of the first sequence pointer of each `.idx`; 0 likewise.
        documents: int64 [shards].
        tokens: int64 [shards].
    """

    def __init__(
        self, folder: str | Path, manifest: Manifest, shards: Sequence[ShardEntry]
    ) -> None:
        """Check that every file is there and as long as the manifest says.

        Raises:
            UserError: naming the first file that is missing, cut short or too long.
        """
        self.folder = str(folder)
        self.entries = tuple(shards)
        self.dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self.bin_addresses = np.zeros(len(shards), np.int64)
        self.idx_addresses = np.zeros(len(shards), np.int64)
        self.documents = np.array([shard.documents for shard in shards], np.int64)
        self.tokens = np.array([shard.tokens for shard in shards], np.int64)
        self._maps: list[tuple[int, int]] = []
        for shard in self.entries:
            self._check_size(shard, ".bin", shard.tokens * self.dtype.itemsize)
            self._check_size(shard, ".idx", HEADER_BYTES + 20 * shard.documents + 8)

    def open(self, number: int) -> None:
        """Map a shard's files, unless they are mapped.

        Raises:
            UserError: a file is gone, or its header is not the manifest's.
        """
        if self.idx_addresses[number]:
            return
        shard = self.entries[number]
        index = self._map(shard, ".idx")
        header = ctypes.string_at(index, HEADER_BYTES)
        version, code, sequences, boundaries = struct.unpack_from("<QBQQ", header, len(MAGIC))
        documents = shard.documents
        expected = (MAGIC, 1, self.dtype, documents, documents + 1)
        if (header[: len(MAGIC)], version, DTYPES.get(code), sequences, boundaries) != expected:
            raise UserError(
                f"{self._path(shard, '.idx')}: its header does not tell of {documents:,} documents "
                f"of {self.dtype.name} ids, as the manifest says; build or copy it again"
            )
        self.bin_addresses[number] = self._map(shard, ".bin")
        self.idx_addresses[number] = index + HEADER_BYTES + 4 * documents

    def check_checksums(self) -> None:
        """Read every byte and hold it against the manifest.

        Raises:
            UserError: naming the first file that has changed.
        """
        for shard in self.entries:
            for suffix, expected in ((".bin", shard.sha256), (".idx", shard.idx_sha256)):
                path = self._path(shard, suffix)
                if file_sha256(path) != expected:
                    raise UserError(
                        f"{path}: its checksum is not the manifest's: the file has changed since "
                        "it was written; build or copy it again"
                    )

    def close(self) -> None:
        """Unmap everything. Nothing may read through the addresses afterwards."""
        self.bin_addresses[:] = 0
        self.idx_addresses[:] = 0
        while self._maps:
            _libc.munmap(*self._maps.pop())

    def __del__(self) -> None:
        if hasattr(self, "_maps"):
            self.close()

    def _path(self, shard: ShardEntry, suffix: str) -> str:
        return f"{self.folder}/{shard.path}{suffix}"

    def _check_size(self, shard: ShardEntry, suffix: str, expected: int) -> None:
        path = self._path(shard, suffix)
        try:
            size = self._size_on_disk(shard, suffix)
        except OSError as error:
            raise UserError(
                f"{path}: the manifest lists this shard, and its file cannot be read: "
                f"{error.strerror}; copy it back, or build the shards again"
            ) from error
        if size != expected:
            raise UserError(
                f"{path}: holds {size:,} bytes where the manifest tells of {expected:,}: "
                f"{'cut short' if size < expected else 'not the file it lists'}; copy or build it "
                "again"
            )

    def _size_on_disk(self, shard: ShardEntry, suffix: str) -> int:
        return os.stat(self._path(shard, suffix)).st_size

    def _file_to_map(self, shard: ShardEntry, suffix: str) -> str:
        return self._path(shard, suffix)

    def _map(self, shard: ShardEntry, suffix: str) -> int:
        try:
            descriptor = os.open(self._file_to_map(shard, suffix), os.O_RDONLY)
        except OSError as error:
            path = self._path(shard, suffix)
            raise UserError(f"{path}: cannot be read any more: {error.strerror}") from error
        try:
            size = os.fstat(descriptor).st_size
            address = _libc.mmap(None, size, _PROT_READ, _MAP_SHARED, descriptor, 0)
            if address is None or address == ctypes.c_void_p(-1).value:
                reason = os.strerror(ctypes.get_errno())
                path = self._path(shard, suffix)
                raise UserError(f"{path}: cannot be mapped into memory: {reason}")
        finally:
            os.close(descriptor)
        self._maps.append((int(address), size))
        return int(address)
