"""Ranks that meet over a store which remembers their earlier starts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch.distributed import HashStore, Store

from train.rendezvous import own_store


def meet(store: Store, ranks: int) -> list[Any]:
    """What each rank's store holds under one key, after every rank has written there."""
    with ThreadPoolExecutor(ranks) as pool:
        stores = list(pool.map(lambda rank: own_store(store, rank, ranks, 20.0), range(ranks)))
    for rank, own in enumerate(stores):
        own.set(f"address/{rank}", "here")
    return [[own.check([f"address/{rank}"]) for rank in range(3)] for own in stores]


def test_each_start_sees_its_own_ranks_and_none_of_those_before() -> None:
    store = HashStore()
    assert meet(store, 3) == [[True, True, True]] * 3
    # One rank fewer, as after the loss of a machine; then the machine is back.
    assert meet(store, 2) == [[True, True, False]] * 2
    assert meet(store, 3) == [[True, True, True]] * 3


def test_a_rank_that_does_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"no sign of ranks \[1\]"):
        own_store(HashStore(), 0, 2, 0.1)
