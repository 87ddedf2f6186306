"""New pieces into a sentencepiece model, without touching what the base does with its own text.

A sentencepiece BPE merges the neighbouring pair whose union has the highest score. A new piece
therefore changes the base's text if it can be built from that text, or if it comes before a piece
of the base. So new pieces hold characters of the wanted scripts only, never digits or Latin, and
their scores lie, unique and descending, strictly below the lowest of the base's normal pieces.
(The merge script in common use gives them score 0: above all of the base's. A quarter of English
lines then changes.)
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from corpus.settings import UserError

SPACE = "\u2581"  # what sentencepiece writes for a space
# sentencepiece makes these classes at run time, where type checkers cannot see them.
ModelProto: Any = vars(model_pb2)["ModelProto"]
Piece: Any = ModelProto.SentencePiece
BPE: int = vars(model_pb2)["TrainerSpec"].ModelType.BPE

# Blocks of Unicode 16 that hold Han characters (Scripts.txt, script Han, without radicals).
HAN = (
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FA1F),
    (0x30000, 0x323AF),
)
# CJK symbols and punctuation, full-width forms that are no digits or letters, and the marks of
# Chinese text that lie elsewhere.
CJK_PUNCTUATION = frozenset(
    [chr(c) for c in range(0x3001, 0x3040) if c not in (0x3005, 0x3007)]
    + [chr(c) for c in range(0xFF01, 0xFF66)]
    + list("“”‘’…—·《》")
)


def is_han(character: str) -> bool:
    """Whether a character is a Han character."""
    code = ord(character)
    return any(first <= code <= last for first, last in HAN)


def is_allowed(piece: str, punctuation: bool = False) -> bool:
    """Whether every character of a piece is Han or, if wanted, CJK punctuation.

    Digits and letters of any width are refused: a piece that joins digits undoes the base's
    splitting of numbers.
    """
    return bool(piece) and all(
        is_han(character)
        or (
            punctuation
            and character in CJK_PUNCTUATION
            and unicodedata.category(character)[0] in "PS"
        )
        for character in piece
    )


def read_model(path: str | Path) -> Any:
    """Parse a `.model` file; a `UserError` if it is missing or no sentencepiece model."""
    model = ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's error has another class in each implementation
        raise UserError(f"{path}: not a sentencepiece model: {error}") from error
    if not model.pieces:
        raise UserError(f"{path}: a sentencepiece model without pieces")
    return model


def check_base(model: Any, path: str | Path) -> None:
    """Raise a `UserError` unless pieces can be added to `model` exactly as this module does."""
    problems = []
    if model.trainer_spec.model_type != BPE:
        problems.append("it is not a BPE model")
    if not any(piece.type == Piece.BYTE for piece in model.pieces):
        problems.append("it has no byte fallback")
    if model.normalizer_spec.precompiled_charsmap:
        problems.append(f"it changes characters ({model.normalizer_spec.name})")
    if model.normalizer_spec.remove_extra_whitespaces:
        problems.append("it removes spaces")
    if not model.normalizer_spec.escape_whitespaces:
        problems.append("it does not write spaces as ▁")
    if problems:
        raise UserError(
            f"{path}: cannot be extended: {', '.join(problems)}. Llama-style models can; for "
            "others take `method: none`"
        )


def extend_model(
    base: Any, pieces: Iterable[str], pad_to_multiple_of: int | None = None
) -> tuple[Any, list[str]]:
    """Append `pieces`, the most wanted first, to a copy of `base`.

    Pieces that the base has are passed over. The characters of every longer piece must be pieces
    themselves, or a Hugging Face tokenizer, which falls back to bytes before it merges, could
    never build it: those missing are put before all. If asked, unused pieces fill the vocabulary
    up to a multiple, which makes the embedding's shape a kind one to the hardware.

    Returns the new model and the pieces that it gained, in the order of their ids.
    """
    known = {piece.piece for piece in base.pieces}
    wanted = [piece for piece in dict.fromkeys(pieces) if piece not in known]
    singles = [piece for piece in wanted if len(piece) == 1]
    parts = dict.fromkeys(character for piece in wanted if len(piece) > 1 for character in piece)
    missing = [part for part in parts if part not in known and part not in set(singles)]
    added = singles + missing + [piece for piece in wanted if len(piece) > 1]

    model = ModelProto()
    model.CopyFrom(base)
    normal = [piece.score for piece in base.pieces if piece.type == Piece.NORMAL]
    for piece, score in zip(added, descending_scores(min(normal), len(added)), strict=True):
        model.pieces.add(piece=piece, score=score, type=Piece.NORMAL)
    if pad_to_multiple_of:
        for number in range(-len(model.pieces) % pad_to_multiple_of):
            model.pieces.add(piece=f"<unused_{number}>", score=0.0, type=Piece.UNUSED)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model, added


def without_padding(model: Any) -> Any:
    """A copy of `model` less the unused pieces at its end; the others keep their ids."""
    copy = ModelProto()
    copy.CopyFrom(model)
    while copy.pieces[-1].type == Piece.UNUSED:
        del copy.pieces[-1]
    return copy


def descending_scores(below: float, count: int) -> list[float]:
    """`count` scores, each a float32 strictly below the one before, the first below `below`."""
    scores = []
    last = np.float32(below)
    for _ in range(count):
        # Far from zero float32 is coarser than 1: some models hold scores of -1e9.
        last = min(np.float32(last - 1), np.nextafter(last, np.float32(-np.inf)))
        scores.append(float(last))
    return scores


def processor(model: Any) -> sentencepiece.SentencePieceProcessor:
    """The sentencepiece encoder of a model."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return sentencepiece.SentencePieceProcessor(model_proto=content)


def donor_pieces(model: Any, punctuation: bool) -> Sequence[str]:
    """The allowed pieces of another model, highest score first, without its space mark."""
    normal = [piece for piece in model.pieces if piece.type == Piece.NORMAL]
    normal.sort(key=lambda piece: -piece.score)  # stable: by id where scores are equal
    bare = (piece.piece.replace(SPACE, "") for piece in normal)
    return list(dict.fromkeys(piece for piece in bare if is_allowed(piece, punctuation)))
