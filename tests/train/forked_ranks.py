"""Ranks of a run as real processes that can be killed, without paying for imports each time.

One fork server imports the trainer; every rank is a fork of it, with the environment that torchrun
would set.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["rank_warmup"])


def start_ranks(
    number: int, configs: Sequence[Path], bad_step: int = -1, dies_writing: str = ""
) -> list[BaseProcess]:
    """`python -m train.cpt CONFIG` on `number` ranks, one config after the other.

    Args:
        bad_step: in this step (from 0) of each run, the last rank's gradients are NaN.
        dies_writing: writing this checkpoint, the last rank kills itself in the middle of a file.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        _server.Process(
            target=_rank,
            args=(rank, number, port, [*map(str, configs)], bad_step, dies_writing),
            daemon=True,
        )
        for rank in range(number)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def run_ranks(number: int, configs: Sequence[Path], bad_step: int = -1) -> None:
    """The same, to their ends, which must be good."""
    ranks = start_ranks(number, configs, bad_step)
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * number


def _rank(
    rank: int, number: int, port: int, configs: list[str], bad_step: int, dies_writing: str
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(number),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import torch

    from train import cpt

    torch.set_num_threads(1)
    if rank == number - 1:
        spoil_step(bad_step)
        _die_writing(dies_writing)
    for config in configs:
        status = cpt.main([config])
        if status:
            sys.exit(status)


def spoil_step(bad_step: int) -> None:
    """Make this process' gradients of one step NaN, in every run from now on."""
    from train import cpt

    take_step = cpt.take_step
    poison = cpt.poison

    def take(run: Any, engine: Any, batch: Any, step: int, *rest: Any) -> Any:
        factor = float("nan") if step == bad_step else 1.0
        cpt.poison = lambda loss, limit: poison(loss * factor, limit)
        return take_step(run, engine, batch, step, *rest)

    cpt.take_step = take


def _die_writing(checkpoint: str) -> None:
    import torch

    save = torch.save

    def save_half(state: Any, path: Path) -> None:
        save(state, path)
        if path.parent.name == checkpoint:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half
