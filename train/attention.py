"""Attention inside documents only: who may attend to whom, and the kernels that obey it.

A micro-batch of sequences is flattened to one row; `Documents` says where each document's part of
the row begins and ends (a new sequence always begins a new part). Every backend below computes
causal attention within the parts and nothing else, so no gradient crosses a document's border:
not a small one, none.

The backends are registered with transformers' attention interface, which hands the keyword
argument `documents` of the model's forward down to every layer; with no mask given, transformers
builds none.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface

from corpus.settings import UserError

PREFIX = "lianjin_"
# transformers takes any name with "flash" in it for one of its own.
_REGISTERED = {"flash": "fa"}


@dataclass(frozen=True)
class Documents:
    """The parts of a flattened row of T tokens that attend within themselves."""

    lengths: tuple[int, ...]
    """Tokens of each part, in order; they add up to T."""
    boundaries: torch.Tensor
    """int32 on the model's device: 0, then the cumulative lengths; on a GPU followed by copies of
    T up to a multiple of 64 entries (empty parts), so that kernels meet few different shapes."""
    longest: int
    """An upper bound of `lengths`: the length of a sequence."""

    @functools.cached_property
    def block_mask(self) -> BlockMask:
        """The same for FlexAttention; made once for all layers."""
        return _block_mask(self)

    def attended_pairs(self) -> int:
        """Pairs (query, key) that attend: sum of l(l+1)/2 over the parts."""
        lengths = np.asarray(self.lengths, dtype=np.int64)
        return int((lengths * (lengths + 1) // 2).sum())


def find_documents(positions: NDArray[np.integer[Any]], device: torch.device) -> Documents:
    """The parts of a micro-batch, from its positions.

    Args:
        positions: integers [n, L]; a part begins at each sequence's start and wherever a position
            is not its left neighbour's plus one.
        device: where `boundaries` goes.
    """
    begins = np.ones(positions.shape, dtype=bool)
    begins[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    starts = np.flatnonzero(begins.reshape(-1))
    edges = np.append(starts, positions.size).astype(np.int32)
    lengths = tuple(np.diff(edges).tolist())
    if device.type == "cuda":
        edges = np.pad(edges, (0, -(len(edges) - 1) % 64), mode="edge")
        boundaries = torch.from_numpy(edges).pin_memory().to(device, non_blocking=True)
    else:
        boundaries = torch.from_numpy(edges)
    return Documents(lengths, boundaries, positions.shape[1])


def choose_attention(wanted: str, device: torch.device, dtype: torch.dtype) -> str:
    """The backend's name for transformers' `attn_implementation`.

    `auto` is the fastest on a GPU in bf16, and `documents` elsewhere.

    Raises:
        UserError: the wanted backend does not run on this device or is not installed.
    """
    half = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if wanted == "auto":
        wanted = _fastest() if half else "documents"
    if wanted in ("varlen", "flex", "flash") and not half:
        raise UserError(f"backends.attention: {wanted} needs a GPU and bf16; take 'documents'")
    if wanted == "flash":
        try:
            _flash_function()
        except ImportError as error:
            raise UserError(
                f"backends.attention: flash needs a working flash-attn-4: {error}"
            ) from error
    return "sdpa" if wanted == "sdpa" else PREFIX + _REGISTERED.get(wanted, wanted)


def _fastest() -> str:
    """flash-attn-4 where it is installed and works; torch's own kernel needs nothing."""
    if importlib.util.find_spec("flash_attn") is None:
        return "varlen"
    try:
        _flash_function()
    except ImportError as error:
        warnings.warn(f"attention falls back to torch's own kernel: {error}", stacklevel=3)
        return "varlen"
    return "flash"


@functools.cache
def _flash_function() -> Callable[..., Any]:
    """flash-attn-4's function (Hopper and later), or flash-attn's where that is what there is."""
    try:
        from flash_attn.cute import (  # type: ignore[import-not-found]
            flash_attn_varlen_func,
        )
    except ModuleNotFoundError as error:
        if error.name not in ("flash_attn", "flash_attn.cute"):
            raise
        from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]
    return flash_attn_varlen_func  # type: ignore[no-any-return]


def _documents(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    documents: Documents,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """One causal SDPA call a document; [1, heads, T, d] in, [1, T, heads, d] out."""
    grouped = query.shape[1] != key.shape[1]
    lengths = list(documents.lengths)
    parts = zip(*(tensor.split(lengths, 2) for tensor in (query, key, value)), strict=True)
    outputs = [
        F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=grouped
        )
        for q, k, v in parts
    ]
    return torch.cat(outputs, 2).transpose(1, 2), None


def varlen_function(name: str) -> Callable[..., torch.Tensor]:
    """The kernel behind a backend that takes rows: (query, key, value, documents, scale) -> out.

    query [T, heads, d], key and value [T, key heads, d]; out like query.
    """
    kernels = {"varlen": _torch_varlen, "flex": _flex, "fa": _flash_varlen}
    return kernels[name.removeprefix(PREFIX)]


def _torch_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scale: float | None,
) -> torch.Tensor:
    """torch's own FlashAttention 2."""
    edges, longest = documents.boundaries, documents.longest
    out: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, edges, edges, longest, longest, 0.0, True, False, scale=scale
    )[0]
    return out


def _flash_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scale: float | None,
) -> torch.Tensor:
    """The flash-attn-4 package."""
    edges, longest = documents.boundaries, documents.longest
    out = _flash_function()(
        query,
        key,
        value,
        cu_seqlens_q=edges,
        cu_seqlens_k=edges,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=scale,
        causal=True,
    )
    return out[0] if isinstance(out, tuple) else out


def _flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: Documents,
    scale: float | None,
) -> torch.Tensor:
    """torch's FlexAttention, compiled; it skips blocks that no document needs."""
    heads_first = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    out: torch.Tensor = _compiled_flex()(
        *heads_first,
        block_mask=documents.block_mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[0].transpose(0, 1)


@functools.cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    compiled: Callable[..., torch.Tensor] = torch.compile(flex_attention, dynamic=False)
    return compiled


def _block_mask(documents: Documents) -> BlockMask:
    """Which blocks of 128 by 128 (query, key) pairs hold a pair that attends, from the lengths.

    torch's own `create_block_mask` would look at every pair.
    """
    device = documents.boundaries.device
    lengths = np.asarray(documents.lengths, np.int64)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens, size = len(starts), 128
    blocks = -(-tokens // size)
    first = np.arange(blocks) * size
    last = np.minimum(first + size, tokens) - 1
    lowest = starts[first] // size
    # Below the diagonal, a key block is attended whole if the last query's document covers it
    # and is the first query's too.
    covered = np.where(starts[first] == starts[last], -(-starts[last] // size), np.arange(blocks))
    whole = np.maximum(np.arange(blocks) - covered, 0)
    partial = np.arange(blocks) - lowest + 1 - whole
    columns = np.arange(blocks)[None, :]
    whole_index = covered[:, None] + columns
    partial_index = np.where(
        columns < (covered - lowest)[:, None], lowest[:, None] + columns, np.arange(blocks)[:, None]
    )

    def move(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.int32)).to(device)[None, None]

    document = torch.from_numpy(starts.astype(np.int32)).to(device)

    def attends(b: Any, h: Any, query: Any, key: Any) -> Any:
        return (document[query] == document[key]) & (query >= key)

    return BlockMask.from_kv_blocks(
        move(partial),
        move(np.minimum(partial_index, blocks - 1)),
        move(whole),
        move(np.minimum(whole_index, blocks - 1)),
        BLOCK_SIZE=size,
        mask_mod=attends,
        seq_lengths=(tokens, tokens),
    )


def _in_layers(name: str) -> Callable[..., tuple[torch.Tensor, None]]:
    """A row kernel in the shape of transformers' attention interface."""
    kernel = varlen_function(name)

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        *,
        documents: Documents,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        rows = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        return kernel(*rows, documents, scaling)[None], None

    return attend


AttentionInterface.register(PREFIX + "documents", _documents)
for _name in ("varlen", "flex", "fa"):
    AttentionInterface.register(PREFIX + _name, _in_layers(_name))
