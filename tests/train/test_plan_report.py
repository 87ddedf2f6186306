"""What a run is said to cost, against sums by hand."""

import pytest
from transformers import LlamaConfig

from train.plan_report import memory_parts, trained_parameters
from train.run_config import Phase, RunConfig

SHAPE = LlamaConfig(
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=100,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)
BLOCK = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 100
TOTAL = 3 * BLOCK + 2 * 64_000


def run_config(**changes: object) -> RunConfig:
    phase = {"name": "all", "learning_rate": {"peak": 1e-4}}
    required = {"name": "x", "output": "o", "model": {"path": "m"}, "tokenizer": "t"}
    inputs = {"shards": "s", "mixture": "m", "micro_batch_tokens": 512, "phases": [phase]}
    return RunConfig.model_validate(required | inputs | changes)


def phase(**changes: object) -> Phase:
    return Phase.model_validate({"name": "x", "learning_rate": {"peak": 1}} | changes)


def test_trained_parameters() -> None:
    assert trained_parameters(SHAPE, phase()) == TOTAL
    assert trained_parameters(SHAPE, phase(train=["embeddings", "lm_head"])) == 128_000
    adapters = phase(train="lora", lora={"rank": 8, "targets": ["q_proj", "v_proj", "up_proj"]})
    assert trained_parameters(SHAPE, adapters) == 3 * 8 * (128 + 96 + 164)


def test_memory_of_stage_2_in_bf16() -> None:
    run = run_config(deepspeed={"zero_optimization": {"stage": 2, "overlap_comm": True}})
    on_device, on_host = memory_parts(run, SHAPE, phase(), ranks=4)
    assert not on_host
    assert on_device == {
        "weights": 2 * TOTAL,
        "gradients": 2 * TOTAL / 4,
        "optimizer state and fp32 weights": 12 * TOTAL / 4,
        "gradients on their way": 4 * TOTAL,
        "activations": 2 * 512 * 3 * (4 * 64 + 2 * 64 + 2 * 32 + 300),
        "pieces of logits": 512 * 1000 * 2,
        "output layer's gradient in fp32": 4 * 64_000,
    }


def test_what_is_offloaded_is_in_host_memory() -> None:
    away = {"device": "cpu"}
    zero = {"stage": 3, "offload_optimizer": away, "offload_param": away}
    run = run_config(
        deepspeed={"zero_optimization": zero}, precision={"activation_checkpointing": True}
    )
    on_device, on_host = memory_parts(run, SHAPE, phase(), ranks=4)
    assert on_host == pytest.approx(
        {"weights": 2 * TOTAL / 4, "optimizer state and fp32 weights": 12 * TOTAL / 4}
    )
    assert on_device["activations"] == 2 * 512 * (3 * 64 + 4 * 64 + 2 * 64 + 2 * 32 + 300)
