"""The model: built or loaded, its vocabulary grown, its RoPE kept exact, its trained part chosen.

transformers gives the architecture and reads and writes the folders; what is here are the few
things around it that continued pretraining gets wrong easily.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from corpus.settings import UserError
from tokenization.new_rows import grow, holds_tokenizer, old_pieces, read_vocabulary
from train.attention import Documents
from train.objective import LossHead
from train.run_config import Phase, RopeConfig, RunConfig

transformers_logging.disable_progress_bar()  # a run has its own

WEIGHTS = "model.safetensors"
FUSED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""The `model_type`s whose blocks `train.fast_blocks` knows."""


class PackedLanguageModel(nn.Module):
    """A causal language model over flattened micro-batches: token ids in, token losses out."""

    def __init__(self, causal_lm: PreTrainedModel) -> None:
        super().__init__()
        self.causal_lm: Any
        head = causal_lm.get_output_embeddings()
        if not isinstance(head, nn.Linear) or head.bias is not None:
            raise UserError("model: its output layer is no plain linear layer without bias")
        if getattr(causal_lm.config, "final_logit_softcapping", None):
            raise UserError("model: soft-capped logits (Gemma 2) are not supported")
        head.__class__ = LossHead
        self.causal_lm = causal_lm

    def forward(
        self,
        inputs: torch.Tensor,
        positions: torch.Tensor,
        labels: torch.Tensor,
        documents: Documents,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of each token, fp32 [T], in nats; 0 where the label is -100.

        Args:
            inputs: int64 [T], a flattened micro-batch.
            positions: int64 [T], each token's place in its document.
            labels: int64 [T], the token after each (already shifted), or -100.
            documents: the parts of the row that attend within themselves.
            scale: see `LossHead.forward`.
        """
        hidden = self.causal_lm.base_model(
            input_ids=inputs[None],
            position_ids=positions[None],
            attention_mask=None,
            use_cache=False,
            documents=documents,
        ).last_hidden_state
        losses: torch.Tensor = self.causal_lm.get_output_embeddings()(hidden[0], labels, scale)
        return losses


def model_shape(run: RunConfig) -> PreTrainedConfig:
    """The architecture's config, with the run's RoPE in it; reads no weights.

    Raises:
        UserError: the folder holds no config, or a key is not the architecture's.
    """
    if run.model.path is not None:
        if not (Path(run.model.path) / "config.json").is_file():
            raise UserError(f"model.path: {run.model.path}: this folder has no config.json")
        config = AutoConfig.from_pretrained(run.model.path, local_files_only=True)
    else:
        keys = dict(run.model.config or {})
        kind = keys.pop("model_type", "llama")
        try:
            known = AutoConfig.for_model(kind)
        except ValueError as error:
            raise UserError(f"model.config.model_type: transformers has no '{kind}'") from error
        unknown = [key for key in keys if not hasattr(known, key)]
        if unknown:
            raise UserError(f"model.config.{unknown[0]}: {kind} has no such key")
        if "vocab_size" not in keys and run.model.base_tokenizer is not None:
            keys["vocab_size"] = len(read_vocabulary(run.model.base_tokenizer).names)
        config = AutoConfig.for_model(kind, **keys)
    if run.rope is not None:
        scale_rope(config, run.rope)
    config.use_cache = False
    return config


def scale_rope(config: PreTrainedConfig, rope: RopeConfig) -> None:
    """Write a context extension into an architecture's config, in transformers' words."""
    trained = rope.original_length or config.max_position_embeddings
    theta = float(config.rope_parameters["rope_theta"])
    if rope.type == "ntk":
        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        theta *= rope.factor ** (width / (width - 2))
        parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    else:
        parameters = {"rope_type": rope.type, "rope_theta": theta, "factor": rope.factor}
        if rope.type in ("yarn", "dynamic"):
            parameters["original_max_position_embeddings"] = trained
    config.rope_parameters = parameters
    config.max_position_embeddings = round(trained * rope.factor)


def new_model(run: RunConfig, config: PreTrainedConfig, attention: str) -> PreTrainedModel:
    """The run's first weights in fp32, on the CPU: loaded, or drawn from the run's seed."""
    if run.model.path is not None:
        model = AutoModelForCausalLM.from_pretrained(
            run.model.path,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention,
            local_files_only=True,
            use_safetensors=True,
        )
    else:
        torch.manual_seed(run.seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention
        )
    return model  # type: ignore[no-any-return]


def first_model(run: RunConfig, shape: PreTrainedConfig, attention: str) -> PreTrainedModel:
    """The run's first weights, with a row for every piece of the tokenizer.

    Args:
        shape: the architecture with the vocabulary that it must have in the end.
    """
    config = model_shape(run)
    model = new_model(run, config, attention)
    path = run.model.path
    own = path if path is not None and holds_tokenizer(path) else None
    if own is not None:
        # The rows may be enough where a vocabulary was padded, and hold nothing all the same.
        knows_all = _pieces(own) >= _pieces(run.tokenizer)
    else:
        knows_all = shape.vocab_size <= config.vocab_size
    if not knows_all:
        base = run.model.base_tokenizer or own
        if base is None:
            raise UserError(
                f"model.base_tokenizer: the model has {config.vocab_size} rows and the run needs "
                f"{shape.vocab_size}; name the tokenizer that the model knew"
            )
        grow(model, shape.vocab_size, old_pieces(base, run.tokenizer))
    return model


def _pieces(tokenizer: str | Path) -> int:
    return len(read_vocabulary(tokenizer).names)


def saved_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The fp32 weights that `save_weights` wrote, by name."""
    return load_file(Path(folder) / WEIGHTS)


def saved_model(folder: str | Path, attention: str) -> PreTrainedModel:
    """The fp32 weights that `save_weights` wrote, in a fresh model."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    )
    missing, unexpected = model.load_state_dict(saved_weights(folder), strict=False)
    tied = set(model._tied_weights_keys or {}) if config.tie_word_embeddings else set()
    if unexpected or set(missing) - tied:
        raise UserError(f"{folder}: the weights do not fit the config beside them")
    model.tie_weights()
    return model  # type: ignore[no-any-return]


def save_weights(
    folder: str | Path, config: PreTrainedConfig, weights: dict[str, torch.Tensor]
) -> None:
    """Write weights (named as transformers does) and config as a Hugging Face folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    if config.tie_word_embeddings:
        weights = {name: w for name, w in weights.items() if not name.endswith("lm_head.weight")}
    contiguous = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(contiguous, Path(folder) / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(folder)


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters and nothing else: rotary frequencies in bf16 are 10 rad off at 8,192."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def restore_rope(model: nn.Module) -> None:
    """Put the rotary frequencies back in fp32, computed anew, whatever casts came over them."""
    for module in model.modules():
        if not hasattr(module, "inv_freq") or not hasattr(module, "config"):
            continue
        device: Any = module.inv_freq.device
        fresh = type(module)(module.config)
        module.inv_freq = fresh.inv_freq.to(device=device, dtype=torch.float32)
        if hasattr(module, "original_inv_freq"):
            module.original_inv_freq = fresh.original_inv_freq.to(device, torch.float32)


def choose_trained(model: PreTrainedModel, phase: Phase) -> None:
    """Set `requires_grad` on exactly the parameters that the phase trains."""
    if phase.train == "all":
        wanted = {id(parameter) for parameter in model.parameters()}
    elif phase.train == "lora":
        wanted = {id(p) for name, p in model.named_parameters() if ".lora_" in name}
    else:
        parts = {
            "embeddings": model.get_input_embeddings(),
            "lm_head": model.get_output_embeddings(),
        }
        wanted = {id(parts[part].weight) for part in phase.train}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in wanted)


def freeze_old_rows(model: PreTrainedModel, old_rows: int) -> None:
    """Let no gradient reach the first `old_rows` rows of the embedding and the output layer."""

    def only_new(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[:old_rows] = 0
        return gradient

    tables: Any = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    for table in {id(table): table for table in tables}.values():
        if table.requires_grad:
            table.register_hook(only_new)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: matrices decay, vectors (norms, biases) do not.

    Embeddings decay too, as in LLaMA's recipe.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
