"""Counts of blocks: whole, never falling, adding up, and never a sequence from the integral."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.counts import SHAPES, BlockCounts, Stretch
from train.planner import on_grid


def table(counts: BlockCounts) -> list[list[int]]:
    return [counts.before(block).tolist() for block in range(counts.blocks + 1)]


def test_equal_thirds_one_at_a_time() -> None:
    weights = np.array([[0.375, 0.375, 0.25]] * 2)
    counts = BlockCounts([Stretch(8, 0.0, weights)], 1)
    # sequence j of a bucket of weight w is due in block ceil(j / w): 3, 6, 8 and 4, 8
    assert table(counts) == [
        [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 1, 1],
        [2, 2, 1], [2, 2, 2], [3, 2, 2], [3, 3, 2],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "halfway"),
    [("linear", 12.5), ("cosine", 50 * (0.25 - 0.5 / math.pi)), ("step", 0.0)],
)
def test_the_integral_of_a_ramp_in_closed_form(shape: str, halfway: float) -> None:
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    counts = BlockCounts([Stretch(10, 0.0, weights, shape)], 10)
    assert counts.scheduled(5)[0] == pytest.approx(halfway if shape != "cosine" else 2 * halfway)
    assert counts.scheduled(10) == pytest.approx([50.0, 50.0])


def test_treads_of_a_staircase() -> None:
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    counts = BlockCounts([Stretch(9, 0.0, weights, "step", 3)], 4)
    drawn = np.diff([row[0] for row in table(counts)])
    assert drawn.tolist() == [0, 0, 0, 2, 2, 2, 4, 4, 4]


@st.composite
def courses(draw: st.DrawFn) -> tuple[list[Stretch], int]:
    buckets = draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    concentration = draw(st.sampled_from([0.05, 0.3, 1.0]))
    stretches = []
    for number in range(draw(st.integers(1, 4))):
        ends = [on_grid(random.dirichlet([concentration] * buckets) + 1e-12) for _ in "01"]
        stretches.append(
            Stretch(
                draw(st.integers(1, 60)),
                0.0 if number else draw(st.sampled_from([0.0, 0.4])),
                np.array(ends),
                draw(st.sampled_from(SHAPES)),
                draw(st.integers(2, 5)),
            )
        )
    return stretches, draw(st.sampled_from([1, 2, 7, 64]))


@settings(max_examples=60, deadline=None)
@given(courses())
def test_the_law_of_counts(course: tuple[list[Stretch], int]) -> None:
    stretches, sequences = course
    counts = BlockCounts(stretches, sequences)
    rows = np.array(table(counts))
    assert (rows[0] == 0).all()
    assert (np.diff(rows, axis=0) >= 0).all()
    assert (rows.sum(axis=1) == sequences * np.arange(counts.blocks + 1)).all()
    scheduled = np.array([counts.scheduled(block) for block in range(counts.blocks + 1)])
    # Tijdeman's bound, which for many buckets comes near to 1 but never reaches it
    assert np.abs(rows - scheduled).max() < 1.0 - 1 / (2 * max(2, rows.shape[1]) - 2) + 1e-5
    assert counts.max_deviation == pytest.approx(np.abs(rows - scheduled).max())


def test_where_the_largest_deficit_first_would_fail() -> None:
    """A bucket whose share jumps must be served ahead of those that are further behind."""
    low, high = [0.001] * 10 + [0.99], [0.0999] * 10 + [0.001]
    stretches = [
        Stretch(40, 0.0, np.array([on_grid(np.array(w))] * 2)) for w in (low, high, low, high)
    ]
    counts = BlockCounts(stretches, 1)
    assert counts.max_deviation < 1.0


def test_two_buckets_are_never_more_than_half_a_sequence_off() -> None:
    weights = np.array([[2**-40, 1 - 2**-40], [1 - 2**-40, 2**-40]])
    assert BlockCounts([Stretch(1000, 0.0, weights)], 1).max_deviation < 0.50001


def test_what_is_carried_is_worked_off() -> None:
    weights = np.array([[0.5, 0.25, 0.25]] * 2)
    counts = BlockCounts([Stretch(20, 0.0, weights)], 8, np.array([1.5, -1.25, -0.25]))
    assert np.abs(counts.before(1) - counts.scheduled(1)).max() < 1.0
    assert counts.before(20).sum() == 160
    assert np.abs(counts.before(20) - ([81.5, 38.75, 39.75])).max() < 1.0
