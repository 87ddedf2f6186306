"""What the deduplication benchmarks share; no benchmark itself."""

import argparse
import os
import platform
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from corpus.dedup.signatures import SignaturesConfig, sign
from corpus.scan import ParquetDocuments
from corpus.settings import Settings

FILES = 4  # of a stage's input: row groups are what workers share
TICKS = os.sysconf("SC_CLK_TCK")


class Source(Settings):
    """What a recipe says of a source, as far as deduplication reads it."""

    priority: int


def options_parser(description: str | None, quick: str) -> argparse.ArgumentParser:
    """The options of a benchmark, which `quick` makes small as it says."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--scratch", type=Path, default=Path("bench-scratch"), help="work folder")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    return parser


def machine() -> str:
    """The processor and Python, for a table's head."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def signed_corpus(texts: pa.Table, sources: pa.ChunkedArray) -> pa.Table:
    """doc_id, text, source, date (null) and minhash, as the stage `signatures` leaves `texts`."""
    minhash = [sign(chunk, SignaturesConfig())[0] for chunk in texts["text"].chunks]
    return pa.table(
        {
            "doc_id": texts["doc_id"],
            "text": texts["text"],
            "source": sources,
            "date": pa.nulls(texts.num_rows, pa.string()),
            "minhash": pa.chunked_array(minhash),
        }
    )


def as_parquet(spark: SparkSession, rows: pa.Table, folder: Path) -> ParquetDocuments:
    """Documents as a run has them: in FILES files of a folder made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = -(-len(rows) // FILES)
    for number in range(FILES):
        part = rows.slice(number * size, size)
        pq.write_table(part, folder / f"{number}.parquet", compression="zstd")
    return ParquetDocuments(spark, str(folder))


def tree_cpu_seconds() -> float:
    """User and system time of this process and all that descend from it, the ended ones too."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it ended meanwhile; its parent has its time
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    total = 0.0
    for process, seconds in used.items():
        ancestor = process
        while ancestor not in (os.getpid(), 0, 1):
            ancestor = parents.get(ancestor, 0)
        if ancestor == os.getpid():
            total += seconds
    return total
