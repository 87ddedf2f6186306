"""What a run writes about its stages, `stage.json`, and how: read and written without Spark."""

import json
from dataclasses import dataclass
from typing import Any

import fsspec

RECORD_FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """What `stage.json` says of a finished stage."""

    stage: str
    fingerprint: str
    attempt: str
    """The folder, beside `stage.json`, that holds the decided documents."""
    columns: tuple[str, ...]
    """The columns that the stage wrote for kept documents, apart from `doc_id`."""
    documents_in: int
    kept: int
    dropped: int
    dropped_by_rule: dict[str, int]
    kept_digest: str
    """The sum of the kept documents' 64-bit hashes of `doc_id`: which they are, in any order."""
    seconds: float
    format: int = RECORD_FORMAT


def read_record(path: str) -> StageRecord | None:
    """The record of the finished stage in the folder `path`; None if there is none."""
    filesystem, local = fsspec.url_to_fs(path)
    try:
        content = json.loads(filesystem.cat_file(f"{local}/stage.json"))
    except FileNotFoundError:
        return None
    if content.get("format") != RECORD_FORMAT:
        return None
    if not filesystem.exists(f"{local}/{content['attempt']}"):
        return None
    content["columns"] = tuple(content["columns"])
    by_rule = content["dropped_by_rule"].items()
    content["dropped_by_rule"] = dict(sorted(by_rule, key=lambda item: (-item[1], item[0])))
    return StageRecord(**content)


def write_json(path: str, content: Any) -> None:
    """Write JSON to any fsspec address such that it is there whole or not at all."""
    filesystem, local = fsspec.url_to_fs(path)
    data = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True).encode()
    filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
    partial = f"{local}.partial"
    filesystem.pipe_file(partial, data)
    filesystem.mv(partial, local)
