"""The blocks of a Llama-like model over flattened rows, with fused kernels between the products.

The modules and their weights stay transformers' own, under their own names; only their forward
methods are exchanged, on the instances. So checkpoints, ZeRO's hooks and export see no
difference, and `backends.kernels: torch` gives the same model computed in the plain way.

Between blocks a pair travels instead of a tensor: what the last block added, and the residual
stream without it. The sum is taken inside the next norm.
"""

from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from corpus.settings import UserError
from train.accumulate import products
from train.attention import PREFIX, Documents, varlen_function
from train.kernels import AddNorm, Rotary, SwiGlu
from train.model import FUSED_FAMILIES


def fuse_blocks(model: PreTrainedModel, attention: str) -> None:
    """Exchange the forward methods of the model's blocks.

    Args:
        attention: the name of a variable-length backend of `train.attention`.

    Raises:
        UserError: the model is of a family whose blocks are not known here.
    """
    if model.config.model_type not in FUSED_FAMILIES:
        raise UserError(
            f"backends.kernels: {model.config.model_type} has no fused blocks; take 'torch'"
        )
    base: Any = model.base_model
    width = base.layers[0].self_attn.head_dim
    if width & (width - 1):
        raise UserError(f"backends.kernels: heads of {width} are no power of two; take 'torch'")
    if not attention.startswith(PREFIX) or attention == PREFIX + "documents":
        raise UserError("backends.kernels: fused blocks need varlen, flex or flash attention")
    attend = varlen_function(attention)
    for layer in base.layers:
        layer.self_attn.attend = attend
        layer.self_attn.forward = MethodType(_attention, layer.self_attn)
        layer.mlp.forward = MethodType(_mlp, layer.mlp)
        layer.input_layernorm.forward = MethodType(_norm, layer.input_layernorm)
        layer.post_attention_layernorm.forward = MethodType(_norm, layer.post_attention_layernorm)
        layer.forward = MethodType(_block, layer)
    base.norm.forward = MethodType(_last_norm, base.norm)
    base.rotary_emb.forward = MethodType(_angles, base.rotary_emb)


Pair = tuple[torch.Tensor, torch.Tensor | None]


def _block(self: Any, hidden_states: Any, **kwargs: Any) -> Pair:
    stream, added = hidden_states if isinstance(hidden_states, tuple) else (hidden_states, None)
    stream, normal = self.input_layernorm(stream, added)
    attended = self.self_attn(
        normal, position_embeddings=kwargs["position_embeddings"], documents=kwargs["documents"]
    )
    stream, normal = self.post_attention_layernorm(stream, attended)
    return stream, self.mlp(normal)


def _norm(self: Any, stream: torch.Tensor, added: torch.Tensor | None) -> Pair:
    pair: Pair = AddNorm.apply(stream, added, self.weight, self.variance_epsilon)
    return pair


def _last_norm(self: Any, hidden_states: Any) -> torch.Tensor:
    stream, added = hidden_states if isinstance(hidden_states, tuple) else (hidden_states, None)
    normal: torch.Tensor = AddNorm.apply(stream, added, self.weight, self.variance_epsilon)[1]
    return normal


def _attention(
    self: Any,
    hidden: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    documents: Documents,
) -> torch.Tensor:
    tokens = hidden.shape[1]
    query, key, value = (
        part.view(tokens, -1, self.head_dim)
        for part in products(hidden, self.q_proj, self.k_proj, self.v_proj)
    )
    if hasattr(self, "q_norm"):  # Qwen 3
        query, key = self.q_norm(query), self.k_norm(key)
    query = Rotary.apply(query, *position_embeddings)
    key = Rotary.apply(key, *position_embeddings)
    attended = self.attend(query, key, value, documents, self.scaling)
    out: torch.Tensor = self.o_proj(attended.reshape(1, tokens, -1))
    return out


def _mlp(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    gate_and_up = products(hidden, self.gate_proj, self.up_proj)
    out: torch.Tensor = self.down_proj(SwiGlu.apply(*gate_and_up))
    return out


@torch.no_grad()
def _angles(
    self: Any, hidden: torch.Tensor, position_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, fp32 [T, width / 2]; bf16 ones, as transformers rounds them, lose 8 bits."""
    angles = position_ids[0, :, None].float() * self.inv_freq.float()
    return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
