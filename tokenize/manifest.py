"""The manifest of a folder of shards: what lies in it, from which tokenizer, with checksums.

`manifest.json` is written last and atomically, so a folder that has one is whole. Reading it,
`verify` and the shard reader (`tokenization.indexed`) are all that training needs of this room;
none of them imports Spark or torch.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import NonNegativeInt, PositiveInt, model_validator

from corpus.settings import Settings, UserError, read_text, validate
from tokenization.indexed import IndexedReader

MANIFEST = "manifest.json"
Split = Literal["train", "heldout"]


class TokenizerInfo(Settings):
    """Which tokenizer made the ids."""

    fingerprint: str
    """SHA-256 of the file that decides the ids, see `tokenizer_fingerprint`."""
    vocabulary_size: PositiveInt
    """Every id is below this."""
    eos_id: NonNegativeInt
    """The id that ends every document."""
    bos_id: NonNegativeInt | None = None
    """The id that begins every document, or null if none does."""
    path: str | None = None
    """The tokenizer's folder, from the manifest's; null if it is not known."""


class ShardEntry(Settings):
    """One shard: `path` + ".bin" and ".idx", and the lineage beside them if there is one."""

    path: str
    """From the manifest's folder, without suffix: `zh-general-law/train-00000`."""
    split: Split
    bucket: str
    """`<lang>-<domain>-<kind>`"""
    tags: dict[str, str]
    """`lang`, `domain` and `kind`, by which a mixture speaks of the bucket."""
    documents: NonNegativeInt
    tokens: NonNegativeInt
    """End-of-text ids included."""
    bytes: NonNegativeInt
    """Of `.bin`."""
    sha256: str
    """Of `.bin`."""
    idx_sha256: str
    """Of `.idx`."""


class Manifest(Settings):
    """All shards of a folder, in the order in which a bucket's shards follow each other."""

    format: Literal[1] = 1
    dtype: Literal["uint16", "int32"]
    seed: int
    """Of the hash by which documents were put in order."""
    tokenizer: TokenizerInfo
    shards: tuple[ShardEntry, ...]

    @model_validator(mode="after")
    def _paths_are_unique_and_inside(self) -> "Manifest":
        paths = [shard.path for shard in self.shards]
        if len(set(paths)) != len(paths):
            raise ValueError("a shard is listed twice")
        for path in paths:
            if os.path.isabs(path) or ".." in path.split("/"):
                raise ValueError(f"the shard's path {path} leads out of the folder")
        return self

    def buckets(self, split: Split = "train") -> dict[str, list[ShardEntry]]:
        """The shards of a split by bucket, buckets and shards in the manifest's order."""
        found: dict[str, list[ShardEntry]] = {}
        for shard in self.shards:
            if shard.split == split:
                found.setdefault(shard.bucket, []).append(shard)
        return found


def read_manifest(directory: str | Path) -> Manifest:
    """The manifest of a folder of shards; a `UserError` if there is none or it is damaged."""
    path = f"{str(directory).rstrip('/')}/{MANIFEST}"
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(
            f"{path}: there is no manifest, so these shards are not there or not finished; "
            "build them with tokenize/build_shards.py"
        ) from error
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: this is not valid JSON: {error.msg}") from error
    return validate(content, Manifest, path)


def write_manifest(directory: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json` in one step: it is there and whole, or it is not there."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    filesystem, folder = fsspec.core.url_to_fs(str(directory))
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    filesystem.makedirs(folder, exist_ok=True)
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, text.encode())  # an object store shows whole objects only
        return
    partial = f"{path}.{os.getpid()}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def verify(directory: str | Path, checksums: bool = False) -> Manifest:
    """Check that every shard of a local folder is what its manifest says, and return that.

    Sizes, headers and counts are always checked, which takes milliseconds; `checksums` reads
    every byte as well. If the tokenizer's folder is where the manifest says, its fingerprint is
    checked too.

    Raises:
        UserError: the first file that is missing, damaged, or made by another tokenizer.
    """
    manifest = read_manifest(directory)
    for shard in manifest.shards:
        check_shard(Path(directory) / shard.path, shard, manifest.dtype)
        if checksums:
            for suffix, expected in ((".bin", shard.sha256), (".idx", shard.idx_sha256)):
                path = f"{directory}/{shard.path}{suffix}"
                if file_sha256(path) != expected:
                    raise UserError(
                        f"{path}: its checksum is not the manifest's: the file has changed since "
                        "it was written; build or copy it again"
                    )
    if manifest.tokenizer.path is not None:
        folder = Path(directory) / manifest.tokenizer.path
        if folder.is_dir():
            check_tokenizer(folder, manifest)
    return manifest


def check_shard(prefix: Path, shard: ShardEntry, dtype: str) -> IndexedReader:
    """Open a shard and hold it against its entry; a `UserError` names the file that differs."""
    reader = IndexedReader(prefix)
    found = (reader.dtype.name, len(reader), len(reader.tokens))
    expected = (dtype, shard.documents, shard.tokens)
    if found != expected:
        raise UserError(
            "{}.idx: holds {} ids, {:,} documents, {:,} tokens; the manifest says {} ids, {:,} "
            "documents, {:,} tokens: one of them belongs to another run".format(
                prefix, *found, *expected
            )
        )
    return reader


def check_tokenizer(folder: str | Path, manifest: Manifest) -> None:
    """Raise a `UserError` if the tokenizer in `folder` is not the one that made the shards."""
    found = tokenizer_fingerprint(folder)
    if found != manifest.tokenizer.fingerprint:
        raise UserError(
            f"{folder}: this is not the tokenizer that made the shards (its fingerprint begins "
            f"{found[:12]}, theirs {manifest.tokenizer.fingerprint[:12]})"
        )


def tokenizer_fingerprint(folder: str | Path) -> str:
    """SHA-256, in hex, of the file in `folder` that decides the ids.

    That is `tokenizer.model` (sentencepiece) or, without one, `tokenizer.json` (Hugging Face).
    """
    for name in ("tokenizer.model", "tokenizer.json"):
        path = Path(folder) / name
        if path.is_file():
            return file_sha256(path)
    raise UserError(f"{folder}: holds neither tokenizer.model nor tokenizer.json")


def file_sha256(path: str | Path) -> str:
    """SHA-256, in hex, of a local file; a `UserError` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
