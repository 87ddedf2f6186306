"""Rows for new pieces: each starts from the mean of the rows of its old pieces.

A piece that the base tokenizer lacked was, to the base model, a few old pieces; the mean of their
rows, input and output alike, is where its own rows start (XuanYuan's report, 2023; transformers'
`mean_resizing` instead draws rows that are nearly all the same). Used by `tokenization.initialize`,
which writes a grown model, and by a training run that grows its model at the start.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from corpus.settings import UserError
from tokenization.pieces import SPACE, ModelProto, Piece, processor, read_model


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's pieces, and how it cuts a text."""

    names: tuple[str, ...]
    """By id."""
    unused: frozenset[int]
    """Ids that only fill the vocabulary up."""
    cut: Callable[[str], Sequence[int]]
    """Ids of a text as it would be cut in the middle of another: no space goes before it."""


def read_vocabulary(tokenizer: str | Path) -> Vocabulary:
    """The vocabulary of a sentencepiece `.model` file or a tokenizer's folder.

    Raises:
        UserError: there is no tokenizer, or it cannot be read.
    """
    model = _sentencepiece_file(tokenizer)
    return _of_sentencepiece(read_model(model)) if model else _of_json(Path(tokenizer))


def holds_tokenizer(folder: str | Path) -> bool:
    """Whether `read_vocabulary` finds something in a folder."""
    return any((Path(folder) / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))


def old_pieces(base: str | Path, tokenizer: str | Path) -> dict[int, Sequence[int]]:
    """For every id of `tokenizer` that `base` lacks, the base's ids of the same text.

    Args:
        base: the tokenizer that the model knew, a `.model` file or a folder.
        tokenizer: the grown tokenizer; its first ids must be the base's.

    Returns:
        id → ids, in order; none for an id that stands for no text.

    Raises:
        UserError: one of them cannot be read, or the grown one does not begin with the base.
    """
    old, grown = read_vocabulary(base), read_vocabulary(tokenizer)
    if len(grown.names) < len(old.names):
        raise UserError(f"{tokenizer}: this tokenizer does not grow out of {base}: it is smaller")
    for number, (name, now) in enumerate(zip(old.names, grown.names, strict=False)):
        if now != name:
            raise UserError(
                f"{tokenizer}: this tokenizer does not grow out of {base}: id {number} is {now!r} "
                f"here and {name!r} there"
            )
    return {
        number: [] if number in grown.unused else old.cut(grown.names[number].replace(SPACE, " "))
        for number in range(len(old.names), len(grown.names))
    }


@torch.no_grad()
def grow(model: Any, rows: int, pieces: Mapping[int, Sequence[int]]) -> int:
    """Give a transformers model at least `rows` rows, in place, and set those of new pieces.

    Means are taken in fp32. A row without old pieces, and one that no piece needs, gets the mean
    of all old rows.

    Args:
        rows: rows of the embedding and the output layer afterwards.
        pieces: from `old_pieces`: for each new id, the old ids whose rows' mean it starts from.

    Returns:
        How many rows were set to a mean of their old pieces.
    """
    before = len(model.get_input_embeddings().weight)
    known = min(before, min(pieces, default=before))
    if rows > before:
        model.resize_token_embeddings(rows, mean_resizing=False)
    for table in _tables(model):
        old = table[:known].float()
        table[known:] = old.mean(0).to(table.dtype)
        for number, ids in pieces.items():
            if ids:
                table[number] = old[torch.tensor(list(ids))].mean(0).to(table.dtype)
    return sum(bool(ids) for ids in pieces.values())


def _tables(model: Any) -> list[torch.Tensor]:
    """The embedding's weight, and the output layer's where it is another."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    return [table] if head is None or head.weight is table else [table, head.weight]


def _sentencepiece_file(tokenizer: str | Path) -> Path | None:
    path = Path(tokenizer)
    if path.suffix == ".model":
        return path
    return path / "tokenizer.model" if (path / "tokenizer.model").is_file() else None


def _of_sentencepiece(model: Any) -> Vocabulary:
    @functools.cache
    def cutter() -> Any:  # made when something is cut: often only the names are wanted
        bare = ModelProto()
        bare.CopyFrom(model)
        bare.normalizer_spec.add_dummy_prefix = False
        return processor(bare)

    return Vocabulary(
        tuple(piece.piece for piece in model.pieces),
        frozenset(n for n, piece in enumerate(model.pieces) if piece.type == Piece.UNUSED),
        lambda text: cutter().encode(text),  # type: ignore[no-any-return]
    )


def _of_json(folder: Path) -> Vocabulary:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    tokenizer = Tokenizer.from_file(str(path))
    lone = tokenizer.token_to_id(SPACE)

    def cut(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids[1:] if ids[:1] == [lone] and not text.startswith(" ") else ids

    size = tokenizer.get_vocab_size()
    return Vocabulary(tuple(str(tokenizer.id_to_token(n)) for n in range(size)), frozenset(), cut)
