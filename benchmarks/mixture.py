"""The staged mixture: is it exact, does it lose or repeat anything, how soon does it start.

    python benchmarks/mixture.py --data DIR [--quick] [--json OUT]

1. Exactness: over random schedules, the largest distance of any bucket at any block's end from the
   integral of its weight, worked out here anew with numpy; and XuanYuan's schedule, planned
   against drawn, at 20 points.
2. Repeats and skips: small shards read token by token through epochs, resumes, edited schedules
   and added shards, on several rank counts; beside Megatron's rule for a changed blend.
3. Start-up for 200B tokens in 10,000 shards of 40 buckets, in fresh processes, beside Megatron's
   index builder where it can be imported.
4. Memory over a million batches.

Nothing of the data folder is needed: shards are made here, most of them empty files.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tokenization.indexed import IndexedWriter, index_bytes
from tokenization.manifest import Manifest, ShardEntry, TokenizerInfo, read_manifest, write_manifest
from train.buckets import Bucket, buckets_of, imaginary_buckets
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.stream import Stream

ROOT = Path(__file__).resolve().parents[1]
LANGS, DOMAINS = ("zh", "en"), ("general", "finance")
KINDS = ("web", "news", "book", "law", "paper", "qa", "filing", "report", "exam", "textbook")
NAMES = [f"{lang}-{domain}-{kind}" for lang in LANGS for domain in DOMAINS for kind in KINDS]


def main() -> None:
    """Run all parts and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the data folder (not needed here)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one minute")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    rows: list[tuple[str, str, str, str]] = []
    figures |= exactness(10**6 if options.quick else 10**7, rows)
    figures |= xuanyuan(rows)
    with tempfile.TemporaryDirectory() as scratch:
        figures |= repeats_and_skips(Path(scratch) / "small", 20 if options.quick else 100, rows)
        figures |= start_up(Path(scratch) / "large", 3 if options.quick else 7, rows)
    figures |= memory(10**5 if options.quick else 10**6, rows)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba"))
    table = Table(title=f"mixture ({machine}, {packages})", title_justify="left")
    for name in ("what", "ours", "limit", "peer"):
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def random_schedule(
    random: np.random.Generator, sequences: int, growing: bool = False
) -> tuple[Schedule, tuple[Bucket, ...]]:
    """A schedule of about so many sequences over 3 to 40 buckets that can be drawn.

    `growing`: the sequence length doubles after each third of the stages, 4k to 8k to 16k.
    """
    names = random.choice(NAMES, int(random.integers(3, 41)), replace=False)
    buckets = imaginary_buckets({str(n): int(10 ** random.uniform(6, 11)) for n in names})
    stages = int(random.integers(3 if growing else 1, 7))
    shares = random.dirichlet(np.ones(stages) * 3)
    lengths = int(random.choice([1024, 4096]))
    content: dict[str, Any] = {
        "sequence_length": lengths,
        "batch_tokens": lengths * int(random.choice([64, 100, 256, 1000])) * (4 if growing else 1),
        "max_epochs": 1e12,
        "stages": [],
    }

    def ratio(values: set[str]) -> dict[str, str]:
        ends = 10 ** random.uniform(-1.5, 1.5, (len(values), 2))
        return {v: f"{a:.4f} -> {b:.4f}" for v, (a, b) in zip(sorted(values), ends, strict=True)}

    langs = {name.split("-")[0] for name in names}
    for number in range(stages):
        mix = {"lang": ratio(langs)}
        for lang in sorted(langs):
            kinds = {name.split("-")[2] for name in names if name.startswith(lang)}
            mix[f"kind within {lang}"] = ratio(kinds)
        stage = {
            "name": f"stage {number}",
            "tokens": max(lengths * 2000, int(shares[number] * sequences * lengths)),
            "mix": mix,
            "ramp": str(random.choice(["linear", "linear", "cosine", "step"])),
        }
        if growing:
            stage["sequence_length"] = lengths << (3 * number // stages)
        content["stages"].append(stage)
    return Schedule.model_validate(content), buckets


def planned_tokens(stream: Stream) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every leg its sequences' length and, at each block's end, the integral of all buckets'
    weights and what was drawn: float64 and int64 [blocks, buckets], tokens from the run's start."""
    base = np.zeros(len(stream.buckets))
    for number, leg in enumerate(stream.legs):
        at = np.arange(1, leg.steps + 1) / leg.steps
        weights = stream.plan.weights[number]
        if leg.stage.ramp == "linear":
            risen = at**2 / 2
        elif leg.stage.ramp == "cosine":
            risen = at / 2 - np.sin(np.pi * at) / (2 * np.pi)
        else:
            treads = leg.stage.ramp_steps
            edges = np.arange(treads) / treads
            heights = np.arange(treads) / (treads - 1)
            inside = np.clip(at[:, None] - edges, 0, 1 / treads)
            risen = (inside * heights).sum(axis=1)
        total = leg.sequences * leg.steps * leg.length
        integral = base + total * (
            at[:, None] * weights[0] + risen[:, None] * (weights[1] - weights[0])
        )
        drawn = np.array([leg.cursors(leg.step + block) for block in range(1, leg.steps + 1)])
        yield leg.length, integral, drawn
        base = integral[-1]


def exactness(sequences: int, rows: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """The largest deviation over ten random schedules, and over ten whose sequences grow."""
    figures: dict[str, float] = {}
    for growing in (False, True):
        random = np.random.default_rng(20)
        worst, drawn, blocks, largest = 0.0, 0, 0, 0
        for _ in range(10):
            schedule, buckets = random_schedule(random, sequences // 10, growing)
            stream = Stream(schedule, buckets)
            for length, integral, tokens in planned_tokens(stream):
                assert (np.diff(tokens, axis=0) >= 0).all()
                worst = max(worst, float(np.abs(integral - tokens).max()) / length)
                blocks += len(tokens)
            drawn += sum(leg.steps * leg.sequences for leg in stream.legs)
            largest = max(largest, len(buckets))
        growth = ", lengths doubling twice" if growing else ""
        rows.append((
            f"largest deviation from the integral, sequences{growth}",
            f"{worst:.4f} ({drawn:,} sequences, {blocks:,} blocks, up to {largest} buckets)",
            "< 1", "",
        ))  # fmt: skip
        suffix = "_growing_lengths" if growing else ""
        figures[f"max_deviation_sequences{suffix}"] = worst
        figures[f"sequences_checked{suffix}"] = drawn
    return figures


def xuanyuan(rows: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """Planned against drawn shares of XuanYuan's schedule at 20 points along the run."""
    from corpus.settings import load

    schedule = load(ROOT / "configs/mixture/xuanyuan-70b.yaml", Schedule)
    kinds = ("encyclopedia", "book", "exam", "paper", "web", "news", "social", "forum", "qa")
    random = np.random.default_rng(7)
    tokens = {f"zh-general-{kind}": int(random.integers(20, 200)) * 10**9 for kind in kinds}
    tokens |= {f"en-general-{kind}": int(random.integers(20, 400)) * 10**9 for kind in kinds}
    tokens |= {f"zh-finance-{kind}": 20 * 10**9 for kind in ("report", "news", "filing")}
    stream = Stream(schedule, imaginary_buckets(tokens))
    members = {
        "zh": np.array([b.tags["lang"] == "zh" for b in stream.buckets]),
        "finance": np.array([b.tags["domain"] == "finance" for b in stream.buckets]),
        "knowledge in zh-general": np.array(
            [b.name.startswith("zh-general") and b.tags["kind"] in schedule.groups["knowledge"]
             for b in stream.buckets]
        ),
    }  # fmt: skip
    table = Table(
        title=f"xuanyuan-70b.yaml, {stream.steps:,} steps: shares planned / drawn since the last "
        "point",
        title_justify="left",
    )
    table.add_column("tokens", justify="right")
    for name in members:
        table.add_column(name, justify="right")
    worst = 0.0
    edges = np.linspace(0, stream.steps, 21).astype(int)
    for begin, end in pairwise(edges):
        planned, drawn = np.zeros(len(stream.buckets)), np.zeros(len(stream.buckets))
        for leg in stream.legs:
            low, high = max(begin, leg.step), min(end, leg.end)
            if low < high:
                first, last = leg.block + low - leg.step, leg.block + high - leg.step
                scheduled = leg.counts.scheduled(last) - leg.counts.scheduled(first)
                planned += scheduled * leg.length
                drawn += leg.cursors(high) - leg.cursors(low)
        cells = []
        for inside in members.values():
            shares = planned[inside].sum() / planned.sum(), drawn[inside].sum() / drawn.sum()
            worst = max(worst, abs(shares[0] - shares[1]))
            cells.append(f"{shares[0]:.4%} / {shares[1]:.4%}")
        table.add_row(f"{stream.tokens_before(int(end)):,}", *cells)
    Console(width=150).print(table)
    rows.append(("XuanYuan's shares at 20 points, planned – drawn", f"≤ {worst:.2e}", "", ""))
    return {"xuanyuan_share_error": worst}


def write_numbered_shards(folder: Path, shards: dict[str, list[int]]) -> None:
    """Shards whose every token is its own place on the bucket's tape, in documents of 40."""
    entries = []
    for bucket, sizes in shards.items():
        place = 0
        tags = dict(zip(("lang", "domain", "kind"), bucket.split("-"), strict=True))
        for number, size in enumerate(sizes):
            path = f"{bucket}/train-{number:05d}"
            lengths = np.full(-(-size // 40), 40)
            lengths[-1] = size - 40 * (len(lengths) - 1)
            with IndexedWriter(folder / path, "int32") as writer:
                writer.add_many(np.arange(place, place + size, dtype=np.int32), lengths)
            place += size
            entries.append(_entry(path, bucket, tags, writer.documents, size, writer.sha256, 4))
            entries[-1] = entries[-1].model_copy(update={"idx_sha256": writer.idx_sha256})
    write_manifest(folder, _manifest("int32", entries))


def repeats_and_skips(
    folder: Path, runs: int, rows: list[tuple[str, str, str, str]]
) -> dict[str, float]:
    """Enumerate runs that are interrupted, edited and fed new shards at random steps."""
    random = np.random.default_rng(3)
    repeats = skips = drawn = edits = 0
    for run in range(runs):
        found = _enumerate_run(folder / str(run), random)
        repeats, skips = repeats + found[0], skips + found[1]
        drawn, edits = drawn + found[2], edits + found[3]
    peer = megatron_rule()
    rows.append((
        "tokens repeated before an epoch's end",
        f"{repeats} of {drawn:,} ({runs} runs, {edits} resumes, edits and added shards)",
        "0", f"Megatron's rule: {peer[0]:,} of 20,000 samples",
    ))  # fmt: skip
    rows.append(("tokens skipped", f"{skips}", "0", f"Megatron's rule: {peer[1]:,} samples"))
    return {"repeats": repeats, "skips": skips, "tokens_enumerated": drawn}


def _enumerate_run(folder: Path, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(repeats, skips, tokens drawn, events) of one random run."""
    sizes = {name: [int(random.integers(30, 400)) for _ in range(2)] for name in
             ("zh-general-law", "zh-finance-qa", "en-general-web")}  # fmt: skip
    counts = {name: np.zeros(sum(parts), np.int64) for name, parts in sizes.items()}
    floors = dict.fromkeys(sizes, 0)
    lowest = {name: len(read) for name, read in counts.items()}  # tokens read `floors` times
    checkpoint: dict[str, Any] | None = None
    step = repeats = drawn = events = 0
    length = int(random.choice([8, 16]))
    schedule = _small_schedule(random, length)
    while True:
        write_numbered_shards(folder, sizes)
        buckets = buckets_of(read_manifest(folder))
        if checkpoint is None:
            stream = Stream(schedule, buckets)
        else:
            stream = Stream.resumed(json.loads(json.dumps(checkpoint)), schedule, buckets)
        reader = SequenceReader(folder, stream)
        until = min(stream.steps, step + int(random.integers(1, 30)))
        while step < until:
            ranks = int(random.choice([1, 2, 3, 8, 1000], p=[0.3, 0.3, 0.2, 0.19, 0.01]))
            batch: dict[str, list[tuple[int, np.ndarray]]] = {}
            for rank in range(ranks):
                draws = stream.share(step, rank, ranks)
                for row, sequence in enumerate(reader.read(draws).inputs):
                    name = stream.buckets[draws.bucket[row]].name
                    batch.setdefault(name, []).append((int(draws.start[row]), sequence))
            for name, found in batch.items():
                for _, tokens in sorted(found, key=lambda pair: pair[0]):
                    for token in tokens.tolist():
                        # A token may come again only when all were read as often.
                        repeats += int(counts[name][token] > floors[name])
                        lowest[name] -= int(counts[name][token] == floors[name])
                        counts[name][token] += 1
                        if lowest[name] == 0:
                            floors[name] += 1
                            lowest[name] = int((counts[name] == floors[name]).sum())
                    drawn += len(tokens)
            step += 1
        reader.close()
        if step == stream.steps:
            break
        checkpoint = stream.checkpoint(step)
        events += 1
        event = random.integers(3)
        if event == 1:  # an edit
            schedule = _small_schedule(random, length)
        if event == 2:  # more shards
            name = str(random.choice(list(sizes)))
            sizes[name].append(int(random.integers(30, 200)))
            added = np.full(sizes[name][-1], floors[name])
            counts[name] = np.concatenate([counts[name], added])
            lowest[name] += len(added)
    # Everything was read as often as the least-read, or once more: what is below that was skipped.
    skips = sum(int((counts[n] < counts[n].max() - 1).sum()) for n in sizes)
    return repeats, skips, drawn, events


def _small_schedule(random: np.random.Generator, length: int) -> Schedule:
    def ramp() -> str:
        return f"{random.uniform(0.2, 5):.3f} -> {random.uniform(0.2, 5):.3f}"

    stages = [
        {
            "name": f"stage {number}",
            "tokens": 256 * 30,
            "sequence_length": length * (2 if number == 2 else 1),
            "mix": {"lang": {"zh": ramp(), "en": ramp()},
                    "domain within zh": {"general": ramp(), "finance": ramp()}},
        }
        for number in range(3)
    ]  # fmt: skip
    return Schedule.model_validate(
        {"sequence_length": length, "batch_tokens": 256, "max_epochs": 1e9, "seed": 1,
         "stages": stages}
    )  # fmt: skip


def megatron_rule() -> tuple[int, int]:
    """Repeats and skips where a blend 0.9/0.1 becomes 0.8/0.2 at sample 10,000 of 20,000.

    Megatron-Core's blended dataset (build_blending_indices) gives every sample to the data set
    that is furthest behind its weight and numbers its samples from 0; a new blend is a new index
    read on from the same sample number.
    """

    def blend(weights: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        taken = np.zeros(2, np.int64)
        which, index = np.empty(20_000, np.int64), np.empty(20_000, np.int64)
        for sample in range(20_000):
            errors = np.array(weights) * max(sample, 1) - taken
            chosen = int(np.argmax(errors))
            which[sample], index[sample] = chosen, taken[chosen]
            taken[chosen] += 1
        return which, index

    old, new = blend((0.9, 0.1)), blend((0.8, 0.2))
    repeats = skips = 0
    for dataset in (0, 1):
        before = old[1][:10_000][old[0][:10_000] == dataset]
        after = new[1][10_000:][new[0][10_000:] == dataset]
        repeats += len(np.intersect1d(before, after))
        every = np.arange(max(before.max(), after.max()) + 1)
        skips += len(np.setdiff1d(every, np.concatenate([before, after])))
    return repeats, skips


_START_UP = """
import resource, sys, time
begin = time.process_time()
import numpy
from corpus.settings import load
from tokenization.manifest import read_manifest
from train.buckets import buckets_of
from train.schedule import Schedule
from train.sequences import SequenceReader
from train.stream import Stream
imported = time.process_time()
folder, schedule = sys.argv[1:]
stream = Stream(load(schedule, Schedule), buckets_of(read_manifest(folder)))
batch = SequenceReader(folder, stream).read(stream.share(0, 0, 64))
end = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(end - imported, end - begin, peak, stream.tokens_before(stream.steps), batch.inputs.size)
"""

_LARGE_SCHEDULE = """
sequence_length: 4096
max_epochs: 4
groups: {knowledge: [book, textbook, exam, paper, law], broad: [web, news, qa]}
stages:
  - name: knowledge-first
    tokens: 60B
    mix: {lang: {zh: 3, en: 1}, domain: {general: 9, finance: 1},
          kind within zh-general: {knowledge: 4, broad: 1}}
  - name: broaden
    tokens: 140B
    mix: {lang: {zh: 3, en: 1}, domain: {general: 9 -> 4, finance: 1},
          kind within zh-general: {knowledge: 4 -> 1, broad: 1}}
"""


def start_up(folder: Path, repeats: int, rows: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """CPU seconds and memory from nothing to the first batch, in fresh processes."""
    lengths = np.full(20, 1_000_000, np.int32)
    index = index_bytes(lengths, np.dtype("<u2"))
    entries = []
    for bucket in NAMES:
        tags = dict(zip(("lang", "domain", "kind"), bucket.split("-"), strict=True))
        (folder / bucket).mkdir(parents=True)
        for number in range(250):
            path = f"{bucket}/train-{number:05d}"
            with open(folder / f"{path}.bin", "wb") as file:
                file.truncate(40_000_000)  # a hole: takes no room on the disk
            (folder / f"{path}.idx").write_bytes(index)
            checksum = f"{len(entries):064x}"
            entries.append(_entry(path, bucket, tags, 20, 20_000_000, checksum, 2))
    write_manifest(folder, _manifest("uint16", entries))
    (folder / "schedule.yaml").write_text(_LARGE_SCHEDULE)
    command = [sys.executable, "-c", _START_UP, str(folder), str(folder / "schedule.yaml")]
    found = []
    for _ in range(repeats + 1):  # the first one compiles, if nobody has on this machine
        out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        found.append([float(word) for word in out.stdout.split()])
    median = np.median(np.array(found[1:]), axis=0)
    rows.append((
        "start-up to the first batch, CPU s",
        f"{median[0]:.2f} ({median[1]:.2f} with Python's imports), {len(entries):,} shards",
        "≤ 1", megatron_index(),
    ))  # fmt: skip
    rows.append(("memory at the first batch, MB", f"{median[2]:.0f}", "≤ 300", ""))
    return {
        "startup_s_200b_tokens": float(median[0]),
        "startup_with_imports_s": float(median[1]),
        "startup_rss_mb": float(median[2]),
    }


_MEGATRON = """
import importlib.util, resource, sys, time
import numpy as np
spec = importlib.util.spec_from_file_location("helpers_cpp", sys.argv[1])
helpers = importlib.util.module_from_spec(spec); spec.loader.exec_module(helpers)
samples, datasets = 48_828_125, 40
per = samples // datasets + 1
begin = time.process_time()
which, index = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
weights = np.full(datasets, 1 / datasets)
helpers.build_blending_indices(which, index, weights, datasets, samples, False)
lengths, order = np.full(5_000 * 1000, 1000, np.int32), np.arange(5_000 * 1000, dtype=np.int32)
for _ in range(datasets):
    helpers.build_sample_idx_int32(lengths, order, 4096, 1, 5_000_000_000, True, 1)
    np.random.default_rng(0).permutation(per)
print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def megatron_index() -> str:
    """What Megatron's compiled helper takes to index as many samples, if it is installed."""
    spec = importlib.util.find_spec("megatron")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    library = [p for folder in folders for p in Path(folder).glob("core/datasets/helpers_cpp*.so")]
    if not library:
        return "Megatron's index: not installed here"
    try:
        release = version("megatron-core")
    except PackageNotFoundError:
        release = "of unknown version"
    command = [sys.executable, "-c", _MEGATRON, str(library[0])]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if out.returncode:
        return f"Megatron {release}: {out.stderr.strip().splitlines()[-1]}"
    seconds, peak = (float(word) for word in out.stdout.split())
    return f"Megatron {release}'s helpers, 48,828,125 samples: {seconds:.1f} CPU s, {peak:.0f} MB"


def memory(batches: int, rows: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """Growth of resident memory over many batches, drawn and read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_numbered_shards(folder, {"zh-general-law": [50_000], "en-general-web": [30_000]})
        schedule = Schedule.model_validate({
            "sequence_length": 16, "batch_tokens": 64, "max_epochs": 1e9,
            "stages": [{"name": "all", "tokens": 64 * batches,
                        "mix": {"lang": {"zh": "3 -> 1", "en": 1}}}],
        })  # fmt: skip
        stream = Stream(schedule, buckets_of(read_manifest(folder)))
        reader = SequenceReader(folder, stream)
        for step in range(batches // 10):
            reader.read(stream.batch(step))
        before = _resident_mb()
        for step in range(batches // 10, batches):
            reader.read(stream.batch(step))
        grown = _resident_mb() - before
    rows.append((f"memory grown over {batches:,} batches, MB", f"{grown:+.1f}", "0", ""))
    return {"memory_growth_mb": grown}


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:  # not Linux: the peak is the next best
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


def _entry(
    path: str, bucket: str, tags: dict[str, str], documents: int, tokens: int, sum_: str, size: int
) -> ShardEntry:
    return ShardEntry(
        path=path, split="train", bucket=bucket, tags=tags, documents=documents, tokens=tokens,
        bytes=tokens * size, sha256=sum_, idx_sha256=sum_,
    )  # fmt: skip


def _manifest(dtype: Any, entries: list[ShardEntry]) -> Manifest:
    tokenizer = TokenizerInfo(fingerprint="none", vocabulary_size=60_000, eos_id=2)
    return Manifest(dtype=dtype, seed=0, tokenizer=tokenizer, shards=tuple(entries))


if __name__ == "__main__":
    main()
