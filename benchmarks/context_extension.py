"""Eight times the context by position interpolation: what it costs at 4k, what it gives at 32k.

    python benchmarks/context_extension.py --data DIR [--quick] [--json OUT]

A Llama of 124M parameters is trained from scratch at 4,096 tokens with `train.cpt`, its learning
rate down to 0 at the end. The same command then continues it at 32,768 for at most 1,000 steps with
`rope: {type: linear, factor: 8}` (Chen et al. 2023), and, as a control that sees as many tokens of
the same mixture, at 4,096 without; both warm up again and go down to 0. Held-out documents of tens
of thousands of tokens, prospectuses and others (a book's chapters, investors' letters, lectures),
are scored by every model in windows of 4k and of 32k: a model that uses its context predicts better
in long windows.

The texts are DIR/prospectuses.tar.gz and DIR/text; every eighth long document is held out. Takes
two H200s 12 minutes, and one about twice that. `--work` keeps the shards and runs there: with
`--minutes` the benchmark stops in time, and the same command continues. `--quick` trains a toy from
256 to 2,048 tokens, on a CPU too, and shows only that everything runs.
"""

import argparse
import gzip
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PROSPECTUSES = "zh-finance-prospectus"
LONG_BUCKETS = (PROSPECTUSES, "zh-finance-letters", "en-finance-lectures", "en-finance-book")
KINDS = ("prospectuses", "others")
"""Of held-out documents, as they are told."""
FACTOR = 8


@dataclass(frozen=True)
class Scale:
    """How large the experiment is."""

    short: int
    """Tokens of a sequence before; `FACTOR` times as many after."""
    shape: dict[str, int]
    base_batch: int
    base_tokens: int
    batch: int
    """Tokens of a step at the long length."""
    steps: int
    tokens_per_bucket: int
    prospectuses: int
    """How many at most."""
    longest_document: int
    """Longer ones are cut to so many tokens."""
    base_rate: float = 1.2e-3
    rate: float = 6e-4


FULL = Scale(
    short=4096,
    shape={
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "max_position_embeddings": 4096,
    },
    base_batch=131_072,
    base_tokens=240_000_000,
    batch=65_536,
    steps=1000,
    tokens_per_bucket=7_000_000,
    prospectuses=100,
    longest_document=10_000_000,
)
QUICK = Scale(
    short=256,
    shape={
        "vocab_size": 32000,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    },
    base_batch=2048,
    base_tokens=10 * 2048,
    batch=2048,
    steps=5,
    tokens_per_bucket=20_000,
    prospectuses=9,
    longest_document=2_500,
)


class OutOfTime(Exception):
    """The minutes are over; what was trained is saved."""


def main() -> int:
    """Train the three models, score them, print the table; 75 if the time was not enough."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--work", type=Path, help="keep shards and runs here, and continue them")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--base-tokens", type=int, help=f"default: {FULL.base_tokens:,}")
    parser.add_argument("--steps", type=int, help="at 32k (default 1,000); 0: train the base alone")
    parser.add_argument("--only-shards", action="store_true", help="stop when the shards are made")
    parser.add_argument("--quick", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    parser.add_argument("--score", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        shards, lengths, *models = options.score
        print(json.dumps(score(shards, [*map(int, lengths.split(","))], models)))
        return 0
    scale = QUICK if options.quick else FULL
    base_tokens = options.base_tokens or scale.base_tokens
    steps = scale.steps if options.steps is None else options.steps
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        shards = work / "shards"
        if not (shards / "manifest.json").exists():
            if options.data is None:
                parser.error("--data DIR is needed to make the shards")
            build_shards(options.data, shards, scale)
        if options.only_shards:
            return 0
        try:
            models = train_models(Training(work, shards, scale, end), base_tokens, steps)
        except OutOfTime:
            print("the time is over; the same command continues")
            return 75
        lengths = [scale.short, scale.short * FACTOR]
        scores = run_score(shards, lengths, list(models.values()))
    figures = dict(zip(models, scores, strict=True))
    report(figures, lengths, base_tokens, steps, options.json)
    return 0


def report(
    figures: dict[str, dict[str, float]],
    lengths: list[int],
    base_tokens: int,
    steps: int,
    path: Path | None,
) -> None:
    """Print the table, and the flat JSON."""
    short, long = lengths
    table = Table(title="held-out perplexity in windows of tokens", title_justify="left")
    for column in ("model", *(f"{kind}, {n}" for kind in KINDS for n in lengths)):
        table.add_column(column, justify="left" if column == "model" else "right")
    told = {
        "base": f"trained at {short}, {base_tokens:,} tokens",
        "interpolated": f"+ {steps} steps at {long}, interpolated",
        "control": f"+ as many tokens at {short}",
    }
    numbers: dict[str, float] = {"steps_at_long": steps, "base_tokens": base_tokens}
    for name, found in figures.items():
        table.add_row(told[name], *(f"{value:.3f}" for value in found.values()))
        numbers |= {f"{name}_perplexity_{key}": value for key, value in found.items()}
    if steps:
        for kind in KINDS:
            at_short, at_long = f"{kind}_{short}", f"{kind}_{long}"
            after = figures["interpolated"]
            numbers |= {
                f"{kind}_short_after_over_before": after[at_short] / figures["base"][at_short],
                f"{kind}_short_after_over_control": after[at_short] / figures["control"][at_short],
                f"{kind}_long_over_short": after[at_long] / after[at_short],
            }
    Console(width=120).print(table)
    print(json.dumps(numbers, indent=1))
    if path:
        path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def build_shards(data: Path, target: Path, scale: Scale) -> None:
    """A bucket for every file of texts; every eighth document of tens of thousands of tokens is
    held out of the buckets that have many."""
    import numpy as np
    import sentencepiece

    from tokenization.convert import save_hugging_face
    from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint
    from tokenization.pieces import read_model
    from tokenization.token_lists import write_shards_from_token_lists

    model = ROOT / "samples/tokenizer/mistral-v1-32000.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    shards: dict[Any, list[list[Any]]] = {}
    for bucket, texts in buckets_of(data, scale.prospectuses):
        documents: list[Any] = []
        tokens = 0
        for text in texts:
            ids = [*processor.encode(text)[: scale.longest_document], processor.eos_id()]
            documents.append(np.asarray(ids, np.int32))
            tokens += len(ids)
            if tokens > scale.tokens_per_bucket and bucket != PROSPECTUSES:
                break
        held = set()
        if bucket in LONG_BUCKETS:
            long = [n for n, ids in enumerate(documents) if len(ids) > scale.short * FACTOR]
            held = set(long[::8])
            shards[bucket, "heldout"] = [[documents[n] for n in sorted(held)]]
        order = np.random.default_rng(0).permutation(len(documents))
        shards[bucket, "train"] = [[documents[n] for n in order if n not in held]]
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
    write_shards_from_token_lists(
        target, {key: lists for key, lists in shards.items() if lists[0]}, 32_000, info.eos_id,
        tokenizer=info,
    )  # fmt: skip


def buckets_of(data: Path, most_prospectuses: int) -> Iterator[tuple[str, Iterable[str]]]:
    """(bucket, its texts), all of DIR's."""
    yield PROSPECTUSES, islice(prospectuses(data), most_prospectuses)
    for path in sorted((data / "text").glob("*.jsonl.gz")):
        lang, domain, kind = path.name.removesuffix(".jsonl.gz").split("_", 2)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = (json.loads(line)["text"] for line in lines)
            yield f"{lang}-{domain}-{kind.replace('_', '')}", texts


def prospectuses(data: Path) -> Iterator[str]:
    """The prospectuses' lines without running heads and feet."""
    with tarfile.open(data / "prospectuses.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".txt"):
                continue
            rows = [json.loads(line) for line in file.read().decode().splitlines() if line]
            lines = (row["inside"] for row in rows if row["type"] not in ("页眉", "页脚"))
            yield "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Training:
    """What the three runs share."""

    work: Path
    shards: Path
    scale: Scale
    end: float
    """By the monotonic clock: when to stop."""


def train_models(training: Training, base_tokens: int, steps: int) -> dict[str, Path]:
    """The folders of the models by name, trained as far as they are not yet."""
    import torch

    scale = training.scale
    devices = list(range(torch.cuda.device_count()))
    base = train(
        training, devices, "base", {"config": scale.shape}, scale.short, base_tokens,
        scale.base_batch, scale.base_rate,
    )  # fmt: skip
    if not steps:
        return {"base": base}
    rope = {"type": "linear", "factor": FACTOR}
    with ThreadPoolExecutor(min(2, len(devices) or 1)) as pool:
        long, control = (
            pool.submit(
                train, training, own, name, {"path": str(base)}, length, steps * scale.batch,
                scale.batch, scale.rate, more,
            )
            for name, own, length, more in (
                ("interpolated", devices[:1], scale.short * FACTOR, rope),
                ("control", devices[-1:], scale.short, None),
            )
        )  # fmt: skip
        return {"base": base, "interpolated": long.result(), "control": control.result()}


def train(
    training: Training,
    devices: list[int],
    name: str,
    model: dict[str, Any],
    length: int,
    tokens: int,
    batch: int,
    peak: float,
    rope: dict[str, Any] | None = None,
) -> Path:
    """One run of `train.cpt` on these GPUs, begun or continued; the folder of its model."""
    folder = training.work / name
    finished = folder / "run" / "model"
    if finished.exists():
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    mixture = folder / "mixture.yaml"
    mixture.write_text(
        f"sequence_length: {length}\nmax_epochs: 100\n"
        f"stages: [{{name: all, tokens: {tokens}, mix: {{domain: {{finance: 1, general: 1}}}}}}]\n"
    )
    rate = {"peak": peak, "schedule": "linear", "warmup": 0.05, "floor": 0.0}
    config = {
        "name": name,
        "output": str(folder / "run"),
        "seed": len(name),  # the continued runs draw in another order than the base
        "model": model,
        "tokenizer": str(training.shards / "tokenizer"),
        "shards": str(training.shards),
        "mixture": str(mixture),
        "batch_tokens": batch,
        "micro_batch_tokens": min(65_536, batch // max(1, len(devices))),
        "phases": [{"name": "all", "learning_rate": rate}],
        "precision": {"weights": "bf16" if devices else "fp32"},
        "checkpoints": {"every_steps": 400, "keep": 1},
        "logging": {"every_steps": 10},
        "rope": rope,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    launcher = ["-m", "train.cpt"]
    if len(devices) > 1:
        launcher[:0] = ["-m", "torch.distributed.run", "--nproc-per-node", str(len(devices))]
    _run([sys.executable, *launcher, str(path)], devices, training.end)
    return finished


def run_score(shards: Path, lengths: list[int], models: list[Path]) -> list[dict[str, float]]:
    """`score` in a process of its own."""
    arguments = [shards, ",".join(map(str, lengths)), *models]
    command = [sys.executable, __file__, "--score", *map(str, arguments)]
    output = _run(command, [0], math.inf, subprocess.PIPE)
    return list(json.loads(output.splitlines()[-1]))


def score(shards: str, lengths: list[int], models: list[str]) -> list[dict[str, float]]:
    """Per model, perplexity of the held-out documents by kind and length of windows."""
    import torch

    from train import launch
    from train.attention import choose_attention
    from train.evaluate import evaluate, held_out
    from train.model import PackedLanguageModel, cast_weights, restore_rope, saved_model

    ranks = launch.start(600)
    dtype = torch.bfloat16 if ranks.device.type == "cuda" else torch.float32
    attention = choose_attention("auto", ranks.device, dtype)
    samples = {n: held_out(shards, f"{shards}/tokenizer", 10_000_000, n) for n in lengths}
    found = []
    for folder in models:
        model = PackedLanguageModel(saved_model(folder, attention)).to(ranks.device)
        cast_weights(model, dtype)
        restore_rope(model)
        figures: dict[str, float] = {}
        for kind in KINDS:
            for length in lengths:
                wanted = [
                    each
                    for each in samples[length]
                    if (each.bucket == PROSPECTUSES) == (kind == "prospectuses")
                ]
                scores = evaluate(model, wanted, ranks, max(lengths)).values()
                nats = sum(each.loss * each.tokens for each in scores)
                figures[f"{kind}_{length}"] = math.exp(nats / sum(each.tokens for each in scores))
        found.append(figures)
    launch.stop()
    return found


def _run(command: list[str], devices: list[int], end: float, stdout: int | None = None) -> str:
    """The command's output; told to stop at `end`.

    Raises:
        OutOfTime: it was stopped.
    """
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, devices)),
    }
    left = end - time.monotonic()
    if left <= 0:
        raise OutOfTime
    process = subprocess.Popen(command, env=environment, stdout=stdout, text=True, cwd=ROOT)
    try:
        output = process.communicate(timeout=None if math.isinf(left) else left)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # a run saves and ends
        process.communicate()
        raise OutOfTime from None
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return output or ""


if __name__ == "__main__":
    sys.exit(main())
