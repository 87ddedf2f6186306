"""Look at token shards, check them, and take them apart or together.

    python -m tokenization.inspect runs/demo/shards                       # the table of buckets
    python -m tokenization.inspect runs/demo/shards --checksums           # … every byte checked
    python -m tokenization.inspect runs/demo/shards/zh-general-law/train-00000 --document 3
    python -m tokenization.inspect merge A B --output C
    python -m tokenization.inspect split A --shard-tokens 100000000 --output C
    python -m tokenization.inspect to-hf A --output H
    python -m tokenization.inspect from-megatron corpus_text_document --bucket zh-general-web \\
        --tokenizer runs/demo/tokenizer --output A

This folder has no __init__.py, on purpose: next to a module or package called `inspect` a script
in tokenize/ would no longer find Python's own.
"""

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from corpus.settings import UserError, command
from tokenization.encoder import describe_tokenizer, load_decoder
from tokenization.indexed import IndexedReader
from tokenization.manifest import MANIFEST, Manifest, check_shard, file_sha256, verify
from tokenization.tools import (
    existing_manifest,
    from_megatron,
    read_lineage,
    recut,
    to_hugging_face,
)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; a first word that is none of them is a shard or a folder to show."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], None]] = {
        "merge": _merge,
        "split": _split,
        "to-hf": _to_hf,
        "from-megatron": _from_megatron,
    }
    if words and words[0] in commands:
        commands[words[0]](words[1:])
    else:
        _show(words)
    return 0


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m tokenization.inspect {name}".strip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _show(words: list[str]) -> None:
    parser = _parser("", __doc__)
    parser.add_argument("path", help="a folder of shards, or a shard's path")
    parser.add_argument("--checksums", action="store_true", help="read every byte and check it")
    parser.add_argument("--document", type=int, metavar="K", help="ids and text of document K")
    parser.add_argument("--token", type=int, metavar="N", help="the document that holds token N")
    parser.add_argument("--doc-id", help="find a document by its doc_id")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N random documents")
    parser.add_argument("--seed", type=int, default=0, help="of the random documents")
    parser.add_argument("--tokenizer", help="its folder, if the manifest's is not there")
    options = parser.parse_args(words)
    path = Path(options.path)
    if path.is_dir():
        _show_folder(path, options)
        return
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    found = existing_manifest(prefix)
    reader = IndexedReader(prefix)
    if found is not None:
        _check_against_manifest(prefix, *found, checksums=options.checksums)
    lengths = reader.lengths
    print(f"{prefix}: {len(reader):,} documents, {len(reader.tokens):,} tokens of {reader.dtype}")
    if len(reader):
        print(
            f"tokens a document: {lengths.min():,} to {lengths.max():,}, "
            f"mean {lengths.mean():,.1f}, median {np.median(lengths):,.0f}"
        )
    lineage = read_lineage(prefix, len(reader))
    decode = _decoder(options.tokenizer, found)
    chosen = []
    if options.document is not None:
        chosen.append(options.document)
    if options.token is not None:
        chosen.append(reader.document_at(options.token))
    if options.doc_id is not None:
        if options.doc_id not in lineage:
            raise UserError(f"{prefix}: there is no document {options.doc_id}")
        chosen.append(lineage.index(options.doc_id))
    if options.sample:
        rng = random.Random(options.seed)
        chosen += sorted(rng.sample(range(len(reader)), min(options.sample, len(reader))))
    for k in chosen:
        ids = reader.document(k).tolist()
        print(f"\ndocument {k} ({lineage[k] or 'no lineage'}), {len(ids):,} tokens")
        print(" ".join(map(str, ids)))
        if decode is not None:
            print(decode(ids))


def _show_folder(folder: Path, options: argparse.Namespace) -> None:
    manifest = verify(folder, options.checksums)
    info = manifest.tokenizer
    print(
        f"{folder}: {manifest.dtype}, tokenizer {info.fingerprint[:12]} with "
        f"{info.vocabulary_size:,} entries, end of text {info.eos_id}"
    )
    heads = f"{'shards':>6} {'documents':>11} {'tokens':>15} {'a document':>10}"
    print(f"{'bucket':40} {'split':8} {heads}")
    for split in ("train", "heldout"):
        for bucket, shards in manifest.buckets(split).items():
            documents = sum(shard.documents for shard in shards)
            tokens = sum(shard.tokens for shard in shards)
            print(
                f"{bucket:40} {split:8} {len(shards):6,} {documents:11,} {tokens:15,} "
                f"{tokens / max(1, documents):10,.1f}"
            )
    print("every byte is as it was written" if options.checksums else "sizes and headers agree")
    if options.doc_id is not None:
        for shard in manifest.shards:
            lineage = read_lineage(folder / shard.path, shard.documents)
            if options.doc_id in lineage:
                print(f"{options.doc_id}: {shard.path}, document {lineage.index(options.doc_id)}")
                return
        raise UserError(f"{folder}: there is no document {options.doc_id}")


def _check_against_manifest(
    prefix: Path, folder: Path, manifest: Manifest, checksums: bool
) -> None:
    name = prefix.relative_to(folder).as_posix()
    entries = [shard for shard in manifest.shards if shard.path == name]
    if not entries:
        raise UserError(f"{prefix}: {folder / MANIFEST} does not know this shard")
    check_shard(prefix, entries[0], manifest.dtype)
    if checksums:
        for suffix, expected in ((".bin", entries[0].sha256), (".idx", entries[0].idx_sha256)):
            if file_sha256(f"{prefix}{suffix}") != expected:
                raise UserError(f"{prefix}{suffix}: its checksum is not the manifest's")
        print("every byte is as it was written")


def _decoder(
    tokenizer: str | None, found: tuple[Path, Manifest] | None
) -> Callable[[list[int]], str] | None:
    if tokenizer is not None:
        return load_decoder(tokenizer)
    if found is not None and found[1].tokenizer.path is not None:
        folder = found[0] / found[1].tokenizer.path
        return load_decoder(folder) if folder.is_dir() else None
    return None


def _merge(words: list[str]) -> None:
    parser = _parser(
        "merge",
        "Write the shards of several folders, made by one tokenizer, into one folder. Documents "
        "keep their order, one folder after the other.",
    )
    parser.add_argument("inputs", nargs="+", help="folders of shards")
    parser.add_argument("--output", required=True, help="a new folder")
    parser.add_argument("--shard-tokens", type=int, help="at most so many a shard")
    options = parser.parse_args(words)
    _report(recut(options.inputs, options.output, options.shard_tokens), options.output)


def _split(words: list[str]) -> None:
    parser = _parser("split", "Cut the shards of a folder into smaller ones, between documents.")
    parser.add_argument("input", help="a folder of shards")
    parser.add_argument("--shard-tokens", type=int, required=True, help="at most so many a shard")
    parser.add_argument("--output", required=True, help="a new folder")
    options = parser.parse_args(words)
    _report(recut([options.input], options.output, options.shard_tokens), options.output)


def _to_hf(words: list[str]) -> None:
    parser = _parser(
        "to-hf", "Write the shards as Parquet files that Hugging Face's `datasets` loads."
    )
    parser.add_argument("input", help="a folder of shards")
    parser.add_argument("--output", required=True, help="a new folder")
    options = parser.parse_args(words)
    for path in to_hugging_face(options.input, options.output):
        print(path)


def _from_megatron(words: list[str]) -> None:
    parser = _parser(
        "from-megatron", "Make an existing Megatron corpus (.bin and .idx) a bucket of a folder."
    )
    parser.add_argument("prefixes", nargs="+", help="paths without suffix")
    parser.add_argument("--bucket", required=True, help="<lang>-<domain>-<kind>")
    parser.add_argument("--tokenizer", required=True, help="the folder of the one that made it")
    parser.add_argument("--eos", help="the token that ends documents; default: the tokenizer's own")
    parser.add_argument("--split", choices=["train", "heldout"], default="train")
    parser.add_argument("--output", required=True, help="a folder of shards, new or not")
    options = parser.parse_args(words)
    info = describe_tokenizer(options.tokenizer, options.eos, bos=False)
    manifest = from_megatron(options.prefixes, options.output, options.bucket, info, options.split)
    _report(manifest, options.output)


def _report(manifest: Manifest, output: str) -> None:
    documents = sum(shard.documents for shard in manifest.shards)
    tokens = sum(shard.tokens for shard in manifest.shards)
    print(f"{output}: {len(manifest.shards)} shards, {documents:,} documents, {tokens:,} tokens")


if __name__ == "__main__":
    sys.exit(main())
