"""One phase's DeepSpeed engine: model, optimizer and ZeRO, from weights on disk and back to disk.

Every phase has an engine of its own. Freezing and unfreezing inside one engine is a known sore
spot of DeepSpeed (its issues 4055, 4776, 5405, 6771): hooks and flat buffers stay as they were.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from corpus.settings import UserError
from train.accumulate import accumulate_in_products
from train.adapters import add_adapters, merge_adapters
from train.float8 import use_float8
from train.launch import Ranks, deepspeed
from train.model import (
    FUSED_FAMILIES,
    PackedLanguageModel,
    cast_weights,
    choose_trained,
    freeze_old_rows,
    parameter_groups,
    restore_rope,
)
from train.run_config import Phase, RunConfig, deepspeed_config, zero_stage
from train.stage_zero import FiniteAdamW, begin_afresh, master_weights


def start_engine(
    run: RunConfig,
    phase: Phase,
    causal_lm: PreTrainedModel,
    accumulation_steps: int,
    old_rows: int,
    ranks: Ranks,
    universal: bool = False,
) -> Any:
    """A fresh engine that trains what `phase` trains, from fp32 weights on the CPU.

    Args:
        old_rows: rows of the embedding that the base tokenizer knew, for `rows: new`.
        universal: the engine will load a universal checkpoint.
    """
    if phase.train == "lora":
        add_adapters(causal_lm, phase.lora, run.seed)
    choose_trained(causal_lm, phase)
    weight_decay = phase.weight_decay
    if phase.rows == "new":
        freeze_old_rows(causal_lm, old_rows)
        weight_decay = 0.0  # it would shrink the rows that must not change
    kernels = choose_kernels(run, causal_lm, ranks.device)
    use_kernels(causal_lm, kernels)
    config = deepspeed_config(run, accumulation_steps, universal)
    if run.precision.fp8 is not None and phase.train == "all":
        if zero_stage(config) == 3:
            raise UserError("precision.fp8: goes with ZeRO 0 to 2; leave it out")
        use_float8(causal_lm, run.precision.fp8, ranks.device)
    if run.precision.activation_checkpointing:
        causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
    model = PackedLanguageModel(causal_lm)
    causal_lm.get_output_embeddings().fast = kernels != "torch"
    model.train()
    masters = {}
    if run.precision.weights == "bf16":
        masters = _finer_than_bf16(model)
        cast_weights(model, torch.bfloat16)
    model.to(ranks.device)
    optimizer = _new_optimizer(run, parameter_groups(model, weight_decay), config, ranks)
    blocks: Any = causal_lm.base_model.layers
    if run.backends.compile:
        for block in blocks:
            block.compile()
    if kernels == "triton" and zero_stage(config) <= 1 and phase.train == "all":
        accumulate_in_products(blocks)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config, dist_init_required=False
    )
    restore_rope(engine.module)
    if _keeps_masters_at_stage_0(engine):
        begin_afresh(engine, masters)
    for name, parameter in engine.module.named_parameters():
        if name in masters:
            deepspeed.utils.safe_set_full_fp32_param(parameter, masters[name].to(ranks.device))
    if zero_stage(config) in (1, 2):
        # A norm that is not finite leaves the weights alone (train.watch relies on it), so
        # DeepSpeed need not look at every single number before.
        engine.optimizer.check_grad_overflow = True
        engine.optimizer.check_overflow = _leave_it_to_the_norm
    return engine


def _leave_it_to_the_norm(partition_gradients: bool = True) -> None:
    """In the place of DeepSpeed's check_overflow; its optimizer then looks at the norm."""


def choose_kernels(run: RunConfig, causal_lm: PreTrainedModel, device: torch.device) -> str:
    """`torch`, `triton` or `liger`; `auto` is `triton` on a GPU in bf16 where blocks are known."""
    wanted = run.backends.kernels
    half = device.type == "cuda" and run.precision.weights == "bf16"
    if wanted == "auto":
        known = causal_lm.config.model_type in FUSED_FAMILIES and not run.backends.compile
        return "triton" if half and known else "torch"
    if wanted != "torch" and not half:
        raise UserError(f"backends.kernels: {wanted} needs a GPU and bf16; take 'torch'")
    return wanted


def use_kernels(causal_lm: PreTrainedModel, kernels: str) -> None:
    """Exchange the forward methods of the model's blocks for those of `kernels`."""
    if kernels == "triton":
        from train.fast_blocks import fuse_blocks

        fuse_blocks(causal_lm, causal_lm.config._attn_implementation)
    elif kernels == "liger":
        try:
            from liger_kernel.transformers import (  # type: ignore[import-not-found]
                _apply_liger_kernel_to_instance,
            )
        except ImportError as error:
            raise UserError("backends.kernels: liger needs the package liger-kernel") from error
        _apply_liger_kernel_to_instance(
            model=causal_lm, fused_linear_cross_entropy=False, cross_entropy=False
        )


def full_weights(
    engine: Any, before: Mapping[str, torch.Tensor] | None
) -> dict[str, torch.Tensor] | None:
    """All weights in fp32 on the CPU, named as transformers does; all ranks call it together.

    Trained weights come from the optimizer's master copy, and adapters are merged into their
    layers. The others are those that the phase began with: the engine may hold them in bf16.

    Args:
        before: the weights that the phase began with, in fp32, by name; None on a rank that wants
            no answer.
    """
    model = engine.module
    state: dict[str, torch.Tensor] = {}
    masters = master_weights(engine) if _keeps_masters_at_stage_0(engine) else {}
    for full_name, parameter in model.named_parameters():
        name = full_name.removeprefix("causal_lm.")
        if not parameter.requires_grad:
            if before is not None:
                state[name] = before[name]
            continue
        full = masters.get(full_name)
        if full is None:
            full = deepspeed.utils.safe_get_full_fp32_param(parameter)
        if before is not None:
            state[name] = (parameter if full is None else full).detach().float().cpu()
    return None if before is None else merge_adapters(model.causal_lm, state)


def _keeps_masters_at_stage_0(engine: Any) -> bool:
    return engine.zero_optimization_stage() == 0 and engine.bfloat16_enabled()


def trained_parameters(model: nn.Module) -> int:
    """How many numbers the phase trains."""
    return sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in model.parameters()
        if parameter.requires_grad
    )


def _finer_than_bf16(model: nn.Module) -> dict[str, torch.Tensor]:
    """Trained weights that bf16 would round: the engine's master copies must start from these."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not torch.equal(parameter.bfloat16().float(), parameter)
    }


def _new_optimizer(
    run: RunConfig, groups: list[dict[str, Any]], config: dict[str, Any], ranks: Ranks
) -> torch.optim.Optimizer:
    settings = run.optimizer
    arguments: dict[str, Any] = {"lr": 0.0, "betas": settings.betas, "eps": settings.epsilon}
    offloaded = config["zero_optimization"].get("offload_optimizer", {}).get("device", "none")
    stage = zero_stage(config)
    if settings.kernel == "deepspeed":
        if stage == 0:
            raise UserError("optimizer.kernel: deepspeed goes with ZeRO 1 to 3; take 'fused'")
        from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam

        if offloaded != "none":
            return DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments)
        if ranks.device.type != "cuda":
            raise UserError("optimizer.kernel: deepspeed's FusedAdam needs a GPU; take 'fused'")
        return FusedAdam(groups, adam_w_mode=True, **arguments)
    fused = settings.kernel == "fused" and ranks.device.type == "cuda" and offloaded == "none"
    arguments |= {"fused": fused, "foreach": None if fused else False}
    if stage or run.precision.weights == "bf16":
        return torch.optim.AdamW(groups, **arguments)
    optimizer = FiniteAdamW(groups, **arguments)
    optimizer.clipping = settings.gradient_clipping or float("inf")
    config["gradient_clipping"] = 0.0  # DeepSpeed would clip before, and hide the norm
    return optimizer
