"""Reading the originals, and writing rows so that the same input gives the same bytes."""

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]
CHOSEN: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("chosen.yaml").read_text("utf-8")
)

STATUTE = re.compile(r"(?:.*/)?(?P<title>[^/]*?)(?:\((?P<date>\d{4}-\d\d-\d\d)\))?\.md$")


def read_rows(data: Path, name: str) -> list[Row]:
    with gzip.open(data / f"text/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def read_json(path: Path, lines: bool = False) -> list[Row]:
    text = path.read_text("utf-8")
    if lines:
        # Cornucopia's sample files end in a line of dots
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    items: list[Row] = json.loads(text)
    return items


def statute(row: Row) -> Row:
    """A statute's row with the title and the date that its file's name bears."""
    name = STATUTE.match(row["id"])
    if name is None:
        raise ValueError(f"{row['id']}: not a statute's path")
    identity = row["id"].split("/", 2)[-1].removesuffix(".md")
    found = {"id": identity, "text": row["text"], "title": name["title"]}
    return {**found, "date": name["date"]} if name["date"] else found


def by_hash(rows: Iterable[Row], key: str = "id") -> list[Row]:
    """The rows in an order that depends on each row's own key only."""
    return sorted(rows, key=lambda row: hashlib.blake2b(row[key].encode()).digest())


def write_jsonl(path: Path, rows: list[Row], cut_line: int | None = None) -> None:
    """Writes one row a line, gzipped if the name says so; line `cut_line` loses its second half."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if cut_line is not None:
        lines[cut_line] = lines[cut_line][: len(lines[cut_line]) // 2]
    content = "".join(f"{line}\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".gz":
        path.write_bytes(content)
        return
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(content)
