"""Which files a recipe's sources mean: listed once, on the driver, before any work."""

import hashlib
import heapq
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from corpus.reading.source import COMPRESSIONS, SUFFIXES, Source
from corpus.settings import UserError


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    source: int
    """Index into the recipe's sources."""
    address: str
    """What a worker opens."""
    locator: str
    """What the document's id is made of: the address, but relative where the recipe's path is."""
    size: int
    """Bytes as stored; 0 where the storage does not say."""
    version: str
    """Changes when the file's content does: its checksum, ETag or time of change."""


def list_files(sources: Sequence[Source]) -> list[SourceFile]:
    """The files of all sources, in the order of the sources and then of their locators.

    Raises:
        UserError: two sources bear one name, a path matches no file, or a file is named twice
            within a source.
    """
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"sources: the name {name!r} is used twice; names must be unique")
    return [file for index, source in enumerate(sources) for file in _source_files(index, source)]


def sources_fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256, in hex, over the sources' settings and their files' paths, sizes and versions."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(json.dumps(source.model_dump(mode="json"), sort_keys=True).encode() + b"\n")
    for file in list_files(sources):
        line = f"{file.source}\0{file.locator}\0{file.size}\0{file.version}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def balance(files: Sequence[SourceFile], slots: int) -> list[list[SourceFile]]:
    """Share the files out so that the slots hold about as many bytes each; deterministic."""
    shares: list[list[SourceFile]] = [[] for _ in range(slots)]
    heap = [(0, slot) for slot in range(slots)]
    for file in sorted(files, key=lambda f: (-f.size, f.source, f.locator)):
        load, slot = heapq.heappop(heap)
        shares[slot].append(file)
        # A constant for opening it, so that thousands of tiny files are shared out too.
        heapq.heappush(heap, (load + file.size + 16_384, slot))
    return shares


def _source_files(index: int, source: Source) -> list[SourceFile]:
    found: dict[str, SourceFile] = {}
    for path in source.paths:
        try:
            files = _path_files(index, source, path)
        except FileNotFoundError:
            files = []
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"source {source.name}: {path}: cannot be listed: {error}") from error
        if not files:
            raise UserError(
                f"source {source.name}: {path}: no such file, or no {source.format} file in it "
                f"(a folder's files must end in {', '.join(SUFFIXES[source.format])}; "
                "a glob takes any)"
            )
        for file in files:
            if file.locator in found:
                raise UserError(
                    f"source {source.name}: {file.locator} is matched by two of its paths; "
                    "each document must be read once"
                )
            found[file.locator] = file
    return [found[locator] for locator in sorted(found)]


def _path_files(index: int, source: Source, path: str) -> list[SourceFile]:
    filesystem, root = url_to_fs(path)
    is_local = "file" in _protocols(filesystem)
    relative_to = os.getcwd() if is_local and not os.path.isabs(_strip_file(path)) else None
    if any(sign in path for sign in "*?["):
        entries = filesystem.glob(root, detail=True)
    elif filesystem.isdir(root):
        entries = filesystem.find(root, detail=True)
        suffixes = SUFFIXES[source.format]
        entries = {
            name: entry
            for name, entry in entries.items()
            if _plain_suffix(name).endswith(suffixes) and not _is_hidden(name, root)
        }
    else:
        entries = {root: filesystem.info(root)}
    files = []
    for name, entry in entries.items():
        if entry.get("type") != "file":
            continue
        address = name if is_local else str(filesystem.unstrip_protocol(name))
        locator = os.path.relpath(name, relative_to) if relative_to else address
        files.append(
            SourceFile(
                source=index,
                address=address,
                # File names need not be UTF-8; locators must be.
                locator=os.fsencode(locator.replace(os.sep, "/")).decode(
                    "utf-8", "backslashreplace"
                ),
                size=int(entry.get("size") or 0),
                version=_version(filesystem, name, entry),
            )
        )
    return files


def _protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _strip_file(path: str) -> str:
    return path.removeprefix("file://").removeprefix("local://")


def _plain_suffix(name: str) -> str:
    name = name.lower()
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return name


def _is_hidden(name: str, root: str) -> bool:
    """Spark and editors leave `_SUCCESS`, `.part.crc` and the like beside the data."""
    inside = name[len(root) :].strip("/").split("/")
    return any(part.startswith((".", "_")) for part in inside)


def _version(filesystem: fsspec.AbstractFileSystem, name: str, entry: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated"):
        if entry.get(key):
            return str(entry[key])
    return str(filesystem.ukey(name))
