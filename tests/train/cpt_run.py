"""A tiny run to train in tests: two buckets of made-up tokens, a mixture, a small Llama."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tokenization.manifest import TokenizerInfo, tokenizer_fingerprint
from tokenization.token_lists import write_shards_from_token_lists
from train.journal import read_metrics
from train.run_config import read_run_config

VOCABULARY = 96
EOS = 2
LENGTH = 32


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """These models are too small to share among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_inputs(folder: Path, seed: int = 0) -> None:
    """Write tokenizer/, shards/ and mixture.yaml under `folder`."""
    tokenizer = folder / "tokenizer"
    write_tokenizer(tokenizer, VOCABULARY)
    draw = np.random.default_rng(seed)

    def documents(number: int, low: int, high: int) -> list[np.ndarray]:
        lengths = draw.integers(3, 60, number)
        return [np.append(draw.integers(low, high, length), EOS) for length in lengths]

    shards = {
        ("zh-general-law", "train"): [documents(40, 5, 40), documents(30, 5, 40)],
        ("en-finance-filing", "train"): [documents(50, 30, VOCABULARY)],
        ("zh-general-law", "heldout"): [documents(5, 5, 40)],
        ("en-finance-filing", "heldout"): [documents(5, 30, VOCABULARY)],
    }
    manifest = write_shards_from_token_lists(
        folder / "shards",
        shards,
        vocabulary_size=VOCABULARY,
        eos_id=EOS,
        tokenizer=TokenizerInfo(
            fingerprint=tokenizer_fingerprint(tokenizer), vocabulary_size=VOCABULARY, eos_id=EOS
        ),
    )
    for shard in manifest.shards:
        names = [f"{shard.path}/{number}" for number in range(shard.documents)]
        lineage = folder / "shards" / f"{shard.path}.lineage.parquet"
        pq.write_table(pa.table({"doc_id": names}), lineage)
    (folder / "mixture.yaml").write_text(
        f"sequence_length: {LENGTH}\nmax_epochs: 8\nstages:\n"
        "  - {name: one, tokens: 1024, mix: {lang: {zh: 1, en: 1}}}\n"
        "  - {name: two, tokens: 1536, mix: {lang: {zh: '2 -> 1', en: 1}}}\n",
        encoding="utf-8",
    )


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer of the words w0, w1, …; what it does not know is w0."""
    folder.mkdir(parents=True)
    words = {f"w{number}": number for number in range(size)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))


def write_config(folder: Path, **changes: Any) -> Path:
    """Write a run config of ten steps in two phases; `changes` replace whole keys."""
    config: dict[str, Any] = {
        "name": "tiny",
        "output": str(folder / "run"),
        "seed": 3,
        "model": {
            "config": {
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": LENGTH,
            }
        },
        "tokenizer": str(folder / "tokenizer"),
        "shards": str(folder / "shards"),
        "mixture": str(folder / "mixture.yaml"),
        "batch_tokens": 8 * LENGTH,
        "micro_batch_tokens": 4 * LENGTH,
        "phases": [
            {
                "name": "embeddings",
                "train": ["embeddings", "lm_head"],
                "tokens": 768,
                "learning_rate": {"peak": 1e-2},
            },
            {"name": "all", "train": "all", "learning_rate": {"peak": 1e-2, "warmup": 0.2}},
        ],
        "precision": {"weights": "fp32"},
        "evaluation": {"tokens_per_bucket": 120},
        "checkpoints": {"every_steps": 2},
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config | changes), encoding="utf-8")
    return path


def another_run(inputs: Path, folder: Path, **changes: Any) -> Path:
    """The run config of `inputs` with other keys, writing to `folder`/run."""
    config = json.loads((inputs / "run.yaml").read_text(encoding="utf-8"))
    folder.mkdir(exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(json.dumps(config | {"output": str(folder / "run")} | changes))
    return path


def folder_of(config: Path) -> Path:
    """A run's folder."""
    return Path(read_run_config(config).output)


def records_of(config: Path, kind: str) -> list[dict[str, Any]]:
    """What a run has recorded of a kind."""
    records = read_metrics(folder_of(config) / "metrics.jsonl")
    return [record for record in records if record["kind"] == kind]


def losses_of(config: Path) -> list[float]:
    """The loss of each step."""
    return [record["loss"] for record in records_of(config, "step")]


def weights_of(config: Path, phase: str = "all") -> dict[str, torch.Tensor]:
    """The fp32 weights at a phase's end."""
    return load_file(folder_of(config) / f"checkpoints/phase-{phase}/model.safetensors")


def drop_after(config: Path, step: int) -> None:
    """Leave a run as if it had been killed after the checkpoint of `step`."""
    for path in (folder_of(config) / "checkpoints").glob("*/progress.json"):
        if json.loads(path.read_text(encoding="utf-8"))["step"] > step:
            shutil.rmtree(path.parent)
