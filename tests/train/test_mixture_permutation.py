"""Keyed permutations: bijections, undone by their inverse, even, and the same everywhere."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.permutation import below, derive_key, permutation, permute, unpermute


def test_these_are_the_values_on_every_machine() -> None:
    assert permutation(10, np.uint64(7), 3).tolist() == [4, 8, 7, 0, 9, 5, 3, 2, 1, 6]
    assert [int(permute(i, 10**12, np.uint64(7))) for i in range(3)] == [
        201050314996,
        165887941934,
        116397768800,
    ]
    assert int(derive_key(np.uint64(1), 2)) == 13237312742571286879


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**63 - 1))
def test_a_permutation_is_a_bijection_with_an_inverse(size: int, key: int) -> None:
    images = [permute(index, size, np.uint64(key)) for index in range(size)]
    assert sorted(images) == list(range(size))
    assert [unpermute(image, size, np.uint64(key)) for image in images] == list(range(size))


@pytest.mark.parametrize("size", [10**9 + 7, 2**40, 2**40 + 1])
def test_large_domains_too(size: int) -> None:
    for index in (0, 1, size // 2, size - 1):
        image = permute(index, size, np.uint64(9))
        assert 0 <= image < size
        assert unpermute(image, size, np.uint64(9)) == index


@pytest.mark.parametrize("size", [3, 6, 16, 37, 300])
def test_every_place_is_as_likely_as_another(size: int) -> None:
    keys = 6000
    seen = np.zeros((size, size))
    for number in range(keys):
        seen[np.arange(size), permutation(size, np.uint64(11), number)] += 1
    expected = keys / size
    chi_square = ((seen - expected) ** 2 / expected).sum() / (size - 1) ** 2
    # about 1 for a fair shuffle, with a spread of sqrt(2) / (size - 1)
    assert chi_square < 1 + 6 * np.sqrt(2) / (size - 1) + 0.25


def test_neighbours_do_not_stay_together() -> None:
    order = permutation(10_000, np.uint64(5), 1)
    assert (np.abs(np.diff(order)) == 1).sum() < 12  # 2 are expected
    places = Counter((order[:-1] // 1000 * 10 + order[1:] // 1000).tolist())
    assert max(places.values()) < 150  # 100 are expected


def test_below_is_even() -> None:
    found = Counter(int(below(np.uint64(derive_key(np.uint64(3), n)), 7)) for n in range(7000))
    assert sorted(found) == list(range(7))
    assert max(found.values()) - min(found.values()) < 200
