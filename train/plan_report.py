"""The text of `--plan`: parameters, memory on each device by part, steps, tokens and hours.

Memory is what stays over a step and what is largest inside one, from the model's shape; a run
takes a few GiB more for the libraries' own buffers and for what the allocator cannot reuse.
"""

from typing import Any

from rich.console import Console
from rich.table import Table
from transformers import PreTrainedConfig

from train.objective import LossHead
from train.run_config import Phase, RunConfig, deepspeed_config, zero_stage
from train.run_plan import PhasePlan, RunPlan, plan_run
from train.throughput import matrix_weights, peak_flops, phase_flops

Bytes = dict[str, float]


def describe(run: RunConfig, ranks: int, mfu: float, device: str) -> str:
    """What `--plan` prints.

    Args:
        mfu: share of the device's peak that the run is assumed to reach.
        device: a name in `train.throughput.PEAK_BF16`; with another, no hours are told.
    """
    plan = plan_run(run, ranks)
    blocks, head = matrix_weights(plan.shape)
    tied = bool(plan.shape.tie_word_embeddings)
    tables = head * (1 if tied else 2)
    table = Table(
        title=f"{run.name}: {ranks} × {device}, ZeRO stage {zero_stage(deepspeed_config(run, 1))}",
        title_justify="left",
        show_header=False,
    )
    table.add_column()
    table.add_column(justify="right")
    table.add_row("parameters (norms not counted)", f"{blocks + tables:,}")
    table.add_row("  in the blocks", f"{blocks:,}")
    table.add_row(f"  in the vocabulary's rows ({'tied' if tied else 'two tables'})", f"{tables:,}")
    table.add_row("buckets", str(len(plan.bucket_names)))
    table.add_row("tokens", f"{plan.stream.tokens_before(plan.steps):,}")
    table.add_row("steps", f"{plan.steps:,}")
    table.add_row("tokens a step", f"{plan.batch_tokens:,}")
    table.add_row("  micro-batches of each rank", f"{plan.accumulation_steps:,}")
    peak = peak_flops(device)
    hours = 0.0
    for phase in plan.phases:
        tokens = plan.stream.tokens_before(phase.end) - plan.stream.tokens_before(phase.first)
        table.add_section()
        table.add_row(f"phase {phase.name}", f"{phase.steps:,} steps, {tokens:,} tokens")
        trained = trained_parameters(plan.shape, phase.settings)
        table.add_row("  trained parameters", f"{trained:,}")
        on_device, on_host = memory_parts(run, plan.shape, phase.settings, ranks)
        for part, size in on_device.items():
            table.add_row(f"  {part}", _gib(size))
        table.add_row("  on each device in all", _gib(sum(on_device.values())))
        for part, size in on_host.items():
            table.add_row(f"  host: {part}", _gib(size))
        if peak is not None:
            spent = _model_flops(plan, phase, tokens) / (peak * mfu * ranks) / 3600
            hours += spent
            table.add_row(f"  hours at {mfu:.0%} MFU", f"{spent:,.2f}")
    table.add_section()
    if peak is None:
        table.add_row("hours", f"unknown: no peak is known for '{device}'")
    else:
        table.add_row(f"hours in all at {mfu:.0%} MFU", f"{hours:,.2f}")
    console = Console(width=96)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"


def _model_flops(plan: RunPlan, phase: PhasePlan, tokens: int) -> float:
    """Without looking at the documents: causal attention over half of each sequence."""
    pairs = tokens * plan.schedule.longest_sequence / 2
    return phase_flops(plan.shape, phase.settings).of(tokens, pairs)


def trained_parameters(shape: PreTrainedConfig, phase: Phase) -> int:
    """How many parameters a phase trains (norms not counted)."""
    blocks, head = matrix_weights(shape)
    tied = bool(shape.tie_word_embeddings)
    if phase.train == "all":
        return blocks + head * (1 if tied else 2)
    if phase.train == "lora":
        hidden, inner = shape.hidden_size, shape.intermediate_size
        queries, keys = _attention_widths(shape)
        # In plus out of each linear layer of a block.
        widths = {
            "q_proj": hidden + queries,
            "k_proj": hidden + keys,
            "v_proj": hidden + keys,
            "o_proj": hidden + queries,
            "gate_proj": hidden + inner,
            "up_proj": hidden + inner,
            "down_proj": hidden + inner,
        }
        width = sum(widths.get(target, 0) for target in set(phase.lora.targets))
        return int(shape.num_hidden_layers) * phase.lora.rank * width
    return head * (1 if tied else len(set(phase.train)))


def memory_parts(
    run: RunConfig, shape: PreTrainedConfig, phase: Phase, ranks: int
) -> tuple[Bytes, Bytes]:
    """Bytes by part: on each device, and in host memory for each rank.

    A block keeps for its backward pass, of each token: two residual sums, two normed inputs, the
    queries and the attention's output (as wide as the model), keys and values, and the gate, the
    up projection and their product (as wide as the MLP). With checkpointing it keeps its input
    alone, and one block at a time is whole.
    """
    config = deepspeed_config(run, 1)
    stage, zero = zero_stage(config), config["zero_optimization"]
    blocks, head = matrix_weights(shape)
    total = blocks + head * (1 if shape.tie_word_embeddings else 2)
    trained = trained_parameters(shape, phase)
    half = run.precision.weights == "bf16"
    wide = 2 if half else 4
    on_device: Bytes = {}
    on_host: Bytes = {}

    def place(part: str, size: float, offload: str) -> None:
        away = zero.get(offload, {}).get("device", "none") if stage else "none"
        if away == "cpu":
            on_host[part] = size
        elif away == "none":
            on_device[part] = size

    place("weights", wide * total / (ranks if stage == 3 else 1), "offload_param")
    on_device["gradients"] = wide * trained / (ranks if stage >= 2 else 1)
    state = "optimizer state" + (" and fp32 weights" if half else "")
    place(state, (12 if half else 8) * trained / (ranks if stage else 1), "offload_optimizer")
    if stage == 3:
        live = min(total, zero.get("stage3_max_live_parameters", 10**9))
        on_device["gathered weights"] = wide * live
    if stage:
        bucket = min(trained, zero.get("reduce_bucket_size", 5 * 10**8))
        on_device["gradients on their way"] = wide * bucket * (1 + bool(zero.get("overlap_comm")))
    on_device["activations"] = wide * run.micro_batch_tokens * _kept_by_token(run, shape)
    pieces = min(run.micro_batch_tokens, LossHead.tokens_at_a_time) * shape.vocab_size
    # The fused kernel turns logits into gradients where they are; plain torch needs fp32 copies.
    on_device["pieces of logits"] = pieces * (wide if half else 3 * wide)
    if phase.train == "all" or "lm_head" in phase.train:
        on_device["output layer's gradient in fp32"] = 4.0 * head
    return on_device, on_host


def _attention_widths(shape: PreTrainedConfig) -> tuple[int, int]:
    """Of all queries and of all keys."""
    heads = shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    return heads * width, (getattr(shape, "num_key_value_heads", None) or heads) * width


def _kept_by_token(run: RunConfig, shape: Any) -> int:
    """Numbers that the backward pass needs of a token."""
    queries, keys = _attention_widths(shape)
    block = 4 * shape.hidden_size + 2 * queries + 2 * keys + 3 * shape.intermediate_size
    if run.precision.activation_checkpointing:
        return int(shape.num_hidden_layers * shape.hidden_size + block)
    return int(shape.num_hidden_layers * block)
