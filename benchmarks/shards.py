"""From Parquet documents to token shards: the whole Spark job, and what its parts cost.

    python benchmarks/shards.py --data DIR [--quick] [--json OUT]

Measures, in CPU-seconds (user + system) of every process that the job starts: the job as a user
runs it, JVM start included; and the encoders alone, in one process, on the same text. The corpus
is every document of DIR/text, `--copies` times over with other ids: the encoder remembers some
73,000 segments, far fewer than one copy holds, so a second copy is hardly easier than the first.
Megatron's reader is tried where `megatron-core` can be imported.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.document import DOCUMENT
from tokenization.encoder import load_engine
from tokenization.indexed import IndexedReader
from tokenization.manifest import verify
from tokenization.pieces import extend_model, is_han, read_model

ENCODER_MB = 24  # of text that each encoder is measured on
ROW_GROUP = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--quick", action="store_true", help="a tenth of one copy")
    parser.add_argument("--copies", type=int, default=16, help="of the corpus (16: 2.5 GB)")
    parser.add_argument("--cores", type=int, default=2, help="that Spark may use")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(options, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Everything that the table shows, as flat numbers."""
    texts = read_texts(options.data, options.quick)
    size_mb = write_documents(texts, scratch / "documents", 1 if options.quick else options.copies)
    tokenizer = scratch / "tokenizer"
    make_tokenizer(texts, options.data, tokenizer)
    results = {"corpus_mb": size_mb}

    rows = encoders(texts, tokenizer)
    results |= {f"encoder_{name}_mb_per_cpu_s": speed for name, speed in rows.items()}
    start_cpu_s, _ = run_job(scratch, tokenizer, scratch / "one-document", options.cores)
    job_cpu_s, peak_mb = run_job(scratch, tokenizer, scratch / "documents", options.cores)
    results |= {
        "mb_per_cpu_s": size_mb / job_cpu_s,
        "job_cpu_s": job_cpu_s,
        "start_cpu_s": start_cpu_s,
        "mb_per_cpu_s_without_start": size_mb / max(1e-9, job_cpu_s - start_cpu_s),
        "worker_peak_mb": peak_mb,
    }
    read = megatron_reads(scratch / "shards-documents")
    if read is not None:
        results["megatron_reads"] = read
    print_table(results)
    return results


def read_texts(data: Path, quick: bool) -> dict[str, list[str]]:
    """`lang-domain-kind` → the texts of DIR/text."""
    found: dict[str, list[str]] = {}
    for path in sorted((data / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if quick and number % 10:
                    continue
                row = json.loads(line)
                bucket = "-".join(row[tag] for tag in ("lang", "domain", "kind"))
                found.setdefault(bucket, []).append(row["text"])
    if not found:
        raise SystemExit(f"{data}/text: there are no .jsonl.gz files here")
    return found


def write_documents(texts: dict[str, list[str]], folder: Path, copies: int) -> float:
    """Write Parquet documents, and one of them by itself beside; returns the texts' megabytes."""
    folder.mkdir()
    rows = [(bucket, text) for bucket, members in texts.items() for text in members]
    order = np.random.default_rng(1).permutation(len(rows))
    size = 0
    for copy in range(copies):
        with pq.ParquetWriter(
            folder / f"part-{copy}.parquet", DOCUMENT, compression="zstd"
        ) as file:
            for first in range(0, len(order), ROW_GROUP):
                table = []
                for number in order[first : first + ROW_GROUP]:
                    bucket, text = rows[number]
                    lang, domain, kind = bucket.split("-", 2)
                    doc_id = hashlib.blake2b(f"{copy}/{number}".encode(), digest_size=16)
                    table.append(
                        {
                            "doc_id": doc_id.hexdigest(),
                            "text": text,
                            "source": "data",
                            "lang": lang,
                            "domain": domain,
                            "kind": kind,
                        }
                    )
                    size += len(text.encode())
                file.write_table(pa.Table.from_pylist(table, DOCUMENT))
    single = folder.with_name("one-document")
    single.mkdir()
    pq.write_table(pa.Table.from_pylist(table[:1], DOCUMENT), single / "part.parquet")
    return size / 1e6


def make_tokenizer(texts: dict[str, list[str]], data: Path, folder: Path) -> None:
    """Mistral's model with the Han characters that cover 99.95 % of the corpus'."""
    from tokenization.characters import most_frequent

    counts: dict[str, int] = {}
    for members in texts.values():
        for text in members:
            codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
                counts[chr(code)] = counts.get(chr(code), 0) + int(count)
    han = {character: count for character, count in counts.items() if is_han(character)}
    characters, _ = most_frequent(han, 0.9995, None, False)
    base = read_model(data / "tokenizers" / "mistral-v1-32000.model")
    model, _ = extend_model(base, characters, 64)
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())


def encoders(texts: dict[str, list[str]], tokenizer: Path) -> dict[str, float]:
    """MB of UTF-8 per CPU-second of each encoder, on documents of all buckets."""
    from tokenization.convert import save_hugging_face
    from tokenization.pieces import without_padding

    rows = [text for members in texts.values() for text in members]
    order = np.random.default_rng(2).permutation(len(rows))
    sample, size = [], 0
    for number in order:
        sample.append(rows[number])
        size += len(rows[number].encode())
        if size > ENCODER_MB * 1e6:
            break
    column = pa.array(sample)
    folder = str(tokenizer)
    speeds = {}
    for name in ("segments", "kitoken", "reference"):
        engine = load_engine(folder, name)  # type: ignore[arg-type]
        engine.encode(column.slice(0, 1))  # what is compiled or read is not the encoder's speed
        start = time.process_time()
        for first in range(0, len(column), 256):
            engine.encode(column.slice(first, 256))
        seconds = time.process_time() - start
        speeds["sentencepiece" if name == "reference" else name] = size / 1e6 / seconds
    hugging_face = tokenizer.with_name("hugging-face")
    hugging_face.mkdir()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model = without_padding(read_model(tokenizer / "tokenizer.model"))
    quarter = sample[: len(sample) // 4]
    fast = save_hugging_face(model, hugging_face)
    start = time.process_time()
    fast.encode_batch_fast(quarter)
    seconds = time.process_time() - start
    speeds["tokenizers"] = sum(len(text.encode()) for text in quarter) / 1e6 / seconds
    return speeds


def run_job(scratch: Path, tokenizer: Path, documents: Path, cores: int) -> tuple[float, float]:
    """CPU-seconds of the whole job, all processes, and the peak MB of its largest Python worker."""
    config = scratch / f"{documents.name}.yaml"
    output = scratch / f"shards-{documents.name}"
    config.write_text(
        f"documents: {documents}\ntokenizer: {tokenizer}\noutput: {output}\n"
        "shard_tokens: 50000000\n"
    )
    script = Path(__file__).resolve().parents[1] / "tokenize" / "build_shards.py"
    environment = os.environ | {"MASTER": f"local[{cores}]"}
    command = [sys.executable, str(script), str(config)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    tree = ProcessTree(process.pid)
    _, errors = process.communicate()
    tree.stop()
    if process.returncode:
        raise SystemExit(f"the job failed: {errors[-2_000:]}")
    verify(output, checksums=True)
    return tree.cpu_s, tree.worker_peak_mb


class ProcessTree:
    """Adds up the CPU time of a process and all its descendants, looking every 50 ms.

    Spark's Python workers are not waited for by their parent, so the kernel's own sums miss them.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.worker_peak_mb = 0.0
        self._spent: dict[int, float] = {}
        self._running = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """CPU-seconds so far; what a process did in its last 50 ms may be missing."""
        return sum(self._spent.values())

    def stop(self) -> None:
        """Look no more."""
        self._running = False
        self._thread.join()

    def _watch(self) -> None:
        tick = os.sysconf("SC_CLK_TCK")
        while self._running:
            parents, spent, python = {}, {}, set()
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    name, _, rest = (entry / "stat").read_text().rpartition(")")
                except OSError:
                    continue
                fields = rest.split()
                parents[int(entry.name)] = int(fields[1])
                spent[int(entry.name)] = (int(fields[11]) + int(fields[12])) / tick
                if "python" in name:
                    python.add(int(entry.name))
            for pid in spent:
                ancestor = pid
                while ancestor not in (self.root, 0, 1) and ancestor in parents:
                    ancestor = parents[ancestor]
                if ancestor == self.root:
                    self._spent[pid] = max(spent[pid], self._spent.get(pid, 0.0))
                    if pid in python and pid != self.root:
                        self._note_memory(pid)
            time.sleep(0.05)

    def _note_memory(self, pid: int) -> None:
        try:
            fields = Path(f"/proc/{pid}/statm").read_text().split()
        except OSError:
            return
        # Resident less shared: pages of mapped files are the kernel's to take back.
        pages = int(fields[1]) - int(fields[2])
        self.worker_peak_mb = max(self.worker_peak_mb, pages * resource.getpagesize() / 1e6)


def megatron_reads(folder: Path) -> float | None:
    """Share of the shards in which Megatron's reader finds our tokens; None if not installed."""
    try:
        found = importlib.util.find_spec("megatron.core.datasets.indexed_dataset")
    except ModuleNotFoundError:
        found = None
    if found is None:
        return None
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    manifest = verify(folder)
    equal = 0
    for shard in manifest.shards:
        reader, dataset = (
            IndexedReader(folder / shard.path),
            IndexedDataset(str(folder / shard.path)),
        )
        step = max(1, len(reader) // 1_000)
        equal += len(reader) == len(dataset) and all(
            np.array_equal(reader.document(k), dataset[k]) for k in range(0, len(reader), step)
        )
    return equal / len(manifest.shards)


def print_table(results: dict[str, float]) -> None:
    names = ", ".join(
        f"{name} {version(name)}"
        for name in ("pyspark", "numba", "kitoken", "sentencepiece", "tokenizers")
    )
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {names}")
    print(f"corpus: {results['corpus_mb']:.0f} MB of UTF-8\n")
    print(f"{'encoder alone':40} {'MB per CPU-s':>14}")
    for key in sorted(results):
        if key.startswith("encoder_"):
            name = key.removeprefix("encoder_").removesuffix("_mb_per_cpu_s")
            print(f"{name:40} {results[key]:14.1f}")
    print(f"\n{'Parquet to .bin/.idx, whole Spark job':40} {'MB per CPU-s':>14}")
    print(f"{'lianjin, start of Spark included':40} {results['mb_per_cpu_s']:14.1f}")
    print(
        f"{'lianjin, less a job of one document':40} {results['mb_per_cpu_s_without_start']:14.1f}"
    )
    print(f"{'Megatron loop, sentencepiece (reported)':40} {8.2:14.1f}")
    print(f"{'datatrove (reported)':40} {3.5:14.1f}")
    print(f"\nlargest Python worker: {results['worker_peak_mb']:.0f} MB")
    read = results.get("megatron_reads")
    said = "not tried: megatron-core is not installed" if read is None else f"{100 * read:.0f} %"
    print(f"shards that Megatron's reader reads as we do: {said}")


if __name__ == "__main__":
    main()
