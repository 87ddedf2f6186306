"""The run config: one YAML file that says what is trained, on what, how, and how it is watched.

`configs/train/demo.yaml` is the commented example. Paths are taken from the working directory, as
in recipes. Nothing here imports torch, so a config is checked before anything heavy is loaded.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from corpus.settings import Settings, UserError, load, read_text
from train.schedule import Tokens


class ModelConfig(Settings):
    """Where the weights come from: a folder, or a shape to start from scratch with."""

    path: str | None = None
    """A Hugging Face folder of a causal language model (safetensors)."""
    config: dict[str, Any] | None = None
    """Instead of `path`: keys of transformers' config, with `model_type` (default: llama)."""
    base_tokenizer: str | None = None
    """The tokenizer that the model knew before its vocabulary was extended; the one in the folder
    of `path` if left out. Rows of new pieces start from the mean of the rows of the pieces that
    this tokenizer makes of them. A model whose folder holds the run's whole vocabulary already
    keeps its rows as they are."""
    pad_vocabulary_to: PositiveInt = 1
    """Round the number of rows up to a multiple of this (64 helps tensor cores)."""


class RopeConfig(Settings):
    """How positions beyond the trained context are reached; numbers as transformers takes them."""

    type: Literal["linear", "dynamic", "yarn", "ntk"]
    """`linear` is position interpolation (Chen et al. 2023), `yarn` Peng et al. 2023, `ntk` the
    static change of base theta' = theta * factor^(d/(d-2)) (bloc97, 2023)."""
    factor: PositiveFloat
    """The new context length over the trained one."""
    original_length: PositiveInt | None = None
    """The trained context length; the model's own `max_position_embeddings` if left out."""


class LearningRate(Settings):
    """A learning rate over one phase; `progress` runs from 0 to 1 over the phase's steps."""

    peak: PositiveFloat
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """After the warm-up: down along a half cosine, down a line, flat, or flat and then down
    (warm-up, stable, decay; Hu et al. 2024, MiniCPM)."""
    warmup: float = Field(0.01, ge=0, lt=1)
    """Share of the phase's steps over which the rate rises to `peak`."""
    start: float = Field(0.0, ge=0, le=1)
    """Share of `peak` where the warm-up begins: 0 for a cold start, the last rate over the new
    peak for a re-warm-up (Ibrahim et al. 2024)."""
    floor: float = Field(0.1, ge=0, le=1)
    """Share of `peak` at the phase's end."""
    decay: float = Field(0.1, gt=0, le=1)
    """`wsd` only: share of the phase's steps over which the rate falls."""


class LoraConfig(Settings):
    """Low-rank adapters (Hu et al. 2021) on the linear layers inside the blocks."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    )  # fmt: skip
    """Last names of the linear layers that get an adapter."""


Part = Literal["embeddings", "lm_head"]


class Phase(Settings):
    """A stretch of the run with its own trained weights, learning rate and fresh optimizer."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: Literal["all", "lora"] | tuple[Part, ...] = "all"
    """`all`, `lora`, or a list of `embeddings` and `lm_head`."""
    rows: Literal["all", "new"] = "all"
    """`new`: of the embedding and output rows, only those that the base tokenizer lacks change."""
    tokens: Literal["rest"] | Tokens = "rest"
    """How many of the run's tokens this phase takes (`2B`, `300M`, `120k`), rounded to whole
    steps; `rest` (the last phase only) takes what the mixture has left."""
    learning_rate: LearningRate
    weight_decay: NonNegativeFloat = 0.1
    lora: LoraConfig = LoraConfig()

    @field_validator("train")
    @classmethod
    def _names_something(cls, value: Any) -> Any:
        if value == ():
            raise ValueError("a phase trains something: all, lora, or [embeddings, lm_head]")
        return value


class Optimizer(Settings):
    """AdamW (Loshchilov & Hutter 2019); its state starts fresh in each phase."""

    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: PositiveFloat = 1e-8
    gradient_clipping: NonNegativeFloat = 1.0
    """Largest norm of a step's gradient; 0 leaves it as it is."""
    kernel: Literal["torch", "fused", "deepspeed"] = "fused"
    """`torch`: the plain loop; `fused`: torch's fused kernel; `deepspeed`: DeepSpeed's FusedAdam
    or, with the optimizer offloaded, CPUAdam: compiled at first use, needs a compiler."""


class Precision(Settings):
    """Number formats. With bf16, DeepSpeed keeps fp32 master weights and optimizer state."""

    weights: Literal["fp32", "bf16"] = "bf16"
    fp8: Literal["tensorwise", "rowwise"] | None = None
    """Matrix products inside the blocks in float8, with one scale a tensor or a row (torchao's), in
    phases that train `all`. An experiment: needs bf16, Hopper or Ada, ZeRO 0 to 2, and torchao;
    MFU is still told against the bf16 peak."""
    activation_checkpointing: bool = False
    """Keep only each block's input and compute the block again in the backward pass."""


class Backends(Settings):
    """Which kernels do the work. `auto` takes the fastest that this machine has."""

    attention: Literal["auto", "documents", "varlen", "flex", "flash", "sdpa"] = "auto"
    """`documents`: one SDPA call a document, any device; `varlen`: torch's own FlashAttention 2;
    `flex`: torch's FlexAttention, compiled; `flash`: the package flash-attn-4 (or flash-attn);
    `sdpa`: transformers' own with a full mask, to compare with."""
    kernels: Literal["auto", "torch", "triton", "liger"] = "auto"
    """Norm, rotary embedding, gated activation and loss: plain torch, this project's Triton
    kernels, or the liger-kernel package's."""
    compile: bool = False
    """torch.compile every block (only with `kernels: torch`)."""


class Evaluation(Settings):
    """Held-out perplexity per bucket, before the first step, at intervals, and at the end."""

    every_steps: NonNegativeInt = 0
    """0: only before and after."""
    tokens_per_bucket: PositiveInt = 200_000
    """The first whole documents of each bucket's held-out shards up to about this many tokens."""
    sequence_length: PositiveInt | None = None
    """Longer documents are cut to this; the mixture's sequence length if left out."""


class Checkpoints(Settings):
    """What is saved, when, and for how long."""

    every_steps: NonNegativeInt = 0
    """0: only at the end of a phase and on SIGTERM."""
    keep: PositiveInt = 2
    """How many of the newest stay; the ends of phases always stay as weights."""
    asynchronous: bool = True
    """Copy to host memory, go on training, and write meanwhile."""


class Watch(Settings):
    """What the run does about a step that goes wrong."""

    on_bad_step: Literal["skip", "rollback", "stop"] = "skip"
    """For NaN, Inf or a spike: leave the step's update out; go back `rollback_steps` or more (to
    a checkpoint) and leave out the steps since; or stop with exit status 3."""
    spike: NonNegativeFloat = 8.0
    """A spike is a step loss more than this many robust standard deviations (1.4826 times the
    median absolute deviation) above the median of the last `window` steps; 0 turns it off."""
    window: PositiveInt = 64
    least_spike: NonNegativeFloat = 0.5
    """... and at least this many nats above it."""
    rollback_steps: PositiveInt = 1
    most_bad_steps: PositiveInt = 20
    """Stop when this many steps of a run were bad: skipping hides a broken run."""
    collective_timeout_s: PositiveFloat = 1800.0
    """A rank that waits longer than this for the others ends, and says which rank is behind."""


class Logging(Settings):
    """What the run tells."""

    every_steps: PositiveInt = 1
    tensorboard: bool = False
    wandb_project: str | None = None
    """Report to this Weights & Biases project, if the package is installed."""


class RunConfig(Settings):
    """A whole training run."""

    name: str
    output: str
    """The run's folder: checkpoints, metrics.jsonl, summary.json, and the final model."""
    seed: int = 0
    model: ModelConfig
    tokenizer: str
    """The tokenizer's folder: the one that made the shards."""
    shards: str
    mixture: str
    """The mixture schedule's YAML; it gives the sequence length and the number of tokens."""
    batch_tokens: Tokens | None = None
    """Tokens of one optimizer step over all ranks; the mixture's own if left out."""
    micro_batch_tokens: Tokens
    """Tokens that one rank computes at a time: a multiple of the longest sequence."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    optimizer: Optimizer = Optimizer()
    precision: Precision = Precision()
    rope: RopeConfig | None = None
    backends: Backends = Backends()
    deepspeed: str | dict[str, Any] = Field(default_factory=dict)
    """DeepSpeed's own configuration: a path of a JSON file, or its keys right here. Batch sizes,
    clipping and precision come from this file, not from there."""
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()
    watch: Watch = Watch()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _fits_together(self) -> "RunConfig":
        if (self.model.path is None) == (self.model.config is None):
            raise ValueError("model: give either `path` or `config`")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError("phases: two phases bear the same name")
        for phase in self.phases[:-1]:
            if phase.tokens == "rest":
                raise ValueError(f"phases: only the last may take the rest, not '{phase.name}'")
        if self.precision.fp8 is not None and self.precision.weights != "bf16":
            raise ValueError("precision: fp8 goes with weights: bf16")
        if self.backends.compile and self.backends.kernels not in ("torch", "auto"):
            raise ValueError(
                "backends: compile goes with kernels: torch; Liger's, compiled, gave wrong losses"
            )
        return self


def read_run_config(path: str | Path) -> RunConfig:
    """Read and check a run config.

    Raises:
        UserError: see `corpus.settings.load`.
    """
    return load(path, RunConfig)


# Keys that this run config decides; the same key in DeepSpeed's would be a second truth.
_OURS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "fp16",
    "bf16",
)


def deepspeed_config(
    run: RunConfig, accumulation_steps: int, universal: bool = False
) -> dict[str, Any]:
    """The dictionary that `deepspeed.initialize` gets: the user's keys and those that follow.

    A micro-batch is one flattened row to DeepSpeed, whatever the sequences in it. `universal`: the
    engine will load a universal checkpoint.

    Raises:
        UserError: the JSON cannot be read, or says something that the run config decides.
    """
    where = "deepspeed"
    given: dict[str, Any]
    if isinstance(run.deepspeed, str):
        where = run.deepspeed
        try:
            given = json.loads(read_text(run.deepspeed))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}:{error.lineno}: this is not valid JSON: {error.msg}"
            ) from error
    else:
        given = dict(run.deepspeed)
    for key in _OURS:
        if given.get(key, "auto") != "auto":
            raise UserError(f"{where}: {key}: the run config decides this; leave it out or 'auto'")
        given.pop(key, None)
    zero = {"stage": 1, **given.pop("zero_optimization", {})}
    bf16 = run.precision.weights == "bf16"
    merged = {
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        **given,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": run.optimizer.gradient_clipping,
        "zero_optimization": zero,
    }
    if universal:
        merged["checkpoint"] = {**merged.get("checkpoint", {}), "load_universal": True}
    if bf16:
        merged["bf16"] = {"enabled": True}
    return merged


def zero_stage(config: dict[str, Any]) -> int:
    """The ZeRO stage of a configuration from `deepspeed_config`."""
    return int(config["zero_optimization"]["stage"])
