"""A key space of their own for the ranks of each start under torchrun.

torchrun's agent keeps one TCP store over all restarts, and torch 2.13 (as 2.5, its issue 135712)
puts the ranks' addresses into it under the same keys every time. A restarted rank may read where
its neighbour was before the crash: gloo then connects to nobody, and NCCL waits for nobody. The
count of restarts in the environment does not help: each agent has its own, and ranks that come or
go do not raise it.

So the first rank names the start, and the others ask: under a name nobody used before, until an
answer to just that name comes.
"""

import time
import uuid

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

_PAUSE_S = 0.02


def own_store(store: Store, rank: int, world_size: int, timeout_s: float) -> Store:
    """The part of `store` that only the ranks of this start use. All ranks call it.

    Raises:
        TimeoutError: some rank did not come.
    """
    deadline = time.monotonic() + timeout_s
    if rank:
        name = _ask(store, rank, deadline)
    else:
        name = uuid.uuid4().hex
        _answer(store, name, world_size, deadline)
    return PrefixStore(f"start-{name}", store)


def _ask(store: Store, rank: int, deadline: float) -> str:
    token = uuid.uuid4().hex
    store.set(f"asks/{rank}", token)
    while not store.check([f"answers/{token}"]):
        _pause(deadline, "the first rank")
    name: str = store.get(f"answers/{token}").decode()
    store.set(f"came/{name}/{rank}", "")
    return name


def _answer(store: Store, name: str, world_size: int, deadline: float) -> None:
    """Answer until every rank has come: the token found first may be one from before the crash."""
    missing = set(range(1, world_size))
    while missing:
        for rank in missing:
            if store.check([f"asks/{rank}"]):
                store.set(f"answers/{store.get(f'asks/{rank}').decode()}", name)
        missing = {rank for rank in missing if not store.check([f"came/{name}/{rank}"])}
        if missing:
            _pause(deadline, f"ranks {sorted(missing)}")


def _pause(deadline: float, who: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"no sign of {who} when the run's processes met")
    time.sleep(_PAUSE_S)
