"""How fast training is, in model FLOP/s, beside plain transformers under the same DeepSpeed.

    python benchmarks/train_throughput.py --data DIR [--quick] [--json OUT]

Every row is a process of its own that trains a model from scratch on real shards: DIR's texts,
tokenized with the bundled 32k tokenizer, document masks on, bf16 weights with fp32 master
weights, 262,144 tokens a step. Ours goes through the training loop's own functions (mixture,
feed, engine, step). A model FLOP is counted as `train/throughput.py` says: attention only where
tokens attend, recomputation not at all; for peers without document masks, over whole rows.

Needs GPUs with 141 GB (the rows of 3B and 7B; the others fit into 80), flash-attn-4 for our
attention on Hopper and liger-kernel for the peer that uses it. A row that cannot run says why.
`--shards` takes shards that exist instead of DIR/text.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BATCH_TOKENS = 262_144

SHAPES: dict[str, dict[str, int]] = {
    # Llama's shapes at these sizes (1.3B is Sheared-LLaMA's), heads of 128.
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 5504,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    },
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 24,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    # What one GPU can hold of 7B with its fp32 masters: the reference for two.
    "7b-half": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
}


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    shape: str
    length: int
    micro_batch_tokens: int
    kernels: str = "auto"
    """`plain`: transformers' model, mask-free causal SDPA, its own loss."""
    attention: str = "auto"
    compile: bool = False
    optimizer: str = "fused"
    zero_stage: int = 1
    devices: int = 1
    metric: str = ""
    """The JSON key that this row's TFLOP/s is written under."""
    checkpointing: bool = False
    masks: bool = True
    """Without: every sequence is read as one document, as plain causal attention would."""
    fp8: str | None = None
    """As `precision.fp8`; model FLOP/s are still told against the bf16 peak."""


VARIANTS = [
    Variant("ours 1.3B 4k", "1b", 4096, 32768, metric="tflops_1b_4k"),
    Variant("ours 1.3B 8k", "1b", 8192, 32768, metric="tflops_1b_8k"),
    Variant("ours 3B 4k", "3b", 4096, 24576, metric="tflops_3b_4k"),
    Variant("transformers 1.3B 4k", "1b", 4096, 16384, kernels="plain", metric="plain_1b_4k"),
    Variant("+ Liger 1.3B 4k", "1b", 4096, 32768, kernels="liger", attention="varlen"),
]
MASKS = [
    Variant("ours 1.3B 8k, no masks", "1b", 8192, 32768, masks=False, metric="unmasked_1b_8k"),
]
FLOAT8 = [
    Variant(
        f"ours 1.3B 4k, fp8 {scales}", "1b", 4096, 32768, fp8=scales, metric=f"fp8_{scales}_1b_4k"
    )
    for scales in ("tensorwise", "rowwise")
]
TWO_DEVICES = [
    Variant("ours 1.3B 4k, 2 GPUs", "1b", 4096, 32768, devices=2, metric="two_1b_4k"),
    Variant("ours 7B 4k, 2 GPUs", "7b", 4096, 8192, devices=2, metric="two_7b_4k"),
    Variant("ours 7B 4k, half its layers", "7b-half", 4096, 8192, metric="half_7b_4k"),
]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the data folder: texts under DIR/text")
    parser.add_argument("--shards", type=Path, help="shards that exist, instead of DIR/text")
    parser.add_argument("--quick", action="store_true", help="two rows, fewer steps")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    parser.add_argument("--rows", type=Path, help="a JSON list of rows to run instead")
    parser.add_argument("--steps", type=int, default=6, help="measured steps (default 6)")
    parser.add_argument("--timeout", type=float, default=240, help="seconds a row may take")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker))
        return
    if options.shards is None and options.data is None:
        parser.error("--data or --shards is needed")
    import torch

    variants = VARIANTS + MASKS + FLOAT8
    if torch.cuda.device_count() > 1:
        variants += TWO_DEVICES
    if options.quick:
        variants = [variants[0], variants[3]]
    if options.rows:
        variants = [Variant(**row) for row in json.loads(options.rows.read_text())]
    with tempfile.TemporaryDirectory() as scratch:
        shards = options.shards or build_shards(options.data, Path(scratch) / "shards")
        results = []
        print_header()
        for variant in variants:
            result = run_variant(variant, shards, options.steps, options.timeout)
            results.append((variant, result))
            print_row(variant, result)
    numbers = metrics(results)
    print(json.dumps(numbers, indent=1))
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def metrics(results: list[tuple[Variant, dict[str, Any]]]) -> dict[str, float]:
    """The flat JSON: what was measured, by key."""
    numbers = {v.metric: r["tflops"] for v, r in results if v.metric and "tflops" in r}
    named = {v.metric: r for v, r in results if "tflops" in r}
    ours, plain = named.get("tflops_1b_4k"), named.get("plain_1b_4k")
    if ours and plain:
        numbers["ratio_vs_plain_deepspeed_1b"] = ours["tflops"] / plain["tflops"]
        numbers["token_ratio_vs_plain_deepspeed_1b"] = (
            ours["tokens_per_second"] / plain["tokens_per_second"]
        )
    if ours:
        numbers["loader_share_of_step"] = ours["data_share"]
    two = named.get("two_1b_4k")
    if ours and two:
        numbers["scaling_2gpu"] = two["tokens_per_second"] / (2 * ours["tokens_per_second"])
    two, half = named.get("two_7b_4k"), named.get("half_7b_4k")
    if two and half:  # no GPU holds 7B alone, so FLOP/s of a GPU are compared, not tokens
        numbers["flops_of_2gpu_7b_over_half_7b"] = two["tflops"] / half["tflops"]
    masked, unmasked = named.get("tflops_1b_8k"), named.get("unmasked_1b_8k")
    if masked and unmasked:
        numbers["masks_token_ratio_1b_8k"] = (
            masked["tokens_per_second"] / unmasked["tokens_per_second"]
        )
    return numbers


def build_shards(data: Path, target: Path, tokens: int = 6_000_000) -> Path:
    """Shards of the data folder's texts, one bucket a file, about `tokens` tokens in all."""
    import sentencepiece

    from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint
    from tokenization.token_lists import write_shards_from_token_lists

    model = ROOT / "samples/tokenizer/mistral-v1-32000.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokenizer = target / "tokenizer"
    tokenizer.mkdir(parents=True)
    shutil.copy(model, tokenizer / "tokenizer.model")
    info = TokenizerInfo(
        fingerprint=tokenizer_fingerprint(tokenizer),
        vocabulary_size=processor.get_piece_size(),
        eos_id=processor.eos_id(),
        path="tokenizer",
    )
    shards = text_documents(data, processor, tokens)
    write_shards_from_token_lists(target, shards, 32_000, info.eos_id, tokenizer=info)
    return target


def text_documents(data: Path, processor: Any, tokens: int) -> dict[Any, list[list[Any]]]:
    """(bucket, "train") → one shard of the first documents of a file of DIR/text, shuffled."""
    import numpy as np

    files = sorted((data / "text").glob("*.jsonl.gz"))
    shards: dict[Any, list[list[Any]]] = {}
    for path in files:
        lang, domain, kind = path.name.removesuffix(".jsonl.gz").split("_", 2)
        documents: list[Any] = []
        wanted = tokens // len(files)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                ids = processor.encode(json.loads(line)["text"])
                documents.append(np.asarray([*ids, processor.eos_id()], np.int32))
                wanted -= len(ids) + 1
                if wanted <= 0:
                    break
        order = np.random.default_rng(0).permutation(len(documents))
        bucket = f"{lang}-{domain}-{kind.replace('_', '')}"
        shards[bucket, "train"] = [[documents[number] for number in order]]
    return shards


def run_variant(variant: Variant, shards: Path, steps: int, timeout: float) -> dict[str, Any]:
    """Run one row in processes of its own; its figures, or {"error": text}."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        spec = {
            "variant": asdict(variant),
            "shards": str(shards.resolve()),
            "steps": steps,
            "out": str(out),
            "scratch": scratch,
        }
        command = [sys.executable, __file__, "--worker", json.dumps(spec)]
        if variant.devices > 1:
            command[1:1] = ["-m", "torch.distributed.run", "--nproc-per-node", str(variant.devices)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        try:
            ended = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took more than {timeout:.0f} s"}
        if not out.exists():
            return {"error": (ended.stderr or ended.stdout).strip()[-1500:]}
        return dict(json.loads(out.read_text()))


def work(spec: dict[str, Any]) -> None:
    """One rank of one row."""
    began = time.monotonic()
    import torch

    from train import launch
    from train.run_config import RunConfig
    from train.run_plan import plan_run
    from train.throughput import device_name, peak_flops, phase_flops

    variant = Variant(**spec["variant"])
    folder = Path(spec["scratch"])
    (folder / "mixture.yaml").write_text(
        f"sequence_length: {variant.length}\nmax_epochs: 100\n"
        f"stages: [{{name: all, tokens: {(spec['steps'] + 4) * BATCH_TOKENS * variant.devices}}}]\n"
    )
    plain = variant.kernels == "plain"
    run = RunConfig.model_validate(
        {
            "name": variant.name,
            "output": str(folder / "run"),
            "model": {
                "config": {
                    "vocab_size": 32000,
                    "max_position_embeddings": variant.length,
                    **SHAPES[variant.shape],
                }
            },
            "tokenizer": f"{spec['shards']}/tokenizer",
            "shards": spec["shards"],
            "mixture": str(folder / "mixture.yaml"),
            "batch_tokens": BATCH_TOKENS * variant.devices,
            "micro_batch_tokens": variant.micro_batch_tokens,
            "phases": [{"name": "all", "learning_rate": {"peak": 1e-4}}],
            "optimizer": {"kernel": variant.optimizer},
            "precision": {
                "weights": "bf16",
                "activation_checkpointing": variant.checkpointing,
                "fp8": variant.fp8,
            },
            "backends": {
                "kernels": "torch" if plain else variant.kernels,
                "attention": "sdpa" if plain else variant.attention,
                "compile": variant.compile,
            },
            "deepspeed": {"zero_optimization": {"stage": variant.zero_stage}},
        }
    )
    ranks = launch.start(600)
    plan = plan_run(run, ranks.world_size)
    step = plain_step(run, plan, ranks) if plain else our_step(run, plan, ranks, variant.masks)
    flops = phase_flops(plan.shape, run.phases[0])
    seconds, losses, shares, pairs, tokens = [], [], [], 0, 0
    started = time.monotonic() - began
    for number in range(2 + spec["steps"]):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        loss, batch, waited = step(number)
        torch.cuda.synchronize()
        elapsed = time.perf_counter() - begin
        losses.append(loss)
        if number >= 2:
            seconds.append(elapsed)
            shares.append(waited / elapsed)
            tokens += sum(len(micro_batch.inputs) for micro_batch in batch)
            for micro_batch in batch:
                rows = len(micro_batch.inputs) // variant.length
                pairs += (
                    rows * variant.length * (variant.length + 1) // 2
                    if plain
                    else micro_batch.documents.attended_pairs()
                )
    total = sum(seconds)
    achieved = flops.of(tokens, pairs) / total
    peak = peak_flops(device_name(ranks.device))
    if ranks.is_first:
        Path(spec["out"]).write_text(
            json.dumps(
                {
                    "tflops": achieved / 1e12,
                    "mfu": achieved / peak if peak else None,
                    "tokens_per_second": tokens * ranks.world_size / total,
                    "step_seconds": statistics.median(seconds),
                    "data_share": statistics.mean(shares),
                    "attention_share": flops.per_pair * pairs / flops.of(tokens, pairs),
                    "memory_gib": torch.cuda.max_memory_allocated() / 2**30,
                    "first_loss": losses[0],
                    "last_loss": losses[-1],
                    "start_seconds": started,
                    "device": device_name(ranks.device),
                    "torch": torch.__version__,
                }
            )
        )
    launch.stop()


def our_step(run: Any, plan: Any, ranks: Any, masks: bool) -> Any:
    """The training loop's own step."""
    import numpy as np
    import torch

    from train.attention import choose_attention, find_documents
    from train.checkpoint import Progress
    from train.cpt import Run, take_step
    from train.engine import start_engine
    from train.feed import Feed
    from train.model import new_model

    attention = choose_attention(run.backends.attention, ranks.device, torch.bfloat16)
    with ranks.device:
        model = new_model(run, plan.shape, attention)
    for parameter in model.parameters():  # as if loaded from bf16: no second set of fp32 weights
        parameter.data = parameter.data.bfloat16().float()
    engine = start_engine(run, run.phases[0], model, plan.accumulation_steps, 0, ranks)
    feed = Feed(plan, ranks)
    unused: Any = None  # by a step: what is logged and saved around it
    state = Run(
        config=run, plan=plan, ranks=ranks, folder=Path("."), progress=Progress(), feed=feed,
        samples=[], journal=unused, writer=unused, heartbeat=unused, interrupted=None,
    )  # fmt: skip
    batches = feed.steps(0, plan.steps)

    def unmasked(micro_batch: Any) -> Any:
        length = plan.schedule.sequence_length
        positions = np.tile(np.arange(length), (len(micro_batch.buckets), 1))
        return replace(
            micro_batch,
            positions=torch.from_numpy(positions.reshape(-1)).to(ranks.device),
            documents=find_documents(positions, ranks.device),
        )

    def step(number: int) -> tuple[float, Any, float]:
        begin = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - begin
        if not masks:
            batch = [unmasked(micro_batch) for micro_batch in batch]
        result = take_step(state, engine, batch, number, 1e-4, float("inf"))
        return result.loss, batch, waited

    return step


def plain_step(run: Any, plan: Any, ranks: Any) -> Any:
    """transformers under DeepSpeed as its users write it: no masks, no kernels of ours."""
    import torch
    from transformers import AutoModelForCausalLM

    from train.feed import Feed
    from train.launch import deepspeed
    from train.model import parameter_groups
    from train.run_config import deepspeed_config

    with ranks.device:
        model = AutoModelForCausalLM.from_config(
            plan.shape, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-4, fused=True)
    config = deepspeed_config(run, plan.accumulation_steps)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config, dist_init_required=False
    )
    batches = Feed(plan, ranks).steps(0, plan.steps)
    length = plan.schedule.sequence_length

    def step(number: int) -> tuple[float, Any, float]:
        begin = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - begin
        total = 0.0
        for micro_batch in batch:
            rows = micro_batch.inputs.view(-1, length)
            loss = engine(input_ids=rows, labels=rows, use_cache=False).loss
            engine.backward(loss)
            engine.step()
            total = total + loss.detach() / len(batch)
        return float(total), batch, waited

    return step


def print_header() -> None:
    """The table's head."""
    print(
        f"{'':28}{'TFLOP/s':>9}{'MFU':>8}{'tokens/s':>10}{'s/step':>8}{'data':>7}"
        f"{'attn':>6}{'GiB':>7}{'loss':>15}",
        flush=True,
    )


def print_row(variant: Variant, result: dict[str, Any]) -> None:
    """One row; what could not be run says why."""
    if "error" in result:
        print(f"{variant.name:28}could not run: {result['error']}", flush=True)
        return
    mfu = f"{result['mfu']:.1%}" if result["mfu"] else "?"
    print(
        f"{variant.name:28}{result['tflops']:>9.1f}{mfu:>8}{result['tokens_per_second']:>10,.0f}"
        f"{result['step_seconds']:>8.3f}{result['data_share']:>7.2%}"
        f"{result['attention_share']:>6.1%}{result['memory_gib']:>7.1f}"
        f"{result['first_loss']:>8.3f}→{result['last_loss']:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
