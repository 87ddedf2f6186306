"""The stream: a pure function of the step, the same for all ranks, through resumes and edits."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.settings import UserError
from train.buckets import Bucket, imaginary_buckets
from train.schedule import Schedule
from train.stream import Draws, Stream
from train.tapes import TapeState, bucket_key, epoch_of, locate, spans

TOKENS = {"en-general-web": 37, "zh-finance-news": 50, "zh-general-book": 101}


def schedule(**more: Any) -> Schedule:
    content: dict[str, Any] = {
        "sequence_length": 8,
        "batch_tokens": 64,
        "max_epochs": 1000,
        "seed": 5,
        "stages": [
            {"name": "one", "tokens": 640, "mix": {"lang": {"zh": 3, "en": "1 -> 3"}}},
            {"name": "two", "tokens": 640, "mix": {"domain": {"general": "9 -> 4", "finance": 1}}},
        ],
    }
    return Schedule.model_validate(content | more)


def rows(draws: Draws) -> list[tuple[int, int]]:
    return list(zip(draws.bucket.tolist(), draws.start.tolist(), strict=True))


def test_the_first_batches_are_these() -> None:
    """Literal: whatever changes them changes every run that is under way."""
    stream = Stream(schedule(), imaginary_buckets(TOKENS))
    assert stream.steps == 20
    assert rows(stream.batch(0)) == [
        (0, 0),
        (0, 8),
        (2, 0),
        (1, 0),
        (2, 8),
        (1, 8),
        (2, 24),
        (2, 16),
    ]
    assert rows(stream.batch(19)) == [
        (2, 632),
        (2, 648),
        (0, 376),
        (1, 224),
        (1, 216),
        (2, 640),
        (2, 656),
        (2, 624),
    ]
    assert stream.cursors(20) == {
        "en-general-web": 384,
        "zh-finance-news": 232,
        "zh-general-book": 664,
    }


def test_every_step_follows_from_its_number_alone() -> None:
    stream = Stream(schedule(), imaginary_buckets(TOKENS))
    once = [rows(stream.batch(step)) for step in range(stream.steps)]
    again = Stream(schedule(), imaginary_buckets(TOKENS))
    assert [rows(again.batch(step)) for step in reversed(range(20))] == once[::-1]
    assert again.fingerprint == stream.fingerprint
    other = Stream(schedule(seed=6), imaginary_buckets(TOKENS))
    assert [rows(other.batch(step)) for step in range(20)] != once
    assert other.fingerprint != stream.fingerprint
    numbered = [stream.draw(number) for number in range(160)]
    names = [bucket.name for bucket in stream.buckets]
    assert [(names.index(d.bucket), d.start) for d in numbered] == [r for s in once for r in s]
    with pytest.raises(IndexError, match="160"):
        stream.draw(160)
    with pytest.raises(IndexError, match="no step 20"):
        stream.batch(20)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 1000])
def test_any_number_of_ranks_sees_the_same_batches(ranks: int) -> None:
    stream = Stream(schedule(), imaginary_buckets(TOKENS))
    shares = [rows(stream.share(3, rank, ranks)) for rank in range(ranks)]
    assert [row for share in shares for row in share] == rows(stream.batch(3))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def drawn_of(stream: Stream, bucket: int) -> list[int]:
    """Every token of the bucket's drawn tape, in the order of `start`, over the whole run."""
    starts = [
        start + place
        for step in range(stream.steps)
        for own, start in rows(stream.batch(step))
        for place in range(stream.leg(step).length)
        if own == bucket
    ]
    return sorted(starts)


def test_sequences_are_the_drawn_tape_without_gap_or_overlap() -> None:
    stream = Stream(schedule(), imaginary_buckets(TOKENS))
    for bucket in range(3):
        drawn = drawn_of(stream, bucket)
        assert drawn == list(range(len(drawn)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 2**40))
def test_every_pass_reads_every_token_once(tokens: int, block: int, seed: int) -> None:
    layout = spans(bucket_key(seed, "b"), [TapeState(0, tokens, block)])
    passes = [
        [locate(number * tokens + place, layout)[0] for place in range(tokens)]
        for number in range(3)
    ]
    for places in passes:
        assert sorted(places) == list(range(tokens))
    assert epoch_of(tokens - 1, layout) == 0
    assert epoch_of(tokens, layout) == 1


def test_cuts_and_order_move_from_pass_to_pass() -> None:
    layout = spans(bucket_key(1, "b"), [TapeState(0, 100, 10)])
    orders = [[locate(n * 100 + place, layout)[0] for place in range(100)] for n in range(5)]
    cuts = [{b for a, b in pairwise(order) if b != (a + 1) % 100} for order in orders]
    assert len({tuple(order) for order in orders}) == 5
    assert len({min(cut) % 10 for cut in cuts}) > 1


def test_counts_promised_by_locate_are_kept() -> None:
    layout = spans(bucket_key(2, "b"), [TapeState(0, 103, 10), TapeState(57, 150, 10)])
    drawn = 0
    while drawn < 600:
        place, count = locate(drawn, layout)
        run = [locate(drawn + step, layout)[0] for step in range(count)]
        assert run == list(range(place, place + count))
        drawn += count


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 40)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(1, 9),
)
def test_added_shards_are_read_in_the_pass_that_is_under_way(
    edits: list[tuple[int, int]], tokens: int, block: int
) -> None:
    """Tokens drawn and tape lengths change at random; no token may be read twice before all were
    read, nor be left out."""
    states, drawn = [TapeState(0, tokens, block)], 0
    for more_drawn, added in edits:
        drawn, tokens = drawn + more_drawn, tokens + added
        states.append(TapeState(drawn, tokens, block))
    layout = spans(bucket_key(3, "b"), states)
    read: dict[int, int] = {}
    for place in range(drawn + 2 * tokens + 1):
        length = max(state.tokens for state in states if state.drawn <= place)
        token = locate(place, layout)[0]
        assert 0 <= token < length
        read[token] = read.get(token, 0) + 1
        # those that exist from the start are never two readings apart
        counts = [read.get(old, 0) for old in range(states[0].tokens)]
        assert max(counts) - min(counts) <= 1
    counts = [read.get(token, 0) for token in range(tokens)]
    assert min(counts) >= 1


def test_resume_is_the_step() -> None:
    buckets = imaginary_buckets(TOKENS)
    stream = Stream(schedule(), buckets)
    checkpoint = json.loads(json.dumps(stream.checkpoint(7)))
    resumed = Stream.resumed(checkpoint, schedule(), buckets)
    assert resumed.fingerprint == stream.fingerprint
    assert len(resumed.segments) == 1
    with pytest.raises(UserError, match="seed: the run was begun with 5, this is 9"):
        Stream.resumed(checkpoint, schedule(), buckets, seed=9)
    checkpoint["cursors"]["zh-general-book"] += 8
    with pytest.raises(UserError, match="bucket zh-general-book"):
        Stream.resumed(checkpoint, schedule(), buckets)


def test_an_edit_rules_from_its_step_on_and_continues_every_bucket() -> None:
    buckets = imaginary_buckets(TOKENS)
    stream = Stream(schedule(), buckets)
    edited = schedule(
        stages=[
            {"name": "one", "tokens": 640, "mix": {"lang": {"zh": 1, "en": 1}}},
            {"name": "two", "tokens": 1280, "mix": {"domain": {"general": 1, "finance": 1}}},
        ]
    )
    changed = Stream.resumed(json.loads(json.dumps(stream.checkpoint(7))), edited, buckets)
    assert [segment.step for segment in changed.segments] == [0, 7]
    assert changed.steps == 30
    for step in range(7):
        assert rows(changed.batch(step)) == rows(stream.batch(step))
    assert changed.cursors(7) == stream.cursors(7)
    assert rows(changed.batch(7)) != rows(stream.batch(7))
    for bucket in range(3):
        drawn = drawn_of(changed, bucket)
        assert drawn == list(range(len(drawn)))
    # a second edit, and a resume in the middle of it
    third = Stream.resumed(json.loads(json.dumps(changed.checkpoint(12))), schedule(), buckets)
    assert [segment.step for segment in third.segments] == [0, 7, 12]
    assert third.steps == 20
    again = Stream.resumed(json.loads(json.dumps(third.checkpoint(15))), schedule(), buckets)
    assert again.fingerprint == third.fingerprint
    with pytest.raises(UserError, match="nothing is left"):
        Stream.resumed(changed.checkpoint(25), schedule(), buckets)


def _with_shards(tokens: list[int]) -> Bucket:
    listed = tuple((f"checksum {n} {t}", t) for n, t in enumerate(tokens))
    return Bucket.of("zh-general-book", {"lang": "zh"}, listed)


def test_shards_can_be_added_but_not_taken_away() -> None:
    plain = schedule(stages=[{"name": "one", "tokens": 640}])
    stream = Stream(plain, [_with_shards([30, 71])])
    checkpoint = json.loads(json.dumps(stream.checkpoint(3)))
    grown = Stream.resumed(checkpoint, plain, [_with_shards([30, 71, 40])])
    assert [segment.step for segment in grown.segments] == [0, 3]
    assert [rows(grown.batch(s)) for s in range(3)] == [rows(stream.batch(s)) for s in range(3)]
    # 24·8 = 192 drawn: one pass of 101 and 91 of the next; its last 10 and the 40 new come next
    nexts = [locate(place, grown.spans[0])[0] for place in range(192, 242)]
    seen = [locate(place, grown.spans[0])[0] for place in range(101, 192)]
    assert sorted(seen + nexts) == list(range(141))
    with pytest.raises(UserError, match="bucket zh-general-book: the run was begun with 2 shards"):
        Stream.resumed(checkpoint, plain, [_with_shards([30])])
    with pytest.raises(UserError, match="not the first of the shards"):
        Stream.resumed(checkpoint, plain, [_with_shards([40, 30, 71])])


def test_longer_sequences_hold_the_batch_and_continue_the_tape() -> None:
    longer = schedule(
        stages=[
            {"name": "short", "tokens": 640, "sequence_length": 4},
            {"name": "long", "tokens": 640, "sequence_length": 16},
            {"name": "middle", "tokens": 640, "sequence_length": 8},
        ]
    )
    stream = Stream(longer, imaginary_buckets(TOKENS))
    assert [(leg.length, leg.sequences) for leg in stream.legs] == [(4, 16), (16, 4), (8, 8)]
    for bucket in range(3):
        drawn = drawn_of(stream, bucket)
        assert drawn == list(range(len(drawn)))
    tokens = np.array(list(stream.cursors(30).values()))
    wanted = 1920 * np.array([37, 50, 101]) / 188
    assert np.abs(tokens - wanted).max() < 16


def test_an_order_can_be_used_again() -> None:
    again = schedule(
        stages=[
            {"name": "warm-up", "tokens": 320},
            {"name": "again", "tokens": 640, "reuse_order_of": "warm-up"},
            {"name": "after", "tokens": 320},
        ]
    )
    stream = Stream(again, imaginary_buckets(TOKENS))
    first = sorted(row for step in range(5) for row in rows(stream.batch(step)))
    second = sorted(row for step in range(5, 15) for row in rows(stream.batch(step)))
    assert second[: len(first)] != first
    assert set(first) <= set(second)
    assert len(second) == 80
    # what follows goes on where the second reading ended, which went further than the first
    assert sum(stream.cursors(15).values()) == 640
    assert sum(stream.cursors(20).values()) == 960


def test_a_stage_smaller_than_a_batch_is_refused() -> None:
    tiny = schedule(stages=[{"name": "tiny", "tokens": 20}])
    with pytest.raises(UserError, match="stage 'tiny': its 20 tokens are less than half a batch"):
        Stream(tiny, imaginary_buckets(TOKENS))
