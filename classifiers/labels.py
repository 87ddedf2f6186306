"""Labelled texts: reading them, and splitting them so that no near-duplicate lies on both sides.

A label file is a CSV with the columns `text` and `label`, and if known `lang` and `source`. A text
with several labels has them joined by `|`.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec

from classifiers.duplicates import near_duplicate_groups
from corpus.settings import UserError

LABEL = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Example:
    """One labelled text."""

    text: str
    labels: frozenset[str]
    lang: str
    source: str


def read_labels(paths: Iterable[str | Path]) -> list[Example]:
    """All examples of the CSV files at `paths`, in order.

    Raises:
        UserError: a file is missing, lacks a column, or has a row without text or label.
    """
    csv.field_size_limit(1 << 30)
    examples = []
    for path in paths:
        try:
            with fsspec.open(str(path), "rt", encoding="utf-8-sig", newline="") as file:
                content = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error
        reader = csv.DictReader(io.StringIO(content, newline=""))
        if not {"text", "label"} <= set(reader.fieldnames or ()):
            raise UserError(f"{path}:1: the columns `text` and `label` must be there")
        for row in reader:
            names = [name.strip() for name in (row["label"] or "").split("|")]
            if not row["text"] or not all(LABEL.fullmatch(name) for name in names):
                raise UserError(
                    f"{path}:{reader.line_num}: a row needs a text and a label made of letters, "
                    f"digits, _ and - (several are joined by |); it has {row['label']!r}"
                )
            lang, source = row.get("lang") or "", row.get("source") or ""
            examples.append(Example(row["text"], frozenset(names), lang, source))
    return examples


def split(
    examples: Sequence[Example], dev_share: float, test_share: float, seed: int
) -> tuple[list[Example], list[Example], list[Example]]:
    """Train, dev and test: each group of near-duplicates goes to one side, by a seeded hash."""
    groups = near_duplicate_groups([example.text for example in examples])
    sides: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example, group in zip(examples, groups, strict=True):
        key = f"{seed}\0{examples[group].text}".encode("utf-8", "surrogatepass")
        draw = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64
        sides[1 if draw < dev_share else 2 if draw < dev_share + test_share else 0].append(example)
    return sides


def without_leaks(
    train: Sequence[Example], held_out: Sequence[Example]
) -> tuple[list[Example], int]:
    """`train` less the near-duplicates of held-out texts, and how many those are."""
    texts = [example.text for example in [*held_out, *train]]
    groups = near_duplicate_groups(texts)
    taken = set(groups[: len(held_out)].tolist())
    kept = [
        example
        for example, group in zip(train, groups[len(held_out) :].tolist(), strict=True)
        if group not in taken
    ]
    return kept, len(train) - len(kept)


def count_labels(examples: Iterable[Example]) -> dict[str, int]:
    """How many examples bear each label, in alphabetical order."""
    counts = Counter(name for example in examples for name in example.labels)
    return dict(sorted(counts.items()))


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256, in hex, of texts and labels in their order."""
    digest = hashlib.sha256()
    for example in examples:
        line = f"{'|'.join(sorted(example.labels))}\0{example.text}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
