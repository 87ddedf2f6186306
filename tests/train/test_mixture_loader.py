"""The torch loader: the stream's batches, whatever the ranks, workers and micro-batches."""

from pathlib import Path

import pytest
import torch
from shard_samples import write_shards

from corpus.settings import UserError
from tokenization.manifest import read_manifest
from train.buckets import buckets_of
from train.loader import MicroBatch, micro_batches, steps_of
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.stream import Stream

DOCUMENTS = {"zh-general-law": [[50] * 8], "en-general-web": [[40] * 5]}
SCHEDULE = Schedule.model_validate(
    {
        "sequence_length": 16,
        "batch_tokens": 128,
        "max_epochs": 50,
        "stages": [
            {"name": "short", "tokens": 256, "sequence_length": 8},
            {"name": "long", "tokens": 384, "mix": {"lang": {"zh": "3 -> 1", "en": 1}}},
        ],
    }
)


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    write_shards(tmp_path, DOCUMENTS)
    return Stream(SCHEDULE, buckets_of(read_manifest(tmp_path)))


def joined(parts: list[MicroBatch]) -> list[list[int]]:
    return [row for part in parts for row in torch.cat([part.inputs, part.labels], 1).tolist()]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 8), (1, 3), (2, 1), (3, 2), (20, 4)])
def test_ranks_and_micro_batches_cut_the_same_batches(
    tmp_path: Path, stream: Stream, ranks: int, micro: int
) -> None:
    reader = SequenceReader(tmp_path, stream)
    loaders = [
        list(
            steps_of(
                micro_batches(
                    tmp_path, stream, micro_batch_sequences=micro, rank=rank, ranks=ranks,
                    first_step=1,
                )
            )
        )
        for rank in range(ranks)
    ]  # fmt: skip
    for step in range(1, stream.steps):
        parts = [loader[step - 1] for loader in loaders]
        assert {part.step for share in parts for part in share} == {step}
        assert len({len(share) for share in parts}) == 1
        batch = reader.read(stream.batch(step))
        expected = [
            [*row, *labels]
            for row, labels in zip(batch.inputs.tolist(), batch.labels.tolist(), strict=True)
        ]
        assert [row for share in parts for row in joined(share)] == expected
        sizes = [part.inputs.numel() for share in parts for part in share]
        assert max(sizes) <= micro * 16


def test_workers_change_nothing(tmp_path: Path, stream: Stream) -> None:
    alone = list(micro_batches(tmp_path, stream, micro_batch_sequences=2))
    helped = list(micro_batches(tmp_path, stream, micro_batch_sequences=2, workers=2))
    assert len(alone) == len(helped) == 2 * 4 + 3 * 4
    for one, other in zip(alone, helped, strict=True):
        assert one.step == other.step
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.bucket, other.bucket)


def test_on_a_device_ids_are_what_embeddings_take(tmp_path: Path, stream: Stream) -> None:
    batch = next(iter(micro_batches(tmp_path, stream, micro_batch_sequences=2))).on("cpu")
    assert batch.inputs.dtype == batch.labels.dtype == torch.int64


def test_damage_is_found_before_the_first_batch(tmp_path: Path, stream: Stream) -> None:
    (tmp_path / "zh-general-law" / "train-00000.bin").write_bytes(b"")
    with pytest.raises(UserError, match="cut short"):
        micro_batches(tmp_path, stream, micro_batch_sequences=2)
