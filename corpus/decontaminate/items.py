"""Evaluation items from files: question stems and options, in the formats of the usual sets."""

import csv
import glob
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from corpus.settings import UserError

STEM_NAMES = ("question", "query", "stem", "problem", "prompt", "题目", "问题")
OPTION_NAMES = ("choices", "options", "选项")
OPTION_COLUMNS = (
    [f"{letter}" for letter in "ABCDEFGH"],
    [f"choice{n}" for n in range(8)],
    [f"option_{letter}" for letter in "abcdefgh"],
)


@dataclass(frozen=True)
class Item:
    """One question of a test."""

    name: str  # file and row, as `mmlu.jsonl#12`, counted from 1
    stem: str
    options: tuple[str, ...]


def read_items(patterns: tuple[str, ...]) -> list[Item]:
    """Read the items of all files (see `item_files`): JSON lines, JSON lists, or CSV.

    A record's stem is under `question` (or query, stem, problem, prompt, 题目, 问题), its options
    under `choices` or `options`, or in columns A to H, choice0 to choice7. A CSV without such a
    header is read as MMLU's own: question, options, answer.

    Raises:
        UserError: names the file, and the line, that cannot be read so.
    """
    items: list[Item] = []
    for path in item_files(patterns):
        name = path.rsplit("/", 1)[-1]
        for row, (stem, options) in enumerate(_records(path), start=1):
            items.append(Item(f"{name}#{row}", stem, options))
    return items


def item_files(patterns: tuple[str, ...]) -> list[str]:
    """The files that the patterns (paths, with * and **) stand for, sorted.

    Raises:
        UserError: a pattern stands for none.
    """
    files: list[str] = []
    for pattern in patterns:
        if "://" in pattern:
            found = [str(file.path) for file in fsspec.open_files(pattern)]
        else:
            found = glob.glob(pattern, recursive=True)
        if not found:
            raise UserError(f"decontaminate.items: {pattern}: no such file")
        files += found
    return sorted(set(files))


def _records(path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        with fsspec.open(path, "rt", encoding="utf-8-sig", newline="", compression="infer") as file:
            content = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if ".csv" in path.rsplit("/", 1)[-1]:
        yield from _csv_records(path, content)
        return
    try:
        whole = json.loads(content) if content.lstrip().startswith("[") else None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON: {error}") from error
    if whole is not None:
        for row, record in enumerate(whole, start=1):
            yield _from_mapping(record, f"{path}: item {row}")
        return
    for line, text in enumerate(content.split("\n"), start=1):
        if text.strip():
            try:
                record = json.loads(text)
            except ValueError as error:
                raise UserError(f"{path}:{line}: is not JSON: {error}") from error
            yield _from_mapping(record, f"{path}:{line}")


def _csv_records(path: str, content: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    csv.field_size_limit(1 << 24)
    rows = [row for row in csv.reader(io.StringIO(content)) if row]
    if not rows:
        return
    header = [name.strip() for name in rows[0]]
    if any(name in STEM_NAMES for name in header):
        for line, row in enumerate(rows[1:], start=2):
            yield _from_mapping(dict(zip(header, row, strict=False)), f"{path}:{line}")
        return
    for line, row in enumerate(rows, start=1):
        if len(row) < 3:
            raise UserError(
                f"{path}:{line}: a CSV needs a header with one of {', '.join(STEM_NAMES)}, or "
                "MMLU's columns: question, options, answer"
            )
        yield row[0], tuple(row[1:-1])


def _from_mapping(record: Any, where: str) -> tuple[str, tuple[str, ...]]:
    if not isinstance(record, Mapping):
        raise UserError(f"{where}: an item must be a mapping, not {type(record).__name__}")
    stem = next((record[name] for name in STEM_NAMES if record.get(name)), None)
    if not isinstance(stem, str):
        raise UserError(f"{where}: has no question under any of {', '.join(STEM_NAMES)}")
    for name in OPTION_NAMES:
        options = record.get(name)
        if isinstance(options, Mapping):
            options = list(options.values())
        if isinstance(options, list):
            return stem, tuple(str(option) for option in options)
    for names in OPTION_COLUMNS:
        found = tuple(str(record[name]) for name in names if record.get(name) not in (None, ""))
        if found:
            return stem, found
    return stem, ()
