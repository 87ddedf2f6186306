"""Word lists of harmful classes: reading them, and finding their words in texts.

Words and texts are folded alike (`classifiers.tokens`), so a word is found in full width, in
traditional characters, and with spaces or symbols between its characters.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from classifiers.tokens import token_text
from corpus.settings import UserError, read_text

LEXICON_FILE = "lexicon.tsv"


def read_lexicon(path: str | Path) -> list[str]:
    """The words of a list: one a line, or several a line between commas; # begins a comment.

    Raises:
        UserError: the file cannot be read or holds no word.
    """
    words: dict[str, None] = {}
    for line in read_text(path).lstrip("\ufeff").splitlines():
        for word in line.split("#")[0].replace("，", ",").split(","):
            if word.strip():
                words[word.strip()] = None
    if not words:
        raise UserError(f"{path}: no word in this list")
    return list(words)


def write_lexicons(folder: Path, lexicons: Iterable[tuple[str, str]]) -> None:
    """Keep the words of (label, path) lists beside a model, as lines of label, tab, word."""
    lines = [f"{label}\t{word}\n" for label, path in lexicons for word in read_lexicon(path)]
    (folder / LEXICON_FILE).write_text("".join(lines), encoding="utf-8")


@functools.cache
def load_matcher(folder: str) -> "Matcher":
    """A matcher for the words kept beside the model in `folder`, made once a process."""
    lexicons: dict[str, list[str]] = {}
    for line in read_text(Path(folder) / LEXICON_FILE).splitlines():
        label, word = line.split("\t", 1)
        lexicons.setdefault(label, []).append(word)
    return Matcher(lexicons)


class Matcher:
    """Finds the words of several lists in folded texts."""

    def __init__(self, lexicons: Mapping[str, Iterable[str]]) -> None:
        self._classes: dict[str, str] = {}  # folded word -> class
        for name, words in lexicons.items():
            for word in words:
                folded = token_text(word)
                if folded:
                    self._classes.setdefault(folded, name)
        self._longest = max((word.count(" ") + 1 for word in self._classes), default=0)

    def hits(self, text: str) -> list[tuple[str, str]]:
        """(class, word) of every word in `text`, in the order of their places, none inside another.

        The word is spelled as folded, its tokens joined where they are Chinese characters.
        """
        tokens = token_text(text).split()
        found, place = [], 0
        while place < len(tokens):
            for size in range(min(self._longest, len(tokens) - place), 0, -1):
                word = " ".join(tokens[place : place + size])
                if word in self._classes:
                    joined = "".join(tokens[place : place + size])
                    found.append((self._classes[word], word if word.isascii() else joined))
                    place += size - 1
                    break
            place += 1
        return found
