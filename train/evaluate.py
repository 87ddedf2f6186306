"""Held-out loss per bucket: perplexity, and bits per character so that tokenizers compare.

The first whole documents of each bucket's held-out shards are scored, every token but a
document's first given what stands before it in the same document (or in the same piece of it,
where it is longer than the evaluation's sequence length). Which documents these are depends on
shards and settings alone, so figures of one run, and of runs on the same shards, compare.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from corpus.settings import UserError
from tokenization.indexed import IndexedReader
from tokenization.manifest import read_manifest
from train.attention import find_documents
from train.launch import Ranks
from train.objective import IGNORED


@dataclass(frozen=True)
class HeldOut:
    """The held-out sample of one bucket."""

    bucket: str
    pieces: tuple[NDArray[np.int64], ...]
    """Token ids, each piece at most one sequence plus one token long; what follows a cut is
    predicted from the piece after it, which repeats the last token."""
    characters: int
    """Characters of the text that the predicted tokens stand for, special tokens not counted."""


@dataclass(frozen=True)
class Score:
    """How well a bucket's sample is predicted."""

    loss: float
    """Mean nats per predicted token."""
    perplexity: float
    """exp(loss)"""
    bits_per_character: float
    """Total nats / ln 2 / characters; comparable between tokenizers."""
    tokens: int
    """Predicted tokens."""


def held_out(
    shards: str | Path, tokenizer: str | Path, tokens_per_bucket: int, sequence_length: int
) -> list[HeldOut]:
    """The held-out samples, by bucket, in the manifest's order.

    Raises:
        UserError: there are no held-out shards, or the tokenizer's folder has no tokenizer.json.
    """
    manifest = read_manifest(shards)
    path = Path(tokenizer) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"tokenizer: {path}: no such file")
    decoder = Tokenizer.from_file(str(path))
    samples = []
    for bucket, entries in manifest.buckets("heldout").items():
        documents: list[NDArray[np.int64]] = []
        for entry in entries:
            reader = IndexedReader(Path(shards) / entry.path)
            for number in range(entry.documents):
                if sum(map(len, documents)) >= tokens_per_bucket:
                    break
                documents.append(np.asarray(reader.document(number), dtype=np.int64))
        documents = [ids for ids in documents if len(ids) > 1]
        if documents:
            pieces = [piece for ids in documents for piece in _cut(ids, sequence_length)]
            texts = decoder.decode_batch([ids.tolist() for ids in documents])
            samples.append(HeldOut(bucket, tuple(pieces), sum(map(len, texts))))
    if not samples:
        raise UserError(f"{shards}: the manifest lists no held-out documents to evaluate on")
    return samples


def _cut(ids: NDArray[np.int64], length: int) -> list[NDArray[np.int64]]:
    """Pieces of `length` inputs and their next tokens, which together predict ids[1:] once."""
    return [ids[begin : begin + length + 1] for begin in range(0, len(ids) - 1, length)]


def evaluate(
    engine: Any, samples: list[HeldOut], ranks: Ranks, tokens_at_a_time: int
) -> dict[str, Score]:
    """Score every sample; all ranks call it together and get the same answer.

    Args:
        engine: a DeepSpeed engine over a `PackedLanguageModel`, or that model itself.
        tokens_at_a_time: pieces are flattened together up to about this many tokens.
    """
    batches = [
        (number, batch)
        for number, sample in enumerate(samples)
        for batch in _together(sample.pieces, tokens_at_a_time)
    ]
    sums = torch.zeros(2, len(samples), dtype=torch.float64, device=ranks.device)
    was_training = engine.training
    engine.eval()
    with torch.no_grad():
        # Every rank runs as many forwards as the others: ZeRO-3 gathers weights in each.
        for begin in range(0, len(batches), ranks.world_size):
            mine = begin + ranks.rank
            number, pieces = batches[min(mine, len(batches) - 1)]
            losses, predicted = _score(engine, pieces, ranks.device)
            if mine < len(batches):
                sums[0, number] += losses
                sums[1, number] += predicted
    engine.train(was_training)
    torch.distributed.all_reduce(sums)
    scores = {}
    for sample, nats, tokens in zip(samples, *sums.tolist(), strict=True):
        mean = nats / tokens
        scores[sample.bucket] = Score(
            loss=mean,
            perplexity=math.exp(min(mean, 700.0)),
            bits_per_character=nats / math.log(2) / max(1, sample.characters),
            tokens=int(tokens),
        )
    return scores


def _together(pieces: tuple[NDArray[np.int64], ...], tokens: int) -> list[list[NDArray[np.int64]]]:
    batches: list[list[NDArray[np.int64]]] = [[]]
    for piece in pieces:
        if batches[-1] and sum(map(len, batches[-1])) + len(piece) > tokens:
            batches.append([])
        batches[-1].append(piece)
    return batches


def _score(
    engine: Any, pieces: list[NDArray[np.int64]], device: torch.device
) -> tuple[torch.Tensor, int]:
    """Summed loss of the pieces, and how many tokens were predicted."""
    inputs = np.concatenate([piece[:-1] for piece in pieces])
    labels = np.concatenate([piece[1:] for piece in pieces])
    positions = np.concatenate([np.arange(len(piece) - 1) for piece in pieces])
    losses = engine(
        torch.from_numpy(inputs).to(device),
        torch.from_numpy(positions).to(device),
        torch.from_numpy(labels).to(device),
        find_documents(positions[None], device),
    )
    return losses.sum(dtype=torch.float64), int((labels != IGNORED).sum())
