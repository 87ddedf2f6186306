"""Reading sequences: against a slow reading of the same tape, and damage found at start-up."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_samples import EOS, write_shards

from corpus.settings import UserError
from tokenization.indexed import IndexedReader
from tokenization.manifest import read_manifest
from train.buckets import buckets_of
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.stream import Stream
from train.tapes import locate

DOCUMENTS = {
    "zh-general-law": [[5, 1, 40, 3, 17], [9, 30, 1, 1, 12]],
    "en-finance-book": [[80, 45], [33], [2, 2, 2]],
    "zh-finance-qa": [[4, 3]],
}


def stream_of(folder: Path, **more: Any) -> Stream:
    content: dict[str, Any] = {
        "sequence_length": 16,
        "batch_tokens": 128,
        "max_epochs": 1000,
        "stages": [
            {"name": "one", "tokens": 640, "mix": {"lang": {"zh": 3, "en": "1 -> 3"}}},
            {"name": "two", "tokens": 640, "sequence_length": 8},
        ],
    }
    schedule = Schedule.model_validate(content | more)
    return Stream(schedule, buckets_of(read_manifest(folder)))


def tapes_of(folder: Path) -> dict[str, tuple[list[int], set[int], list[str]]]:
    """Bucket → its tokens, where its documents begin, and each token's document."""
    tapes = {}
    for bucket, entries in read_manifest(folder).buckets().items():
        tokens: list[int] = []
        begins: set[int] = set()
        names: list[str] = []
        for number, entry in enumerate(entries):
            shard = IndexedReader(folder / entry.path)
            for place in range(len(shard)):
                begins.add(len(tokens))
                document = shard.document(place)
                tokens.extend(document.tolist())
                names.extend([f"{bucket}/{number}/{place}"] * len(document))
        tapes[bucket] = (tokens, begins, names)
    return tapes


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_batches_are_what_a_slow_reading_gives(tmp_path: Path, dtype: str) -> None:
    write_shards(tmp_path, DOCUMENTS, dtype)
    stream = stream_of(tmp_path)
    reader = SequenceReader(tmp_path, stream, verify="checksums")
    tapes = tapes_of(tmp_path)
    for step in range(stream.steps):
        draws = stream.batch(step)
        batch = reader.read(draws)
        assert batch.inputs.dtype == batch.labels.dtype == batch.positions.dtype == np.int32
        assert batch.bucket.tolist() == draws.bucket.tolist()
        for row, (bucket, start) in enumerate(zip(draws.bucket, draws.start, strict=True)):
            tokens, begins, _ = tapes[stream.buckets[bucket].name]
            places = [locate(int(start) + k, stream.spans[bucket])[0] for k in range(draws.length)]
            nexts = [(place + 1) % len(tokens) for place in places]
            labels = [-100 if place in begins else tokens[place] for place in nexts]
            positions = [0]
            for before, place in pairwise(places):
                goes_on = place == before + 1 and place not in begins
                positions.append(positions[-1] + 1 if goes_on else 0)
            assert batch.inputs[row].tolist() == [tokens[place] for place in places]
            assert batch.labels[row].tolist() == labels
            assert batch.positions[row].tolist() == positions


def test_every_token_but_first_ones_is_predicted_once_a_pass(tmp_path: Path) -> None:
    write_shards(tmp_path, {"zh-general-law": DOCUMENTS["zh-general-law"]})  # 119 tokens
    stages = [{"name": "one", "tokens": 17 * 119}]
    stream = stream_of(tmp_path, sequence_length=17, batch_tokens=7 * 17, stages=stages)
    reader = SequenceReader(tmp_path, stream)
    tokens = tapes_of(tmp_path)["zh-general-law"][0]
    inputs, labels = [], []
    for step in range(stream.steps):
        # One pass is 7 sequences of 17 tokens, so a batch here.
        batch = reader.read(stream.batch(step))
        assert sorted(batch.inputs.ravel().tolist()) == sorted(tokens)
        learned = batch.labels[batch.labels != -100]
        inputs.append(batch.inputs)
        labels.append(sorted(learned.tolist()))
        assert (batch.labels == -100).sum() == 10
        assert ((batch.inputs == EOS) == (batch.labels == -100)).all()
    assert all(found == labels[0] for found in labels)
    assert len({found.tobytes() for found in inputs}) == stream.steps == 17


def test_parts_of_a_batch_and_other_readers_give_the_same_rows(tmp_path: Path) -> None:
    write_shards(tmp_path, DOCUMENTS)
    stream = stream_of(tmp_path)
    whole = SequenceReader(tmp_path, stream).read(stream.batch(2))
    other = SequenceReader(tmp_path, stream)
    parts = [other.read(stream.share(2, rank, 3)) for rank in (2, 0, 1)]
    joined = np.concatenate([parts[1].labels, parts[2].labels, parts[0].labels])
    assert (joined == whole.labels).all()


def test_cu_seqlens_begin_at_documents(tmp_path: Path) -> None:
    write_shards(tmp_path, DOCUMENTS)
    stream = stream_of(tmp_path)
    batch = SequenceReader(tmp_path, stream).read(stream.batch(0))
    edges = batch.cu_seqlens
    assert edges[0] == 0
    assert edges[-1] == batch.inputs.size
    flat = batch.positions.ravel()
    for begin, end in pairwise(edges):
        assert flat[begin:end].tolist() == list(range(end - begin))


def test_tokens_lead_back_to_their_documents(tmp_path: Path) -> None:
    write_shards(tmp_path, DOCUMENTS)
    stream = stream_of(tmp_path)
    reader = SequenceReader(tmp_path, stream)
    tapes = tapes_of(tmp_path)
    draws = stream.share(1, 0, 4)
    wanted = set()
    for bucket, start in zip(draws.bucket, draws.start, strict=True):
        names = tapes[stream.buckets[bucket].name][2]
        for step in range(draws.length):
            place = locate(int(start) + step, stream.spans[bucket])[0]
            wanted.add(names[place])
            assert reader.document_id(int(bucket), int(start) + step) == names[place]
    assert reader.document_ids(draws) == sorted(wanted)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (_cut, "train-00001.bin", r"train-00001\.bin: holds 64 bytes .* tells of 66: cut short"),
        (_cut, "train-00000.idx", r"train-00000\.idx: holds .* cut short"),
        (Path.unlink, "train-00002.bin", r"train-00002\.bin: the manifest lists this shard"),
        (_flip, "train-00001.bin", r"train-00001\.bin: its checksum is not the manifest's"),
        (_flip, "train-00001.idx", r"train-00001\.idx: its checksum is not the manifest's"),
    ],
)
def test_damage_is_found_at_the_start_and_named(
    tmp_path: Path, damage: Any, name: str, message: str
) -> None:
    write_shards(tmp_path, DOCUMENTS)
    stream = stream_of(tmp_path)
    damage(tmp_path / "en-finance-book" / name)
    with pytest.raises(UserError, match=message):
        SequenceReader(tmp_path, stream, verify="checksums")


def test_other_shards_or_another_tokenizer_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "one", DOCUMENTS)
    write_shards(tmp_path / "two", DOCUMENTS | {"zh-finance-qa": [[4, 4]]})
    stream = stream_of(tmp_path / "one")
    with pytest.raises(UserError, match="zh-finance-qa are not those that the mixture was planned"):
        SequenceReader(tmp_path / "two", stream)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not the tokenizer that made the shards"):
        SequenceReader(tmp_path / "one", stream, tokenizer=tmp_path)


def test_an_index_of_other_documents_is_found_when_opened(tmp_path: Path) -> None:
    write_shards(tmp_path, DOCUMENTS)
    stream = stream_of(tmp_path)
    path = tmp_path / "zh-finance-qa" / "train-00000.idx"
    content = bytearray(path.read_bytes())
    content[17] = 4  # int32 instead of uint16
    path.write_bytes(content)
    reader = SequenceReader(tmp_path, stream)
    bucket = [b.name for b in stream.buckets].index("zh-finance-qa")
    step = next(s for s in range(stream.steps) if bucket in stream.batch(s).bucket)
    message = r"zh-finance-qa/train-00000\.idx: its header does not tell"
    with pytest.raises(UserError, match=message):
        reader.read(stream.batch(step))
