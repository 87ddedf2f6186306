"""Rows for new pieces: each starts from the mean of the rows of its old pieces.

A piece that the base tokenizer lacked was, to the base model, a few old pieces; the mean of their
rows, input and output alike, is where its own rows start (XuanYuan's report, 2023; transformers'
`mean_resizing` instead draws rows that are nearly all the same).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from corpus.settings import UserError

SPACE = "▁"


def vocabulary_size(tokenizer: str | Path) -> int:
    """How many ids a tokenizer has: a sentencepiece `.model` file, or a folder."""
    size, _ = _reader(tokenizer)
    return size


def old_pieces(base: str | Path, tokenizer: str | Path) -> dict[int, Sequence[int]]:
    """For every id of `tokenizer` that `base` lacks, the base's ids of the same text.

    Args:
        base: the tokenizer that the model knew, a `.model` file or a folder.
        tokenizer: the grown tokenizer's folder; its first ids must be the base's.

    Raises:
        UserError: one of them cannot be read, or the grown one does not begin with the base.
    """
    base_size, split = _reader(base)
    grown = _hugging_face(tokenizer)
    old = _names(base)
    for number, name in enumerate(old):
        if grown.id_to_token(number) != name:
            raise UserError(
                f"{tokenizer}: its id {number} is {grown.id_to_token(number)!r}, and the base's "
                f"({base}) is {name!r}: it was not grown from that base"
            )
    found = {}
    for number in range(base_size, grown.get_vocab_size()):
        found[number] = split(str(grown.id_to_token(number)).replace(SPACE, " "))
    return found


@torch.no_grad()
def grow(model: PreTrainedModel, rows: int, pieces: dict[int, Sequence[int]]) -> None:
    """Give `model` `rows` rows, in place; a new row without old pieces gets the mean of all.

    Args:
        rows: rows of the embedding and output layer afterwards.
        pieces: for each new id, the old ids whose rows' mean it starts from.
    """
    tables = [table.clone() for table in _tables(model)]
    before = len(tables[0])
    model.resize_token_embeddings(rows, mean_resizing=False)
    targets = _tables(model)
    for table, target in zip(tables, targets, strict=True):
        target[:before] = table
        target[before:] = table.mean(0)
        for number, ids in pieces.items():
            if number >= before and ids:
                target[number] = table[torch.tensor(list(ids))].mean(0)


def _tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """The embedding's weight, and the output layer's where it is another."""
    layers: list[Any] = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    return [layer.weight for layer in layers]


def _reader(tokenizer: str | Path) -> tuple[int, Callable[[str], Sequence[int]]]:
    """A tokenizer's size, and its ids of a text without the space that sentencepiece prepends."""
    model = _sentencepiece_model(tokenizer)
    if model is not None:
        processor = _processor(model)
        blank = processor.piece_to_id(SPACE)

        def split(text: str) -> Sequence[int]:
            ids = processor.encode(text)
            return ids[1:] if ids[:1] == [blank] and not text.startswith(" ") else ids

        return processor.get_piece_size(), split
    hugging_face = _hugging_face(tokenizer)
    lone = hugging_face.token_to_id(SPACE)

    def split_json(text: str) -> Sequence[int]:
        ids = hugging_face.encode(text, add_special_tokens=False).ids
        return ids[1:] if ids[:1] == [lone] and not text.startswith(" ") else ids

    return hugging_face.get_vocab_size(), split_json


def _names(tokenizer: str | Path) -> list[str]:
    model = _sentencepiece_model(tokenizer)
    if model is not None:
        processor = _processor(model)
        return [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    hugging_face = _hugging_face(tokenizer)
    return [str(hugging_face.id_to_token(n)) for n in range(hugging_face.get_vocab_size())]


def _sentencepiece_model(tokenizer: str | Path) -> Path | None:
    path = Path(tokenizer)
    if path.suffix == ".model":
        return path
    return path / "tokenizer.model" if (path / "tokenizer.model").is_file() else None


def _processor(model: Path) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(f"{model}: reading it needs the sentencepiece package") from error
    if not model.is_file():
        raise UserError(f"{model}: no such file")
    return sentencepiece.SentencePieceProcessor(model_file=str(model))


def _hugging_face(tokenizer: str | Path) -> Tokenizer:
    path = Path(tokenizer) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return Tokenizer.from_file(str(path))
