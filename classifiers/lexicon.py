"""Word lists of harmful classes: reading them, and finding their words in many texts at once.

Words and texts are folded alike (`classifiers.tokens`), so a word is found in full width, in
traditional characters, and with spaces or symbols between its characters. The words make one trie
of tokens, kept in a hash table, which a compiled kernel walks over Arrow's text buffers.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.fold import folded, kinds
from classifiers.model_files import LEXICON, read_file
from classifiers.scoring import text_buffers
from classifiers.tokens import cut, decode, single_hashes, token_hashes
from corpus.jit import kernel
from corpus.settings import UserError, read_text

FACTOR = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)
PREFIX = 0  # value of a node at which no word ends; words are numbered from 1


@dataclass(frozen=True)
class Hit:
    """A word found in a text; `begin` and `end` are in characters."""

    label: str
    word: str
    begin: int
    end: int


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
    (folder / LEXICON).write_text("".join(lines), encoding="utf-8")


@functools.cache
def load_matcher(model: str) -> "Matcher":
    """A matcher for the words kept beside a model, made once a process."""
    lexicons: dict[str, list[str]] = {}
    for line in read_file(model, LEXICON).decode().splitlines():
        label, word = line.split("\t", 1)
        lexicons.setdefault(label, []).append(word)
    return Matcher(lexicons)


@functools.cache
def matcher_of(lexicons: tuple[tuple[str, str], ...]) -> "Matcher":
    """A matcher for (label, path of a word list) pairs, made once a process."""
    words: dict[str, list[str]] = {}
    for label, path in lexicons:
        words.setdefault(label, []).extend(read_lexicon(path))
    return Matcher(words)


class Matcher:
    """Finds the words of several lists; of a word inside another, the longer one counts."""

    def __init__(self, lexicons: Mapping[str, Iterable[str]]) -> None:
        self.labels = tuple(lexicons)
        self._words: list[str] = []
        owners: list[int] = []
        nodes: dict[int, int] = {}
        for owner, words in enumerate(lexicons.values()):
            for word in words:
                node = np.uint64(0)
                hashes = token_hashes(word)
                for place, digest in enumerate(hashes):
                    node = np.uint64(_step(node, digest))
                    if place + 1 == len(hashes) and not nodes.get(int(node)):
                        self._words.append(word)
                        owners.append(owner)
                        nodes[int(node)] = len(self._words)
                    else:
                        nodes.setdefault(int(node), PREFIX)
        self._owners = np.array(owners, np.int64)
        size = 16
        while size < 2 * len(nodes) + 1:
            size *= 2
        self._keys = np.zeros(size, np.uint64)
        self._values = np.full(size, -1, np.int32)
        for key, value in nodes.items():
            slot = key & (size - 1)
            while self._values[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            self._keys[slot], self._values[slot] = key, value

    def counts(self, texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How often words of each label occur in each text, int64 [texts, labels], and the texts'
        lengths in tokens, int64 [texts]."""
        counts = np.zeros((len(texts), len(self.labels)), np.int64)
        lengths = np.zeros(len(texts), np.int64)
        offsets, data = text_buffers(texts)
        longest = int(np.diff(offsets).max(initial=0))
        found = np.empty((longest, 3), np.int32)
        for text in range(len(texts)):
            size, lengths[text] = self._find(data[offsets[text] : offsets[text + 1]], found)
            np.add.at(counts[text], self._owners[found[:size, 0]], 1)
        return counts, lengths

    def distinct(self, texts: pa.Array) -> npt.NDArray[np.int64]:
        """How many different words of each label occur in each text, int64 [texts, labels]."""
        counts = np.zeros((len(texts), len(self.labels)), np.int64)
        offsets, data = text_buffers(texts)
        _count_distinct(
            offsets, data, folded(), kinds(), single_hashes(), self._keys, self._values,
            self._owners, counts,
        )  # fmt: skip
        return counts

    def hits(self, text: str) -> list[Hit]:
        """Every word in `text`, in the order of their places."""
        data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
        found = np.empty((len(data), 3), np.int32)
        size, _ = self._find(data, found)
        return [
            Hit(self.labels[self._owners[word]], self._words[word], begin, end)
            for word, begin, end in found[:size].tolist()
        ]

    def _find(self, data: npt.NDArray[np.uint8], found: npt.NDArray[np.int32]) -> tuple[int, int]:
        return _walk(data, folded(), kinds(), single_hashes(), self._keys, self._values, found)  # type: ignore[no-any-return]


@kernel
def _step(node, digest):  # type: ignore[no-untyped-def]
    node = (np.uint64(node) ^ np.uint64(digest)) * FACTOR
    return node ^ (node >> SHIFT)


@kernel
def _walk(data, fold, kind, single, keys, values, found):  # type: ignore[no-untyped-def]
    """Fill `found` (int32 [hits, 3]: word, begin, end); return the numbers of hits and tokens."""
    codes = np.empty(len(data), np.uint32)
    hashes = np.empty(len(data), np.uint32)
    starts = np.empty(len(data), np.int32)
    ends = np.empty(len(data), np.int32)
    size = decode(data, fold, codes)
    count = cut(codes[:size], kind, single, hashes, starts, ends)
    mask = np.uint64(len(keys) - 1)
    hits = 0
    token = 0
    while token < count:
        node = np.uint64(0)
        word = 0
        last = token
        for after in range(token, count):
            node = _step(node, hashes[after])
            slot = node & mask
            value = -1
            while values[slot] >= 0:
                if keys[slot] == node:
                    value = values[slot]
                    break
                slot = (slot + np.uint64(1)) & mask
            if value < 0:
                break
            if value > 0:
                word, last = value, after
        if word:
            found[hits, 0] = word - 1
            found[hits, 1] = starts[token]
            found[hits, 2] = ends[last]
            hits += 1
        token = last + 1
    return hits, count


@kernel
def _count_distinct(offsets, data, fold, kind, single, keys, values, owners, counts):  # type: ignore[no-untyped-def]
    longest = 0
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    found = np.empty((longest, 3), np.int32)
    seen = np.full(len(owners), -1, np.int64)
    for text in range(len(offsets) - 1):
        piece = data[offsets[text] : offsets[text + 1]]
        hits, _ = _walk(piece, fold, kind, single, keys, values, found)
        for hit in range(hits):
            word = found[hit, 0]
            if seen[word] != text:
                seen[word] = text
                counts[text, owners[word]] += 1
