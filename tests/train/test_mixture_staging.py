"""Remote shards through the bounded cache: the same batches, and never more than its size."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from shard_samples import write_shards

from corpus.settings import UserError
from tokenization.manifest import read_manifest
from train.buckets import buckets_of
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.staging import CacheSettings, StagedShardFiles, is_remote
from train.stream import Stream

DOCUMENTS = {
    "zh-general-law": [[500, 3000, 40] * 4, [900] * 9],
    "en-finance-book": [[8000, 12], [333] * 20],
}
REMOTE = "memory://staging-test/shards"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Path]:
    write_shards(tmp_path / "local", DOCUMENTS)
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path / "local") + "/", "/staging-test/shards/", recursive=True)
    yield tmp_path / "local"
    filesystem.rm("/staging-test", recursive=True)


def stream_of(folder: object, packing: str = "concatenate") -> Stream:
    schedule = Schedule.model_validate(
        {
            "sequence_length": 128,
            "batch_tokens": 1024,
            "max_epochs": 50,
            "packing": packing,
            "packing_window": 8,
            "stages": [{"name": "one", "tokens": 60_000}],
        }
    )
    return Stream(schedule, buckets_of(read_manifest(str(folder))))


@pytest.mark.parametrize("packing", ["concatenate", "best-fit"])
def test_batches_are_those_of_local_shards(remote: Path, tmp_path: Path, packing: str) -> None:
    stream = stream_of(REMOTE, packing)
    local = SequenceReader(remote, stream)
    cache = CacheSettings(folder=str(tmp_path / "cache"), bytes=40_960, chunk_bytes=4096)
    staged = SequenceReader(REMOTE, stream, cache=cache)
    files = staged._files
    assert isinstance(files, StagedShardFiles)
    for step in range(stream.steps):
        draws = stream.batch(step)
        expected, found = local.read(draws), staged.read(draws)
        for name in ("inputs", "labels", "positions"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
        if step + 1 < stream.steps:
            staged.prefetch(stream.batch(step + 1))
        assert files.held_bytes() <= 40_960
    on_disk = sum(
        entry.stat().st_blocks * 512 for entry in os.scandir(files._local) if "bin" in entry.name
    )
    assert 4096 < on_disk <= 40_960
    staged.close()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_smaller_than_a_batch_is_refused(remote: Path, tmp_path: Path) -> None:
    stream = stream_of(REMOTE)
    cache = CacheSettings(folder=str(tmp_path / "cache"), bytes=4096, chunk_bytes=4096)
    reader = SequenceReader(REMOTE, stream, cache=cache)
    with pytest.raises(UserError, match="one batch touches"):
        reader.read(stream.batch(0))


def test_damage_in_the_storage_is_named(remote: Path, tmp_path: Path) -> None:
    stream = stream_of(REMOTE)
    cache = CacheSettings(folder=str(tmp_path / "cache"), chunk_bytes=4096)
    filesystem = fsspec.filesystem("memory")
    path = "/staging-test/shards/en-finance-book/train-00000.bin"
    content = filesystem.cat_file(path)
    reader = SequenceReader(REMOTE, stream, cache=cache)
    filesystem.rm(path)
    with pytest.raises(UserError, match=r"en-finance-book/train-00000\.bin: bytes from .* cannot"):
        [reader.read(stream.batch(step)) for step in range(stream.steps)]
    with pytest.raises(UserError, match=r"en-finance-book/train-00000\.bin: the manifest lists"):
        SequenceReader(REMOTE, stream, cache=cache)
    filesystem.pipe_file(path, content[:-2])
    with pytest.raises(UserError, match="cut short"):
        SequenceReader(REMOTE, stream, cache=cache)


def test_what_dead_processes_left_is_removed(remote: Path, tmp_path: Path) -> None:
    left = tmp_path / "cache" / "process-dead"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "0.bin").write_bytes(bytes(100))
    cache = CacheSettings(folder=str(tmp_path / "cache"))
    one = SequenceReader(REMOTE, stream_of(REMOTE), cache=cache)
    assert not left.exists()
    other = SequenceReader(REMOTE, stream_of(REMOTE), cache=cache)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    one.close()
    other.close()


def test_what_is_remote() -> None:
    assert is_remote("s3://bucket/shards")
    assert not is_remote("/data/shards")
    assert not is_remote("file:///data/shards")
