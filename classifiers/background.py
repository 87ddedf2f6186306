"""Whole documents beside the labelled texts: to train on by pieces, and to count false alarms.

Labelled texts are short and half of them harmful; a corpus is long and almost none of it is. A
model that never saw a statute or a prospectus calls some of them names. So pieces of ordinary
documents join the negatives, and thresholds are raised until hardly any other such document is
flagged.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import fsspec

from corpus.settings import UserError

HELD_OUT = 0.25  # share of the documents kept for the thresholds
PIECE = 200  # characters of a training piece
PIECES_OF_A_DOCUMENT = 12


def read_background(paths: Iterable[str], most: int) -> tuple[list[str], list[str]]:
    """Pieces to train on, and whole held-out documents, of the JSON-lines files at `paths`.

    most: documents taken of each file, those with the smallest hashes. Each row needs a `text`.

    Raises:
        UserError: a file cannot be read, or a line is not an object with a `text`.
    """
    pieces: list[str] = []
    held_out: list[str] = []
    for path in paths:
        for key, text in sorted(_documents(path))[:most]:
            if key[-1] < 256 * HELD_OUT:
                held_out.append(text)
            else:
                pieces.extend(_pieces(text, key[-2]))
    return pieces, held_out


def read_pieces(path: str, most: int) -> tuple[list[str], list[str], list[str]]:
    """Pieces of the documents of a JSON-lines file: for train, dev and test; see above."""
    sides: tuple[list[str], list[str], list[str]] = ([], [], [])
    for key, text in sorted(_documents(path))[:most]:
        side = 0 if key[-1] >= 256 * HELD_OUT else 1 if key[-1] % 2 else 2
        sides[side].extend(_pieces(text, key[-2]))
    return sides


def unseen(path: str, most: int) -> list[str]:
    """The documents of a JSON-lines file that `read_background(…, most)` does not take."""
    return [text for _, text in sorted(_documents(path))[most:]]


def _documents(path: str) -> list[tuple[bytes, str]]:
    found: list[tuple[bytes, str]] = []
    try:
        with fsspec.open(path, "rt", encoding="utf-8", compression="infer") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = json.loads(line)["text"]
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{path}:{number}: not a JSON object with a `text`") from error
                data = text.encode("utf-8", "surrogatepass")
                found.append((hashlib.blake2b(data, digest_size=16).digest(), text))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{Path(path)}: cannot be read: {error}") from error
    return found


def _pieces(text: str, draw: int) -> list[str]:
    starts = range(0, max(1, len(text) - PIECE // 2), PIECE)
    if len(starts) > PIECES_OF_A_DOCUMENT:
        step = len(starts) // PIECES_OF_A_DOCUMENT
        starts = starts[draw % step :: step][:PIECES_OF_A_DOCUMENT]
    return [text[start : start + PIECE] for start in starts if text[start : start + PIECE].strip()]
