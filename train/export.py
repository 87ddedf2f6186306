"""A run's weights as a plain Hugging Face folder, for anything that speaks transformers.

    python -m train.export configs/train/demo.yaml            the finished run's model
    python -m train.export configs/train/demo.yaml --phase embeddings --to /models/x

Writes safetensors (in shards), config, generation config and the tokenizer. A phase leaves its
weights whole whatever the ZeRO stage, so nothing is gathered here and no GPU is needed.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig

from corpus.settings import UserError, command
from tokenization.manifest import read_manifest
from train import checkpoint
from train.model import cast_weights, saved_model
from train.run_config import RunConfig, read_run_config

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m train.export`."""
    parser = argparse.ArgumentParser(
        prog="python -m train.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""The folder loads with plain transformers:
  AutoModelForCausalLM.from_pretrained("runs/demo/train/model")""",
    )
    parser.add_argument("config", help="the run config, YAML")
    parser.add_argument("--phase", help="the phase whose weights to take (default: the last)")
    parser.add_argument("--to", help="the folder to write (default: model/ in the run's folder)")
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16"), help="default: the run's precision.weights"
    )
    options = parser.parse_args(arguments)
    run = read_run_config(options.config)
    target = Path(options.to) if options.to else Path(run.output) / "model"
    export(run, options.phase or run.phases[-1].name, target, options.dtype)
    print(target)
    return 0


def export(run: RunConfig, phase: str, target: Path, dtype: str | None = None) -> None:
    """Write the weights that `phase` left to `target`, replacing what is there.

    Raises:
        UserError: the phase is unknown or not finished, or its weights are damaged.
    """
    if phase not in [each.name for each in run.phases]:
        raise UserError(f"--phase: the run has no phase '{phase}'")
    source = Path(run.output) / "checkpoints" / checkpoint.phase_folder(phase)
    if not (source / checkpoint.MARKER).exists():
        raise UserError(f"{source}: phase '{phase}' is not finished; run python -m train.cpt first")
    problem = checkpoint.damage(source)
    if problem is not None:
        raise UserError(f"{source}: {problem}")
    model = saved_model(source, "sdpa")
    if (dtype or run.precision.weights) == "bf16":
        cast_weights(model, torch.bfloat16)
        model.config.dtype = torch.bfloat16
    info = read_manifest(run.shards).tokenizer
    model.config.use_cache = True
    model.config.eos_token_id, model.config.bos_token_id = info.eos_id, info.bos_id
    model.generation_config = GenerationConfig(
        eos_token_id=info.eos_id, bos_token_id=info.bos_id, pad_token_id=info.eos_id
    )
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    for name in _TOKENIZER_FILES:
        if (Path(run.tokenizer) / name).is_file():
            shutil.copy(Path(run.tokenizer) / name, partial / name)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


if __name__ == "__main__":
    sys.exit(main())
