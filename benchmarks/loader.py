"""How fast sequences are read, per CPU second, beside plain memmap slices and other loaders.

    python benchmarks/loader.py --data DIR [--quick] [--json OUT]

DIR/text is tokenized with DIR/tokenizers' 32k model into shards by language, domain and kind; its
documents come again in other orders until there are 200M tokens. Every row reads random sequences
of them on one thread, everything in the page cache, in a process of its own; CPU time is that of
the process and its children. What a row delivers differs, and the table says it: ours are drawn
from a ramped mixture, with labels, positions and masked document starts, int32.

Peers are run where they are installed (litdata, mosaicml-streaming, datatrove).
"""

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tokenization.indexed import IndexedReader, IndexedWriter
from tokenization.manifest import Manifest, ShardEntry, TokenizerInfo, read_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[1]
EOS = 2
REPEATS = 5

Documents = dict[str, list[np.ndarray]]


def main() -> None:
    """Make the shards, run every row in its own process, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--quick", action="store_true", help="20M tokens, fewer sequences")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sequences", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(ROWS[options.row][1](options.work, options.sequences)))
        return
    if options.data is None:
        parser.error("--data DIR is needed")
    figures: dict[str, float] = {}
    table = Table(
        title=f"loader ({platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {version('numpy')}, numba {version('numba')})",
        title_justify="left",
    )
    for name in ("loader", "what it delivers", "sequences / CPU s", "M tokens / CPU s"):
        table.add_column(name, justify="right" if "CPU" in name else "left")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        tokens = make_shards(options.data, work, 20_000_000 if options.quick else 200_000_000)
        for row, (delivers, _) in ROWS.items():
            command = [sys.executable, __file__, "--row", row, "--work", scratch]
            command += ["--sequences", "4000" if options.quick else "20000"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            try:
                speeds = json.loads(done.stdout.splitlines()[-1])
            except (IndexError, json.JSONDecodeError):
                reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
                table.add_row(row, f"did not run: {reason[:90]}", "", "")
                continue
            if isinstance(speeds, str):
                table.add_row(row, speeds, "", "")
                continue
            length = 16384 if "16k" in row else 4096
            middle = float(np.median(speeds))
            spread = f"{middle:,.0f} ({min(speeds):,.0f} – {max(speeds):,.0f})"
            table.add_row(row, delivers, spread, f"{middle * length / 1e6:,.0f}")
            figures[KEYS.get(row, row.replace(" ", "_") + "_per_cpu_s")] = middle
        for packing in ("concatenate", "best-fit"):
            share = documents_cut(work, packing)
            figures[f"documents_cut_{packing.replace('-', '_')}"] = share
            table.add_row(
                f"packing: {packing}", "documents ≤ 4,096 tokens that are cut", f"{share:.2%}", ""
            )
    table.caption = f"{tokens:,} tokens; median of {REPEATS} (lowest – highest)"
    Console(width=150).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def tokenize(data: Path, most_tokens: int) -> Documents:
    """Bucket → documents of the data folder's texts, EOS included, uint16."""
    import sentencepiece

    model = data / "tokenizers" / "mistral-v1-32000.model"
    encoder = sentencepiece.SentencePieceProcessor(model_file=str(model))
    found: Documents = {}
    paths = sorted((data / "text").glob("*.jsonl.gz"))
    for path in paths:
        tokens = 0
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if tokens > most_tokens / len(paths):
                    break
                row = json.loads(line)
                ids = [*encoder.encode(row["text"][:200_000]), EOS]
                bucket = f"{row['lang']}-{row['domain']}-{row['kind']}".replace(" ", "_")
                found.setdefault(bucket, []).append(np.array(ids, np.uint16))
                tokens += len(ids)
    return found


def make_shards(data: Path, work: Path, wanted: int) -> int:
    """Shards of `wanted` tokens under work/shards, and the same as one flat file a shard."""
    documents = tokenize(data, min(wanted, 25_000_000))
    copies = -(-wanted // sum(len(ids) for held in documents.values() for ids in held))
    random = np.random.default_rng(0)
    entries: list[ShardEntry] = []
    (work / "flat").mkdir()
    for bucket, held in sorted(documents.items()):
        tags = dict(zip(("lang", "domain", "kind"), bucket.split("-", 2), strict=True))
        lengths = np.array([len(ids) for ids in held])
        for number in range(copies):
            order = random.permutation(len(held))
            path = f"{bucket}/train-{number:05d}"
            ids = np.concatenate([held[place] for place in order])
            with IndexedWriter(work / "shards" / path, "uint16") as writer:
                writer.add_many(ids, lengths[order])
            ids.tofile(work / "flat" / f"{bucket}-{number:05d}.ds")
            entries.append(ShardEntry(
                path=path, split="train", bucket=bucket, tags=tags, documents=writer.documents,
                tokens=writer.tokens, bytes=writer.bytes, sha256=writer.sha256,
                idx_sha256=writer.idx_sha256,
            ))  # fmt: skip
    tokenizer = TokenizerInfo(fingerprint="none", vocabulary_size=32_000, eos_id=EOS)
    manifest = Manifest(dtype="uint16", seed=0, tokenizer=tokenizer, shards=tuple(entries))
    write_manifest(work / "shards", manifest)
    return sum(entry.tokens for entry in entries)


def speeds_of(read: Callable[[], int], warm_up: bool = True) -> list[float]:
    """Sequences per CPU second of several runs of `read`, which returns how many it read."""
    if warm_up:
        read()
    found = []
    for _ in range(REPEATS):
        begin = time.process_time()
        count = read()
        found.append(count / (time.process_time() - begin))
    return found


def ours(
    length: int, micro_batch: int, packing: str = "concatenate"
) -> Callable[[Path, int], list[float]]:
    """Our reader on a ramped mixture of all buckets."""

    def run(work: Path, sequences: int) -> list[float]:
        from train.buckets import buckets_of
        from train.schedule import Schedule
        from train.sequences import Batch, SequenceReader
        from train.stream import Stream

        schedule = Schedule.model_validate({
            "sequence_length": length, "batch_tokens": 2**20, "max_epochs": 1e9,
            "packing": packing,
            "stages": [{"name": "all", "tokens": 2 * 10**10,
                        "mix": {"lang": {"zh": 3, "en": "1 -> 3"}}}],
        })  # fmt: skip
        stream = Stream(schedule, buckets_of(read_manifest(work / "shards")))
        reader = SequenceReader(work / "shards", stream)
        steps = iter(range(stream.steps))
        whole: Batch | None = None

        def read() -> int:
            nonlocal whole
            count = 0
            while count < sequences:
                draws = stream.batch(next(steps))
                if not micro_batch:
                    whole = reader.read(draws, whole)
                    count += len(draws)
                    continue
                for first in range(0, len(draws), micro_batch):
                    count += len(reader.read(draws[first : first + micro_batch]).inputs)
            return count

        return speeds_of(read)

    return run


def documents_cut(work: Path, packing: str, length: int = 4096) -> float:
    """Which share of the documents that fit into a sequence are cut, over one reading of all."""
    from train.buckets import buckets_of
    from train.schedule import Schedule
    from train.sequences import SequenceReader
    from train.stream import Stream

    manifest = read_manifest(work / "shards")
    buckets = buckets_of(manifest)
    schedule = Schedule.model_validate({
        "sequence_length": length, "batch_tokens": 16 * length, "packing": packing,
        "stages": [{"name": "once", "tokens": sum(bucket.tokens for bucket in buckets)}],
    })  # fmt: skip
    stream = Stream(schedule, buckets)
    reader = SequenceReader(work / "shards", stream)
    edges = []
    for bucket in stream.buckets:
        shards = manifest.buckets()[bucket.name]
        lengths = [IndexedReader(work / "shards" / shard.path).lengths for shard in shards]
        edges.append(np.cumsum(np.concatenate([[0], *lengths])))
    whole = [np.zeros(len(edge) - 1, np.bool_) for edge in edges]
    for step in range(stream.steps):
        runs = reader.tape_runs(stream.batch(step))
        for bucket, edge in enumerate(edges):
            _, _, places, counts = runs[runs[:, 1] == bucket].T
            first = np.searchsorted(edge, places, "left")
            last = np.searchsorted(edge, places + counts, "right") - 1
            for begin, end in zip(first.tolist(), last.tolist(), strict=True):
                whole[bucket][begin:end] = True
    fitting = [np.diff(edge) <= length for edge in edges]
    kept = sum(int((held & fits).sum()) for held, fits in zip(whole, fitting, strict=True))
    return 1 - kept / sum(int(fits.sum()) for fits in fitting)


def ours_in_workers(work: Path, sequences: int) -> list[float]:
    """Our reader in two workers of torch's DataLoader: their CPU time and the trainer's."""
    import psutil

    from train.buckets import buckets_of
    from train.loader import micro_batches
    from train.schedule import Schedule
    from train.stream import Stream

    schedule = Schedule.model_validate({
        "sequence_length": 4096, "batch_tokens": 2**20, "max_epochs": 1e9,
        "stages": [{"name": "all", "tokens": 10**10}],
    })  # fmt: skip
    stream = Stream(schedule, buckets_of(read_manifest(work / "shards")))
    trainer = psutil.Process()
    steps = sequences * 4096 // 2**20 + 1
    loader = micro_batches(
        work / "shards", stream, micro_batch_sequences=16, first_step=0,
        end_step=steps * (REPEATS + 2), workers=2,
    )  # fmt: skip
    batches = iter(loader)
    read = 0
    while read < sequences:  # workers start, import and fill their queues: not what a step costs
        read += len(next(batches).inputs)
    found = []
    for _ in range(REPEATS):
        processes = [trainer, *trainer.children(recursive=True)]
        begin, count = sum(sum(p.cpu_times()[:2]) for p in processes), 0
        while count < sequences:
            count += len(next(batches).inputs)
        found.append(count / (sum(sum(p.cpu_times()[:2]) for p in processes) - begin))
    return found


def memmap(length: int) -> Callable[[Path, int], list[float]]:
    """Plain slices of memory-mapped files at random places: the limit."""

    def run(work: Path, sequences: int) -> list[float]:
        files = [np.memmap(p, np.uint16, "r") for p in sorted((work / "flat").glob("*.ds"))]
        files = [file for file in files if len(file) > length]
        random = np.random.default_rng(0)

        def read() -> int:
            chosen = random.integers(0, len(files), sequences)
            places = random.random(sequences)
            for number, place in zip(chosen.tolist(), places.tolist(), strict=True):
                file = files[number]
                start = int(place * (len(file) - length))
                np.array(file[start : start + length])
            return sequences

        return speeds_of(read)

    return run


def datatrove(work: Path, sequences: int) -> list[float] | str:
    """datatrove's folder dataset, shuffled."""
    try:
        from datatrove.utils.dataset import DatatroveFolderDataset
    except ImportError as error:
        return f"not installed ({error})"
    data = DatatroveFolderDataset(str(work / "flat"), 4096, filename_pattern="*.ds", shuffle=True)
    place = 0

    def read() -> int:
        nonlocal place
        for number in range(place, place + sequences):
            data[number % len(data)]
        place += sequences
        return sequences

    return speeds_of(read)


def endless(data: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch, as a trainer reads: an epoch's own start-up is paid once an epoch."""
    while True:
        yield from data


def litdata(work: Path, sequences: int) -> list[float] | str:
    """litdata's token loader, shuffled."""
    try:
        from litdata import StreamingDataset, TokensLoader
        from litdata.streaming import Cache
    except ImportError as error:
        return f"not installed ({error})"
    import torch

    folder = work / "litdata"
    if not folder.exists():
        cache = Cache(str(folder), chunk_size=4096 * 2048, item_loader=TokensLoader())
        number = 0
        for path in sorted((work / "flat").glob("*.ds")):
            ids = np.fromfile(path, np.uint16).astype(np.int32)
            for first in range(0, len(ids), 1 << 20):
                cache._add_item(number, torch.from_numpy(ids[first : first + (1 << 20)]))
                number += 1
        cache.done()
        cache.merge()
    data = StreamingDataset(str(folder), item_loader=TokensLoader(block_size=4096), shuffle=True)

    samples = endless(data)
    return speeds_of(lambda: sum(1 for _ in islice(samples, sequences)))


def mosaic(shuffle: bool) -> Callable[[Path, int], list[float] | str]:
    """MosaicML's streaming dataset, samples of 4,096 ids as bytes."""

    def run(work: Path, sequences: int) -> list[float] | str:
        try:
            from streaming import MDSWriter, StreamingDataset
        except ImportError as error:
            return f"not installed ({error})"
        folder = work / "mds"
        if not folder.exists():
            with MDSWriter(out=str(folder), columns={"tokens": "bytes"}) as writer:
                for path in sorted((work / "flat").glob("*.ds")):
                    ids = np.fromfile(path, np.uint16)
                    for first in range(0, len(ids) - 4096, 4096):
                        writer.write({"tokens": ids[first : first + 4096].tobytes()})
        data = StreamingDataset(local=str(folder), shuffle=shuffle, batch_size=16)

        samples = (
            np.frombuffer(sample["tokens"], np.uint16).astype(np.int64) for sample in endless(data)
        )
        return speeds_of(lambda: sum(1 for _ in islice(samples, sequences)))

    return run


ROWS: dict[str, tuple[str, Callable[[Path, int], list[float] | str]]] = {
    "ours, 4k": (
        "mixture, shuffled; inputs, labels, positions; micro-batches of 16",
        ours(4096, 16),
    ),
    "ours, 4k, whole batch": ("the same, 256 at a time into the same arrays", ours(4096, 0)),
    "ours, 16k": ("the same, micro-batches of 4", ours(16384, 4)),
    "ours, 4k, best-fit": ("the same, documents packed by best fit", ours(4096, 16, "best-fit")),
    "ours, DataLoader": (
        "the same as tensors from 2 torch workers, all processes",
        ours_in_workers,
    ),
    "memmap, 4k": ("a copy of a random slice, uint16: the limit", memmap(4096)),
    "memmap, 16k": ("the same", memmap(16384)),
    "datatrove, 4k": ("inputs, shuffled, int64; no mixture, no boundaries", datatrove),
    "litdata, 4k": ("inputs, shuffled; no mixture, no boundaries", litdata),
    "mosaicml-streaming, 4k": ("inputs, in order, int64; no boundaries", mosaic(False)),
    "mosaicml-streaming, 4k, shuffled": ("inputs, shuffled, int64; no boundaries", mosaic(True)),
}
KEYS = {
    "ours, 4k": "random_sequences_per_cpu_s_4k",
    "ours, 16k": "random_sequences_per_cpu_s_16k",
    "ours, 4k, whole batch": "whole_batches_sequences_per_cpu_s_4k",
    "ours, 4k, best-fit": "best_fit_sequences_per_cpu_s_4k",
    "ours, DataLoader": "dataloader_sequences_per_cpu_s_4k",
    "memmap, 4k": "memmap_sequences_per_cpu_s_4k",
    "memmap, 16k": "memmap_sequences_per_cpu_s_16k",
    "datatrove, 4k": "datatrove_sequences_per_cpu_s_4k",
    "litdata, 4k": "litdata_sequences_per_cpu_s_4k",
    "mosaicml-streaming, 4k": "mosaicml_sequences_per_cpu_s_4k",
    "mosaicml-streaming, 4k, shuffled": "mosaicml_shuffled_sequences_per_cpu_s_4k",
}


if __name__ == "__main__":
    main()
