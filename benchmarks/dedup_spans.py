"""Long repeated passages in real texts: how much of them goes, and whether all of it still stands.

    python benchmarks/dedup_spans.py --data DIR [--quick] [--json OUT]

The stage `long-spans` with its defaults over the statutes and the blog posts of the data folder;
both repeat themselves by nature (versions of one law, pasted articles). For each of them:
characters in and out, and of the characters that are compared (letters and digits) the share that
was cut. CPU seconds are of the whole process tree, from Parquet to Parquet, Spark's start-up apart.

Then of a sample of documents with one cut, without the project's code: the text must be the old one
less one passage, character for character, and every character of this passage must lie in a passage
of the stage's least length that still stands somewhere, by exact search in all that is left.
"""

import argparse
import gzip
import hashlib
import json
import platform
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dedup_corpus import normalise
from dedup_speed import tree_cpu_seconds

from corpus.dedup.spans import LongSpans
from corpus.session import spark_session
from corpus.settings import command
from corpus.stage import StageContext

SOURCES = ("zh_general_law", "zh_finance_law", "zh_general_blog")
LENGTH = LongSpans.Config().min_characters
SAMPLE = 40  # a text search over all that is left takes its time
REPLACEMENT = "\ufffd"  # what a byte outside a whole character would have become


@command
def main(arguments: list[str] | None = None) -> int:
    """Cut the repeated passages, count them, and look a sample of them up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--scratch", type=Path, default=Path("bench-scratch"), help="work folder")
    parser.add_argument("--quick", action="store_true", help="the financial statutes only")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args(arguments)
    given = documents(options.data, SOURCES[1:2] if options.quick else SOURCES)
    size = given["text"].nbytes / 1e6
    print(f"{given.num_rows:,} documents, {size:.0f} MB; {platform.machine()}")
    result, seconds = cut(given, options.scratch)

    numbers: dict[str, float] = {"cpu_s": seconds, "mb_per_cpu_s": size / seconds}
    print(f"\n{'':16} documents  with cuts  dropped  characters in        out  share cut")
    for source in dict.fromkeys(given["source"].to_pylist()):
        own = result.filter(pc.equal(result["source"], source))
        share = pc.sum(own["span_characters_cut"]).as_py() / pc.sum(own["span_characters"]).as_py()
        with_cuts = pc.sum(pc.greater(own["spans_cut"], 0)).as_py()
        dropped = pc.sum(own["dropped"]).as_py()
        before, after = (pc.sum(pc.utf8_length(own[name])).as_py() for name in ("before", "text"))
        print(
            f"{source:16} {own.num_rows:>9,} {with_cuts:>10,} {dropped:>8,} {before:>14,} "
            f"{after:>10,} {share:>10.2%}"
        )
        numbers |= {f"{source}_characters_in": before, f"{source}_share_cut": share}
    print(f"{seconds:.1f} CPU s, {size / seconds:.1f} MB per CPU second")

    broken = sum(
        after.count(REPLACEMENT) > before.count(REPLACEMENT)
        for before, after in zip(
            result["before"].to_pylist(), result["text"].to_pylist(), strict=True
        )
    )
    rows = result.filter(pc.equal(result["spans_cut"], 1)).select(["before", "text"]).to_pylist()
    sample = random.Random(5).sample(rows, min(SAMPLE, len(rows)))
    unlike = sum(not places(row["before"].strip(), row["text"]) for row in sample)
    left = "\n".join(normalise(text) for text in result["text"].to_pylist())
    lost = sum(
        not stands_elsewhere(normalise(row["before"]), normalise(row["text"]), left)
        for row in sample
    )
    print(f"{broken} of all documents hold a broken character that they did not hold before")
    print(f"of {len(sample)} documents with one cut {unlike} are not the old text less one passage")
    print(f"and of {lost} a part of what was cut stands nowhere any more")
    numbers |= {"broken": broken, "sampled": len(sample), "unlike": unlike, "lost": lost}
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def documents(data: Path, sources: tuple[str, ...]) -> pa.Table:
    """doc_id, text, source of all texts of some files of the data folder."""
    columns: dict[str, list[str]] = {"doc_id": [], "text": [], "source": []}
    for source in sources:
        with gzip.open(data / "text" / f"{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                name = f"{source}/{number}".encode()
                columns["doc_id"].append(hashlib.blake2b(name, digest_size=16).hexdigest())
                columns["text"].append(json.loads(line)["text"])
                columns["source"].append(source)
    return pa.table(columns)


def cut(given: pa.Table, scratch: Path) -> tuple[pa.Table, float]:
    """What the stage makes of documents (`dropped` or not), their source, the text `before`; and
    CPU seconds.
    """
    before, after = scratch / "spans-documents", str(scratch / "spans-cut")
    before.mkdir(parents=True, exist_ok=True)
    pq.write_table(given, before / "documents.parquet", compression="zstd", row_group_size=256)
    spark = spark_session("dedup spans", {"spark.sql.shuffle.partitions": "8"})
    spark.range(10).mapInArrow(lambda batches: batches, "id long").count()
    stage = LongSpans("long-spans", LongSpans.Config(), StageContext("", 0, {}))
    began = tree_cpu_seconds()
    stage.decide(spark.read.parquet(str(before))).write.mode("overwrite").parquet(after)
    seconds = tree_cpu_seconds() - began
    spark.stop()
    old = given.rename_columns(["doc_id", "before", "source"])
    decided = pq.read_table(after)
    dropped = pc.is_valid(decided["verdict"])
    decided = decided.drop_columns("verdict").append_column("dropped", dropped)
    return decided.join(old, "doc_id"), seconds


def places(before: str, after: str) -> range:
    """Where `before` can have been cut, once, such that `after` is left; empty if it cannot."""
    ends_alike = alike(before[::-1], after[::-1])
    return range(len(after) - ends_alike, alike(before, after) + 1)


def alike(one: str, other: str) -> int:
    """The length of what two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def stands_elsewhere(before: str, after: str, left: str) -> bool:
    """Whether passages of LENGTH characters that are in `left` cover what was cut of `before`."""
    gone = len(before) - len(after)
    return any(covered(before, place, place + gone, left) for place in places(before, after))


def covered(text: str, begin: int, end: int, left: str) -> bool:
    """Whether passages of `text` that are in `left` cover `text`[`begin`:`end`]."""
    while begin < end:
        reach = next((start for start in starts(begin) if passage(text, start) in left), None)
        if reach is None:
            return False
        begin = reach + LENGTH
    return True


def starts(begin: int) -> Iterator[int]:
    """Where passages that hold a place can start, the one that reaches farthest first."""
    yield from range(begin, max(-1, begin - LENGTH), -1)


def passage(text: str, start: int) -> str:
    """LENGTH characters of a text, or what no text holds where it has not as many left."""
    found = text[start : start + LENGTH]
    return found if len(found) == LENGTH else "\0"


if __name__ == "__main__":
    sys.exit(main())
