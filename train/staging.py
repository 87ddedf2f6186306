"""Shards that lie in object storage, read through a local cache of bounded size.

Every shard has a local file of its own length without any content, a sparse file, which is mapped
like a real one. Before a batch is read, the chunks of it that the batch needs are fetched into
place, many at a time; what was not used for longest is punched out again when the cache is full.
Which chunks come next is known, for the stream is a function of the step: `prefetch` fetches them
meanwhile. Indices are kept whole; they are some hundredth of the data.

Each process has a folder of its own inside the cache folder, with a lock on it. Folders whose
process has died are removed by the next one.
"""

import atexit
import ctypes
import fcntl
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import fsspec
from pydantic import Field, PositiveInt

from corpus.settings import Settings, UserError
from tokenization.manifest import Manifest, ShardEntry
from train.schedule import Tokens as Bytes
from train.shard_files import ShardFiles

_PUNCH_HOLE_KEEP_SIZE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)

Chunk = tuple[int, int]  # shard, number of the chunk in its .bin


class CacheSettings(Settings):
    """How much of remote shards is kept locally, and where."""

    folder: str = Field(default_factory=lambda: f"{tempfile.gettempdir()}/lianjin-shards")
    bytes: Bytes = 8 * 2**30
    """Of all chunks on the disk at once, for each process that reads (`8589934592`, `20B`)."""
    chunk_bytes: Bytes = 2**20
    """What is fetched at a time. A schedule's `block_tokens` should be as large as that."""
    connections: PositiveInt = 16
    """Fetches at a time."""


def is_remote(folder: str | Path) -> bool:
    """Whether a folder of shards is an address such as s3://bucket/shards."""
    return "://" in str(folder) and not str(folder).startswith(("file://", "local://"))


class StagedShardFiles(ShardFiles):
    """Remote shards that look local, see the module. Chunks are `ensure`d before reading."""

    def __init__(
        self,
        folder: str,
        manifest: Manifest,
        shards: Sequence[ShardEntry],
        cache: CacheSettings,
    ) -> None:
        """List the remote files and hold their sizes against the manifest.

        Raises:
            UserError: a file is missing or has another size, or the cache folder is of no use.
        """
        self._settings = cache
        self._filesystem, self._root = fsspec.core.url_to_fs(folder)
        self._sizes = {
            name: int(info["size"])
            for name, info in self._filesystem.find(self._root, detail=True).items()
        }
        self._chunks: OrderedDict[Chunk, Future[None]] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(cache.connections, "staging")
        self._local, self._local_lock = _own_folder(Path(cache.folder))
        _check_holes(self._local, cache.folder)
        atexit.register(self.close)
        super().__init__(folder, manifest, shards)

    def prefetch(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Begin to fetch (shard, first token, token after the last) ranges, as far as room goes."""
        with self._lock:
            wanted = self._chunks_of(ranges)
            room = self._settings.bytes - self._held_bytes
            for chunk in wanted:
                if chunk not in self._chunks:
                    room -= self._settings.chunk_bytes
                    if room < 0:
                        return
                    self._begin(chunk)

    def ensure(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Fetch what is missing of (shard, first token, token after the last) ranges.

        Raises:
            UserError: they are larger than the cache, or the storage does not answer.
        """
        with self._lock:
            wanted = self._chunks_of(ranges)
            size = len(wanted) * self._settings.chunk_bytes
            if size > self._settings.bytes:
                raise UserError(
                    f"the shards' cache holds {self._settings.bytes:,} bytes, and one batch "
                    f"touches {size:,}: enlarge it, or the schedule's block_tokens"
                )
            missing = [chunk for chunk in wanted if chunk not in self._chunks]
            self._evict(set(wanted), len(missing) * self._settings.chunk_bytes)
            for chunk in missing:
                self._begin(chunk)
            for chunk in wanted:
                self._chunks.move_to_end(chunk)
            coming = [self._chunks[chunk] for chunk in wanted]
        for chunk, future in zip(wanted, coming, strict=True):
            try:
                future.result()
            except UserError:
                self._forget(chunk)  # so that asking again tries again
                raise

    def held_bytes(self) -> int:
        """Bytes of the chunks on the disk or on their way."""
        with self._lock:
            return self._held_bytes

    def close(self) -> None:
        """Unmap everything and remove the local files."""
        super().close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._local, ignore_errors=True)
        os.close(self._local_lock) if self._local_lock >= 0 else None
        self._local_lock = -1
        atexit.unregister(self.close)

    def check_checksums(self) -> None:
        """Not offered: it would read all the storage holds; check the shards where they lie."""
        raise UserError(
            f"{self.folder}: checksums of remote shards are not checked on every start; check them "
            "where they lie"
        )

    def _chunks_of(self, ranges: Iterable[tuple[int, int, int]]) -> list[Chunk]:
        size = self._settings.chunk_bytes
        chunks: dict[Chunk, None] = {}  # a set in order
        for shard, first, end in ranges:
            # The label of a run's last token is the token after it.
            last = min(end, int(self.tokens[shard]) - 1) * self.dtype.itemsize
            for number in range(first * self.dtype.itemsize // size, last // size + 1):
                chunks[shard, number] = None
        return list(chunks)

    def _size_of(self, chunk: Chunk) -> int:
        shard, number = chunk
        total = int(self.tokens[shard]) * self.dtype.itemsize
        return min(self._settings.chunk_bytes, total - number * self._settings.chunk_bytes)

    def _begin(self, chunk: Chunk) -> None:
        self.open(chunk[0])
        self._held_bytes += self._settings.chunk_bytes  # a last, shorter one counts as whole
        self._chunks[chunk] = self._pool.submit(self._fetch, chunk)

    def _fetch(self, chunk: Chunk) -> None:
        shard, number = chunk
        path = f"{self._root}/{self.entries[shard].path}.bin"
        start = number * self._settings.chunk_bytes
        try:
            content = self._filesystem.cat_file(path, start, start + self._size_of(chunk))
        except Exception as error:  # every storage has its own kinds
            raise UserError(f"{path}: bytes from {start:,} cannot be fetched: {error}") from error
        if len(content) != self._size_of(chunk):
            raise UserError(f"{path}: has become shorter since the start; write or copy it again")
        descriptor = os.open(self._local_path(shard, ".bin"), os.O_WRONLY)
        try:
            os.pwrite(descriptor, content, start)
        finally:
            os.close(descriptor)

    def _forget(self, chunk: Chunk) -> None:
        with self._lock:
            if self._chunks.pop(chunk, None) is not None:
                self._held_bytes -= self._settings.chunk_bytes

    def _evict(self, used: set[Chunk], coming_bytes: int) -> None:
        """Give back the longest unused chunks until so many bytes have room."""
        for chunk in list(self._chunks):
            if self._held_bytes + coming_bytes <= self._settings.bytes:
                return
            if chunk in used:
                continue
            wait([self._chunks.pop(chunk)])
            self._held_bytes -= self._settings.chunk_bytes
            start = chunk[1] * self._settings.chunk_bytes
            _punch(self._local_path(chunk[0], ".bin"), start, self._settings.chunk_bytes)

    def _local_path(self, shard: int, suffix: str) -> str:
        return str(self._local / f"{shard}{suffix}")

    def _size_on_disk(self, shard: ShardEntry, suffix: str) -> int:
        path = f"{self._root}/{shard.path}{suffix}"
        try:
            return self._sizes[path]
        except KeyError:
            raise FileNotFoundError(2, "no such object") from None

    def _file_to_map(self, shard: ShardEntry, suffix: str) -> str:
        local = Path(self._local_path(self.entries.index(shard), suffix))
        if suffix == ".idx":
            local.write_bytes(self._filesystem.cat_file(f"{self._root}/{shard.path}{suffix}"))
        else:
            with open(local, "wb") as file:
                file.truncate(shard.tokens * self.dtype.itemsize)
        return str(local)

    def __getstate__(self) -> Any:
        raise TypeError("a reader of remote shards belongs to one process")


def _own_folder(root: Path) -> tuple[Path, int]:
    """A new folder inside `root` and the descriptor of the lock on it; the dead ones are gone."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        for other in root.iterdir():
            _remove_if_dead(other)
        own = Path(tempfile.mkdtemp(dir=root, prefix="process-"))
        lock = os.open(own / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise UserError(f"{root}: the shards' cache cannot be made there: {error}") from error
    return own, lock


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return  # just being made, or not ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return  # its process lives
    finally:
        os.close(lock)


def _check_holes(folder: Path, said: str) -> None:
    probe = folder / "probe"
    probe.write_bytes(bytes(8192))
    try:
        _punch(str(probe), 0, 8192)
    except (OSError, AttributeError) as error:
        raise UserError(
            f"{said}: this file system cannot give back parts of files ({error}), which a bounded "
            "cache needs; choose a folder on ext4, xfs, btrfs or tmpfs"
        ) from error
    probe.unlink()


def _punch(path: str, start: int, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        offset, length = ctypes.c_longlong(start), ctypes.c_longlong(size)
        if _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, offset, length):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)
