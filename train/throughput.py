"""Model FLOPs, and what share of a device's peak they make: the figures of speed that we print.

Model FLOPs of a step, forward and backward together:

    6 * M * tokens  +  12 * layers * heads * head_width * pairs

M counts the weights of all matrices that every token is multiplied with: attention and MLP
projections and the output layer; the embedding table is looked up, not multiplied (a tied table
counts once, as the output layer), norms are not counted. A multiplication and an addition are
2 FLOPs, and the backward pass costs twice the forward. `pairs` counts the (query, key) pairs that
attend: causal and within documents, so sum of l(l+1)/2 over the parts of every sequence; each
pair costs 2 * 2 * head_width FLOPs a head forward. So a document mask raises tokens per second
and not this figure. What is computed twice (activation checkpointing, the softmax in a fused
attention's backward) is not counted. Frozen weights need no gradient of their own: a phase that
trains less counts 4 instead of 6 for them, and 2 where no gradient passes through (the formula is
Chowdhery et al. 2022, PaLM, appendix B, with attention counted exactly).

MFU is this per second over the dense bf16 peak of the device.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from train.run_config import Phase

PEAK_BF16 = {
    # Dense, without sparsity, from the vendor's data sheets; device names as torch gives them.
    "NVIDIA H200": 989.4e12,  # H200 data sheet: 1,979 TFLOP/s with sparsity
    "NVIDIA H100 80GB HBM3": 989.4e12,  # H100 SXM data sheet: 1,979 with sparsity
    "NVIDIA H100 PCIe": 756.5e12,  # H100 PCIe data sheet: 1,513 with sparsity
    "NVIDIA H100 NVL": 835.5e12,  # H100 NVL data sheet: 1,671 with sparsity
    "NVIDIA H800": 989.4e12,  # H800 SXM data sheet: the H100's, with less NVLink
    "NVIDIA H20": 148e12,  # H20 data sheet
    "NVIDIA A100-SXM4-80GB": 312e12,  # A100 data sheet
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A800-SXM4-80GB": 312e12,  # A800 data sheet: the A100's, with less NVLink
    "NVIDIA A800 80GB PCIe": 312e12,
    "NVIDIA B200": 2250e12,  # B200 data sheet
    "NVIDIA L40S": 362e12,  # L40S data sheet: 733 with sparsity, rounded down
    "NVIDIA GeForce RTX 4090": 165.2e12,  # Ada whitepaper, fp32 accumulation
}


@dataclass(frozen=True)
class ModelFlops:
    """The terms of the formula above, for one model and phase."""

    per_token: float
    """FLOPs of a token, attention's pairs left out."""
    per_pair: float
    """FLOPs of a pair (query, key), all layers."""

    def of(self, tokens: float, pairs: float) -> float:
        """Model FLOPs of some tokens with their attending pairs."""
        return self.per_token * tokens + self.per_pair * pairs


def matrix_weights(config: PreTrainedConfig) -> tuple[int, int]:
    """Weights that multiply each token: (inside the blocks, in the output layer).

    For dense decoders with gated MLPs (Llama, Mistral, Qwen 2 and 3).
    """
    hidden = config.hidden_size
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or hidden // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    attention = 2 * hidden * heads * width + 2 * hidden * keys * width
    block = attention + 3 * hidden * config.intermediate_size
    return config.num_hidden_layers * block, config.vocab_size * hidden


def phase_flops(config: PreTrainedConfig, phase: Phase) -> ModelFlops:
    """The formula's terms for what a phase trains (an adapter's own products are not counted)."""
    blocks, head = matrix_weights(config)
    trains_blocks = phase.train == "all"
    trains_head = trains_blocks or "lm_head" in phase.train
    through_blocks = trains_blocks or phase.train == "lora" or "embeddings" in phase.train
    if config.tie_word_embeddings and not trains_blocks and phase.train != "lora":
        trains_head = through_blocks = True
    block_factor = 6 if trains_blocks else 4 if through_blocks else 2
    head_factor = 2 + 2 * through_blocks + 2 * trains_head
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    pair_factor = 12 if through_blocks else 4
    return ModelFlops(
        per_token=float(block_factor * blocks + head_factor * head),
        per_pair=float(pair_factor * config.num_hidden_layers * heads * width),
    )


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 peak in FLOP/s by the device's name; None for a device not in the table.

    Never a guess: an unknown device has no MFU.
    """
    return PEAK_BF16.get(device_name)


def device_name(device: torch.device) -> str:
    """The name under which the device stands in the table."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
