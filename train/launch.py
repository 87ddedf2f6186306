"""Starting a process of a run: the same code under `python`, `torchrun` and `deepspeed`.

A plain `python -m train.cpt` is a run of one rank; what the launchers would set in the
environment is set here, before DeepSpeed looks.
"""

import contextlib
import datetime
import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from train.rendezvous import own_store

# DeepSpeed 0.19 calls collectives by names that torch 2.13 is about to drop: one warning a call.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)

# DeepSpeed warns at import when it finds no GPU and is not told that this is meant.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def no_linker_noise() -> Iterator[None]:
    """Hide what child processes write to stderr; exceptions pass."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with no_linker_noise():  # importing DeepSpeed tries to link libraries that nothing here needs
    import deepspeed as deepspeed


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True on the rank that writes logs and reports."""
        return self.rank == 0


def world_size() -> int:
    """How many ranks the launcher started; 1 under a plain `python`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start(timeout_s: float) -> Ranks:
    """Join the run's process group (gloo on CPU, NCCL on GPUs) and choose this rank's device.

    Args:
        timeout_s: after which a rank that waits for the others ends by itself, and says for whom it
            waits (`train.heartbeat`); collectives fail a little later.
    """
    _set_defaults()
    cuda = torch.cuda.is_available()
    if not cuda:
        # Else every start compiles DeepSpeed's shared-memory collectives (24 s), which gloo
        # replaces with the same results.
        with no_linker_noise():
            from deepspeed.ops import __compatible_ops__

        __compatible_ops__["deepspeed_shm_comm"] = False
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        _meet(device, datetime.timedelta(seconds=1.25 * timeout_s + 30))
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def _meet(device: torch.device, timeout: datetime.timedelta) -> None:
    """Make the process group of all ranks."""
    rank, number = int(os.environ["RANK"]), world_size()
    arguments: dict[str, Any] = {"rank": rank, "world_size": number}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        agents = TCPStore(address, port, number, is_master=False, timeout=timeout)
        arguments["store"] = own_store(agents, rank, number, timeout.total_seconds())
    if device.type == "cuda" and number > 1:
        arguments["device_id"] = device  # so that barriers need not guess it
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", timeout=timeout, **arguments
    )


def stop() -> None:
    """Leave the process group."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _set_defaults() -> None:
    """Environment of a lone rank, and settings that every rank wants."""
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(
            RANK="0",
            LOCAL_RANK="0",
            WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    # One parse of the architecture list in DeepSpeed's kernel builder dies on "9.0a".
    architectures = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    if architectures:
        os.environ["TORCH_CUDA_ARCH_LIST"] = architectures.replace("9.0a", "9.0")
