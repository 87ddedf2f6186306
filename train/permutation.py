"""Keyed permutations that are computed, not stored: a Feistel network with cycle walking.

A Feistel network over 2h bits is a bijection whatever its round function is (Luby & Rackoff
1988); indices that it leads out of 0…size-1 are sent through it again until they come back
(cycle walking, Black & Rogaway 2002). With 2^(2h) < 4 * size that takes less than four passes on
average. The round function mixes 64 bits (the finaliser of MurmurHash3), so results are the same
on every machine. This is for shuffling data, not for keeping secrets.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_ROUNDS = 6
# Few distinct round functions exist on few bits: small domains need more rounds to be even.
_SMALL, _ROUNDS_WHEN_SMALL = 256, 14

njit: Callable[..., Any] = numba.njit


@njit(cache=True, nogil=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@njit(cache=True, nogil=True)
def derive_key(key: np.uint64, number: int) -> np.uint64:
    """A 64-bit key that depends on all bits of `key` (uint64) and `number` (int64)."""
    mixed = _mix(np.uint64(key) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(mixed ^ _mix(np.uint64(number) + np.uint64(1)))


@njit(cache=True, nogil=True)
def below(key: np.uint64, size: int) -> np.int64:
    """A number from 0…size-1 (int64) that follows from `key`."""
    return np.int64(_mix(np.uint64(key) ^ np.uint64(0xD6E8FEB86659FD93)) % np.uint64(size))


@njit(cache=True, nogil=True)
def _half_bits(size: int) -> int:
    half = 1
    while (1 << (2 * half)) < size:
        half += 1
    return half


@njit(cache=True, nogil=True)
def permute(index: int, size: int, key: np.uint64) -> np.int64:
    """Where the permutation of 0…size-1 under `key` sends `index`; all int64, `key` uint64."""
    if size <= 1:
        return np.int64(0)
    rounds = _ROUNDS_WHEN_SMALL if size <= _SMALL else _ROUNDS
    seed, half = np.uint64(key), np.uint64(_half_bits(size))
    mask = (np.uint64(1) << half) - np.uint64(1)
    value = np.uint64(index)
    while True:
        left, right = value >> half, value & mask
        for turn in range(rounds):
            mixed = _mix(seed + right * np.uint64(0x9E3779B97F4A7C15) + np.uint64(turn << 56))
            left, right = right, left ^ (mixed & mask)
        value = (left << half) | right
        if value < np.uint64(size):
            return np.int64(value)


@njit(cache=True, nogil=True)
def unpermute(image: int, size: int, key: np.uint64) -> np.int64:
    """The index that `permute` sends to `image`."""
    if size <= 1:
        return np.int64(0)
    rounds = _ROUNDS_WHEN_SMALL if size <= _SMALL else _ROUNDS
    seed, half = np.uint64(key), np.uint64(_half_bits(size))
    mask = (np.uint64(1) << half) - np.uint64(1)
    value = np.uint64(image)
    while True:
        left, right = value >> half, value & mask
        for turn in range(rounds - 1, -1, -1):
            mixed = _mix(seed + left * np.uint64(0x9E3779B97F4A7C15) + np.uint64(turn << 56))
            left, right = right ^ (mixed & mask), left
        value = (left << half) | right
        if value < np.uint64(size):
            return np.int64(value)


@njit(cache=True, nogil=True)
def permutation(size: int, key: np.uint64, number: int) -> np.ndarray:
    """All of the permutation under `derive_key(key, number)`: int64 [size]."""
    own = derive_key(key, number)
    images = np.empty(size, np.int64)
    for index in range(size):
        images[index] = permute(index, size, own)
    return images
