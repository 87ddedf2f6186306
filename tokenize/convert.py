"""A sentencepiece BPE model as a Hugging Face tokenizer that gives the same ids, always.

transformers 5 reads merges from the order of ids and so ignores sentencepiece's scores: what it
makes of an extended `.model` differs on a third of Chinese lines. Here every way to split a
piece in two becomes a merge, in the order in which sentencepiece would do it: by falling score,
then by id. Needs `tokenizers` only; the result loads in transformers 4 and 5 by AutoTokenizer.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from tokenization.pieces import SPACE, Piece


def merges_of(model: Any) -> list[tuple[str, str]]:
    """All pairs of normal pieces whose union is a normal piece, the earliest merged first."""
    scores = {
        piece.piece: (piece.score, number)
        for number, piece in enumerate(model.pieces)
        if piece.type == Piece.NORMAL
    }
    found = []
    for whole, (score, number) in scores.items():
        for cut in range(1, len(whole)):
            left, right = whole[:cut], whole[cut:]
            if left in scores and right in scores:
                found.append((-score, number, scores[left][1], scores[right][1], left, right))
    found.sort()
    return [(left, right) for *_, left, right in found]


def hugging_face_tokenizer(model: Any) -> Tokenizer:
    """The `tokenizers` object for a model that `tokenization.pieces.check_base` accepts.

    Its `encode` puts BOS before the text if the model has one, as Llama's does.
    """
    names = [piece.piece for piece in model.pieces]
    unknown = next((p.piece for p in model.pieces if p.type == Piece.UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: number for number, name in enumerate(names)},
            merges=merges_of(model),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = model.normalizer_spec.add_dummy_prefix
    steps = [normalizers.Prepend(SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    tail = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *tail]
    )
    special = [p.piece for p in model.pieces if p.type in (Piece.CONTROL, Piece.UNKNOWN)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    defined = [p.piece for p in model.pieces if p.type == Piece.USER_DEFINED]
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in defined])
    bos = bos_piece(model)
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, names.index(bos))],
        )
    # `</s>` in a document is four characters of text, not the end of it.
    tokenizer.encode_special_tokens = True
    return tokenizer


def bos_piece(model: Any) -> str | None:
    """The piece that begins a text, or None if the model has none."""
    return _control_piece(model, model.trainer_spec.bos_piece, model.trainer_spec.bos_id)


def eos_piece(model: Any) -> str | None:
    """The piece that ends a text, or None if the model has none."""
    return _control_piece(model, model.trainer_spec.eos_piece, model.trainer_spec.eos_id)


def _control_piece(model: Any, name: str, number: int) -> str | None:
    if number < 0:
        return None
    return next(
        (p.piece for p in model.pieces if p.type == Piece.CONTROL and p.piece == name), None
    )


def save_hugging_face(model: Any, folder: str | Path) -> Tokenizer:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder`; returns the tokenizer.

    The class written is PreTrainedTokenizerFast, which transformers 4 and 5 both know.
    `split_special_tokens` is on, as in sentencepiece: set it to false for a chat format whose
    marks are written into the text.
    """
    tokenizer = hugging_face_tokenizer(model)
    tokenizer.save(str(Path(folder) / "tokenizer.json"))
    unknown = next((p.piece for p in model.pieces if p.type == Piece.UNKNOWN), None)
    specials = {
        str(number): {
            "content": piece.piece,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": piece.type != Piece.USER_DEFINED,
        }
        for number, piece in enumerate(model.pieces)
        if piece.type in (Piece.CONTROL, Piece.UNKNOWN, Piece.USER_DEFINED)
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": specials,
        "bos_token": bos_piece(model),
        "eos_token": eos_piece(model),
        "unk_token": unknown,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,  # transformers' way to say that there is no limit
        "split_special_tokens": True,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (Path(folder) / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return tokenizer
