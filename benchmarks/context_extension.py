"""Eight times the context by position interpolation: what it costs at 4k, what it gives at 32k.

    python benchmarks/context_extension.py --data DIR [--quick] [--json OUT]

A Llama of 124M parameters is trained from scratch at 4,096 tokens with `train.cpt`; the same
command then continues it at 32,768 with `rope: {type: linear, factor: 8}` (Chen et al. 2023), and,
as a control that sees the same tokens, at 4,096 without. Held-out prospectuses, each of tens of
thousands of tokens, are scored by every model in windows of 4k and of 32k: a model that uses its
context predicts better in long windows.

The texts are DIR/prospectuses.tar.gz, of which every eighth is held out, and DIR/text. Needs a GPU
(about 10 minutes of one H200; a second one halves it). `--shards` keeps the shards there, or takes
those that lie there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from train_throughput import ROOT, text_documents

SHORT, LONG = 4096, 32768
BASE_BATCH, BATCH = 262_144, 65_536
BASE_TOKENS, MORE_TOKENS = 90_000_000, 400 * BATCH
SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": SHORT,
}


def main() -> None:
    """Train the three models, score them, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--shards", type=Path, help="where the shards lie, or will")
    parser.add_argument("--only-shards", action="store_true", help="stop when the shards are made")
    parser.add_argument("--quick", action="store_true", help="a tenth of the training")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    parser.add_argument("--score", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        print(json.dumps(score(*options.score)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        shards = options.shards or work / "shards"
        if not (shards / "manifest.json").exists():
            if options.data is None:
                parser.error("--data DIR is needed to make the shards")
            build_shards(options.data, shards)
        if options.only_shards:
            return
        share = 10 if options.quick else 1
        base_tokens, more_tokens = BASE_TOKENS // share, MORE_TOKENS // share
        import torch

        devices = list(range(torch.cuda.device_count()))
        if not devices:
            raise SystemExit("there is no GPU here")
        base = train(work, shards, devices, "base", SHORT, base_tokens, 1e-3, {"config": SHAPE})
        start = {"path": str(base)}
        rope = {"type": "linear", "factor": LONG / SHORT}
        with ThreadPoolExecutor(min(2, len(devices))) as pool:
            ends = devices[:1], devices[-1:]
            long = pool.submit(
                train, work, shards, ends[0], "interpolated", LONG, more_tokens, 3e-4, start, rope
            )
            control = pool.submit(
                train, work, shards, ends[1], "control", SHORT, more_tokens, 3e-4, start
            )
            models = {"base": base, "interpolated": long.result(), "control": control.result()}
        figures = {
            f"{name}_perplexity_{length // 1024}k": run_score(model, shards, length)
            for name, model in models.items()
            for length in (SHORT, LONG)
        }
    steps = more_tokens // BATCH
    figures["steps_at_32k"] = steps
    figures["short_after_over_before"] = (
        figures["interpolated_perplexity_4k"] / figures["base_perplexity_4k"]
    )
    figures["short_after_over_control"] = (
        figures["interpolated_perplexity_4k"] / figures["control_perplexity_4k"]
    )
    figures["long_over_short"] = (
        figures["interpolated_perplexity_32k"] / figures["interpolated_perplexity_4k"]
    )
    table = Table(title="held-out perplexity of prospectuses", title_justify="left")
    for column in ("model", "windows of 4k", "windows of 32k"):
        table.add_column(column, justify="left" if column == "model" else "right")
    told = {
        "base": f"trained at 4k, {base_tokens // 10**6}M tokens",
        "interpolated": f"+ {steps} steps at 32k, interpolated",
        "control": f"+ {steps} steps at 4k",
    }
    for name, words in told.items():
        short, wide = (figures[f"{name}_perplexity_{size}k"] for size in (4, 32))
        table.add_row(words, f"{short:.3f}", f"{wide:.3f}")
    Console(width=100).print(table)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def build_shards(data: Path, target: Path, text_tokens: int = 14_000_000) -> None:
    """Prospectuses in one bucket, every eighth held out, and DIR/text in the others."""
    import numpy as np
    import sentencepiece

    from tokenization.convert import save_hugging_face
    from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint
    from tokenization.pieces import read_model
    from tokenization.token_lists import write_shards_from_token_lists

    model = ROOT / "samples/tokenizer/mistral-v1-32000.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    shards: dict[Any, list[list[Any]]] = text_documents(data, processor, text_tokens)
    long: list[Any] = []
    with tarfile.open(data / "prospectuses.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".txt"):
                continue
            rows = [json.loads(line) for line in file.read().decode().splitlines() if line]
            lines = (row["inside"] for row in rows if row["type"] not in ("页眉", "页脚"))
            ids = processor.encode("\n".join(line for line in lines if line))
            long.append(np.asarray([*ids, processor.eos_id()], np.int32))
    shards["zh-finance-prospectus", "heldout"] = [long[::8]]
    shards["zh-finance-prospectus", "train"] = [
        [ids for number, ids in enumerate(long) if number % 8]
    ]
    tokenizer = target / "tokenizer"
    tokenizer.mkdir(parents=True)
    shutil.copy(model, tokenizer / "tokenizer.model")
    save_hugging_face(read_model(model), tokenizer)
    info = TokenizerInfo(
        fingerprint=tokenizer_fingerprint(tokenizer),
        vocabulary_size=processor.get_piece_size(),
        eos_id=processor.eos_id(),
        path="tokenizer",
    )
    write_shards_from_token_lists(target, shards, 32_000, info.eos_id, tokenizer=info)


def train(
    work: Path,
    shards: Path,
    devices: list[int],
    name: str,
    length: int,
    tokens: int,
    peak: float,
    model: dict[str, Any],
    rope: dict[str, Any] | None = None,
) -> Path:
    """One run of `train.cpt` on these GPUs; the folder of its model."""
    folder = work / name
    folder.mkdir()
    mixture = folder / "mixture.yaml"
    mixture.write_text(
        f"sequence_length: {length}\nmax_epochs: 100\n"
        f"stages: [{{name: all, tokens: {tokens}, mix: {{domain: {{finance: 1, general: 1}}}}}}]\n"
    )
    config = {
        "name": name,
        "output": str(folder / "run"),
        "model": model,
        "tokenizer": str(shards / "tokenizer"),
        "shards": str(shards),
        "mixture": str(mixture),
        "batch_tokens": BATCH if "path" in model else BASE_BATCH,
        "micro_batch_tokens": 65536,
        "phases": [{"name": "all", "learning_rate": {"peak": peak, "warmup": 0.05}}],
        "precision": {"weights": "bf16"},
        "rope": rope,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    launcher = ["-m", "train.cpt"]
    if len(devices) > 1:
        launcher[:0] = ["-m", "torch.distributed.run", "--nproc-per-node", str(len(devices))]
    _run([sys.executable, *launcher, str(path)], None, devices)
    shutil.rmtree(folder / "run" / "checkpoints")
    return folder / "run" / "model"


def run_score(model: Path, shards: Path, length: int) -> float:
    """`score` in a process of its own."""
    command = [sys.executable, __file__, "--score", str(model), str(shards), str(length)]
    return float(_run(command, subprocess.PIPE, [0]).splitlines()[-1])


def score(model: str, shards: str, length: str) -> float:
    """Perplexity of the held-out prospectuses, cut to windows of `length`."""
    import torch

    from train import launch
    from train.attention import choose_attention
    from train.evaluate import evaluate, held_out
    from train.model import PackedLanguageModel, cast_weights, restore_rope, saved_model

    ranks = launch.start(600)
    attention = choose_attention("varlen", ranks.device, torch.bfloat16)
    packed = PackedLanguageModel(saved_model(model, attention)).to(ranks.device)
    cast_weights(packed, torch.bfloat16)
    restore_rope(packed)
    samples = held_out(shards, f"{shards}/tokenizer", 2_000_000, int(length))
    scores = evaluate(packed, samples, ranks, LONG)
    launch.stop()
    return scores["zh-finance-prospectus"].perplexity


def _run(command: list[str], stdout: int | None, devices: list[int]) -> str:
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, devices)),
    }
    ended = subprocess.run(
        command, env=environment, stdout=stdout, text=True, check=False, cwd=ROOT
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {ended.returncode}")
    return ended.stdout or ""


if __name__ == "__main__":
    main()
