"""What a rank imports and compiles before its first step, for the fork server to do it once."""

import deepspeed.runtime.zero.muon.muon_optimizer  # with it all of torch's compiler
import numba
import transformers.models.llama.modeling_llama

import train.cpt
import train.launch

READY = (deepspeed, transformers, train)

with train.launch.no_linker_noise():
    READY += (deepspeed.ops.__compatible_ops__,)


@numba.njit
def add_one(number: int) -> int:
    """Anything: numba reads its own tables when it compiles for the first time."""
    return number + 1


add_one(1)
