"""Attention inside documents only: who may attend to whom, and the kernels that obey it.

A micro-batch of sequences is flattened to one row; `Documents` says where each document's part of
the row begins and ends (a new sequence always begins a new part). Every backend below computes
causal attention within the parts and nothing else, so no gradient crosses a document's border:
not a small one, none.

The backends are registered with transformers' attention interface, which hands the keyword
argument `documents` of the model's forward down to every layer; with no mask given, transformers
builds none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AttentionInterface

from corpus.settings import UserError

PREFIX = "lianjin_"


@dataclass(frozen=True)
class Documents:
    """The parts of a flattened row of T tokens that attend within themselves."""

    lengths: tuple[int, ...]
    """Tokens of each part, in order; they add up to T."""
    boundaries: torch.Tensor
    """int32 [parts + 1] on the model's device: 0, then the cumulative lengths."""
    longest: int
    """An upper bound of `lengths`."""

    def attended_pairs(self) -> int:
        """Pairs (query, key) that attend: sum of l(l+1)/2 over the parts."""
        lengths = np.asarray(self.lengths, dtype=np.int64)
        return int((lengths * (lengths + 1) // 2).sum())


def find_documents(positions: NDArray[np.int64], device: torch.device) -> Documents:
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
    lengths = np.diff(edges)
    boundaries = torch.from_numpy(edges)
    if device.type == "cuda":
        boundaries = boundaries.pin_memory().to(device, non_blocking=True)
    return Documents(tuple(lengths.tolist()), boundaries, int(lengths.max()))


def choose_attention(wanted: str, device: torch.device, dtype: torch.dtype) -> str:
    """The backend's name for transformers' `attn_implementation`.

    `auto` is `varlen` on a GPU in bf16 and `documents` elsewhere.

    Raises:
        UserError: the wanted backend does not run on this device or is not installed.
    """
    half = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if wanted == "auto":
        wanted = "varlen" if half else "documents"
    if wanted in ("varlen", "cudnn", "flash") and not half:
        raise UserError(f"backends.attention: {wanted} needs a GPU and bf16; take 'documents'")
    if wanted == "flash":
        try:
            import flash_attn  # noqa: F401
        except ImportError as error:
            raise UserError("backends.attention: flash needs the flash-attn package") from error
    return "sdpa" if wanted == "sdpa" else PREFIX + wanted


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


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """[1, heads, T, d] as [T, heads, d]."""
    return tensor[0].transpose(0, 1)


def _varlen(
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
    """torch's variable-length FlashAttention."""
    out = torch.ops.aten._flash_attention_forward(
        _rows(query), _rows(key), _rows(value), documents.boundaries, documents.boundaries,
        documents.longest, documents.longest, dropout, True, False, scale=scaling,
    )[0]  # fmt: skip
    return out[None], None


def _flash(
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
    """The flash-attn package's variable-length kernel."""
    from flash_attn import flash_attn_varlen_func

    out = flash_attn_varlen_func(
        _rows(query), _rows(key), _rows(value), documents.boundaries, documents.boundaries,
        documents.longest, documents.longest, dropout_p=dropout, softmax_scale=scaling, causal=True,
    )  # fmt: skip
    return out[None], None


AttentionInterface.register(PREFIX + "documents", _documents)
AttentionInterface.register(PREFIX + "varlen", _varlen)
AttentionInterface.register(PREFIX + "flash", _flash)
