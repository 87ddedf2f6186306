"""Best-fit packing: the same tokens, fewer documents cut, through passes, lengths and edits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_samples import write_shards

from tokenization.manifest import read_manifest
from train.buckets import buckets_of
from train.packing import arrange
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.stream import Stream

LENGTHS = [13, 3, 30, 16, 7, 9, 5, 11, 2, 40, 8, 8, 15, 1, 6, 12, 4, 10, 14, 16, 3, 5]


def schedule(**more: Any) -> Schedule:
    content: dict[str, Any] = {
        "sequence_length": 16,
        "batch_tokens": 64,
        "max_epochs": 1000,
        "packing": "best-fit",
        "packing_window": 6,
        "stages": [{"name": "one", "tokens": 960}],
    }
    return Schedule.model_validate(content | more)


def test_pieces_go_where_they_fit_best() -> None:
    sizes = np.array([6, 10, 7, 3, 4, 2])  # 32 tokens for two sequences of 16
    places = np.array([100, 200, 300, 400, 500, 600])
    offsets, found, parts = arrange(places, sizes, 0, 16, 0, np.uint64(1))
    # 10 + 6 fill one, 7 + 4 + 3 + 2 the other: nothing is cut
    assert sorted(zip(found.tolist(), parts.tolist(), strict=True)) == [
        (100, 6), (200, 10), (300, 7), (400, 3), (500, 4), (600, 2)
    ]  # fmt: skip
    sequence = dict(zip(found.tolist(), (offsets // 16).tolist(), strict=True))
    assert sequence[100] == sequence[200] != sequence[300]
    assert offsets.tolist() == (np.cumsum(parts) - parts).tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 16), min_size=1, max_size=60),
    st.integers(0, 1000),
    st.integers(0, 15),
)
def test_an_arrangement_moves_every_token_once(sizes: list[int], first: int, phase: int) -> None:
    places = np.cumsum([0, *sizes[:-1]])
    offsets, found, parts = arrange(places, np.array(sizes), first, 16, phase, np.uint64(first))
    assert offsets.tolist() == (np.cumsum(parts) - parts).tolist()
    tokens = [
        t for p, n in zip(found.tolist(), parts.tolist(), strict=True) for t in range(p, p + n)
    ]
    assert sorted(tokens) == list(range(sum(sizes)))
    # no piece crosses from one sequence into the next
    begins, ends = first + offsets - phase, first + offsets + parts - 1 - phase
    assert (begins // 16 == ends // 16).all()


def read_run(folder: Path, stream: Stream) -> dict[int, list[int]]:
    """Bucket → tokens in the order of its drawn tape."""
    reader = SequenceReader(folder, stream)
    found: dict[int, list[tuple[int, list[int]]]] = {}
    for step in range(stream.steps):
        draws = stream.batch(step)
        batch = reader.read(draws)
        for row in range(len(draws)):
            entry = (int(draws.start[row]), batch.inputs[row].tolist())
            found.setdefault(int(draws.bucket[row]), []).append(entry)
    return {b: [t for _, tokens in sorted(rows) for t in tokens] for b, rows in found.items()}


def test_every_pass_reads_every_token_once_and_cuts_less(tmp_path: Path) -> None:
    write_shards(tmp_path, {"zh-general-law": [LENGTHS, LENGTHS[::-1]]}, "int32")
    buckets = buckets_of(read_manifest(tmp_path))
    tokens = sum(LENGTHS) * 2
    cuts = {}
    for packing in ("concatenate", "best-fit"):
        stream = Stream(schedule(packing=packing, packing_window=12), buckets)
        drawn = read_run(tmp_path, stream)[0]
        passes = [sorted(drawn[k : k + tokens]) for k in range(0, len(drawn) - tokens + 1, tokens)]
        assert len(passes) == 2
        assert passes[0] == passes[1]
        reader = SequenceReader(tmp_path, stream)
        runs = [reader.tape_runs(stream.batch(step)) for step in range(stream.steps)]
        starts = np.cumsum([0, *LENGTHS, *LENGTHS[::-1]])
        whole = [
            np.isin(places := one[:, 2], starts[:-1]) & np.isin(places + one[:, 3], starts[1:])
            for one in runs
        ]
        cuts[packing] = sum(int((~found).sum()) for found in whole)
    assert cuts["best-fit"] < 0.6 * cuts["concatenate"]


@pytest.mark.parametrize("window", [2, 6, 50])
def test_nothing_is_lost_or_repeated_through_lengths_edits_and_new_shards(
    tmp_path: Path, window: int
) -> None:
    shards = {"zh-general-law": [LENGTHS], "en-general-web": [LENGTHS[:9], LENGTHS[3:]]}
    write_shards(tmp_path, shards, "int32")
    mix = schedule(
        packing_window=window,
        stages=[
            {"name": "one", "tokens": 448, "mix": {"lang": {"zh": "3 -> 1", "en": 1}}},
            {"name": "two", "tokens": 640, "sequence_length": 8},
            {"name": "three", "tokens": 1024, "mix": {"lang": {"zh": 1, "en": 4}}},
        ],
    )
    stream = Stream(mix, buckets_of(read_manifest(tmp_path)))
    shards["zh-general-law"].append([17, 20, 4])
    write_shards(tmp_path / "more", shards, "int32")
    more = buckets_of(read_manifest(tmp_path / "more"))
    checkpoint = json.loads(json.dumps(stream.checkpoint(10)))
    grown = Stream.resumed(checkpoint, mix, more)
    last = mix.stages[2].model_copy(update={"mix": {}})
    edit = mix.model_copy(update={"stages": (*mix.stages[:2], last)})
    edited = Stream.resumed(json.loads(json.dumps(grown.checkpoint(21))), edit, more)
    assert len(edited.segments) == 3
    for folder, run in ((tmp_path, stream), (tmp_path / "more", edited)):
        for bucket, tokens in read_run(folder, run).items():
            size = run.buckets[bucket].tokens
            old = stream.buckets[bucket].tokens
            # Ids tell places (six above them), except for the ends of documents, which are 2.
            ends = np.cumsum(np.concatenate(shards[run.buckets[bucket].name])) - 1
            inside = np.setdiff1d(np.arange(size), ends)
            counts = np.bincount(tokens, minlength=size + 6)[6:]
            old_counts = counts[inside[inside < old]]
            assert old_counts.max() - old_counts.min() <= 1
            assert counts[inside].max() == old_counts.max()
            if len(tokens) > size + old:
                assert counts[inside].min() >= 1


def test_rows_and_workers_do_not_matter(tmp_path: Path) -> None:
    write_shards(tmp_path, {"zh-general-law": [LENGTHS], "en-general-web": [LENGTHS[::-1]]})
    stream = Stream(schedule(), buckets_of(read_manifest(tmp_path)))
    whole = SequenceReader(tmp_path, stream).read(stream.batch(3))
    other = SequenceReader(tmp_path, stream)
    parts = [other.read(stream.share(3, rank, 3)) for rank in (2, 1, 0)][::-1]
    for name in ("inputs", "labels", "positions"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert (joined == getattr(whole, name)).all()
    assert ((whole.inputs == 2) == (whole.labels == -100)).all()
    assert other.document_ids(stream.share(3, 0, 1))
