"""Long repeated passages in real texts: how much of them goes, and whether all of it still stands.

    python benchmarks/dedup_spans.py --data DIR [--quick] [--json OUT]

The stage `long-spans` with its defaults over the statutes and the blog posts of the data folder;
both repeat themselves by nature (versions of one law, pasted articles). For each of them:
characters in and out, and of the characters that are compared (letters and digits) the share that
was cut. CPU seconds are of the whole process tree, from Parquet to Parquet, Spark's start-up apart.

Then of every document, without the project's code: one without cuts must be as it was; one with
cuts must be the old text less no more passages than the stage has counted, character for character,
and every letter and digit of these must lie in a passage of the stage's least length that still
stands somewhere. All passages are searched at once in all that is left, by a rolling hash, and a
hit is confirmed character by character. Last, how many passages of this length stand in more than
one place, before and after: what is still repeated would make cuts that are too short.
"""

import functools
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dedup_corpus import normalise
from dedup_lib import machine, options_parser, tree_cpu_seconds
from numpy.typing import NDArray

from corpus.dedup.spans import LongSpans
from corpus.scan import ParquetDocuments
from corpus.session import spark_session
from corpus.settings import command
from corpus.stage import StageContext

SOURCES = ("zh_general_law", "zh_finance_law", "zh_general_blog")
LENGTH = LongSpans.Config().min_characters
REPLACEMENT = "\ufffd"  # what a byte outside a whole character would have become
END = np.uint32(0xFFFFFFFF)  # follows every text, so that no passage lies in two
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # of the rolling hash; it is meant to overflow
NEVER = np.uint16(0x7FFF)


@command
def main(arguments: list[str] | None = None) -> int:
    """Cut the repeated passages, count them, and look all of them up."""
    options = options_parser(__doc__, "the financial statutes only").parse_args(arguments)
    given = documents(options.data, SOURCES[1:2] if options.quick else SOURCES)
    size = given["text"].nbytes / 1e6
    print(f"{given.num_rows:,} documents, {size:.0f} MB; {machine()}")
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
    print(f"{broken} of all documents hold a broken character that they did not hold before")
    began = time.monotonic()
    found = look_up(result)
    print(
        f"of {found['without_cuts']:,} documents without cuts {found['changed']} are not as before"
        f"\nof {found['with_cuts']:,} with cuts {found['unlike']} are not the old text less these"
        f"\nand of {found['lost']} a part of what was cut stands nowhere any more"
        f"  ({time.monotonic() - began:.0f} s)"
    )
    first, last = (share_standing_twice(result[name]) for name in ("before", "text"))
    print(
        f"passages of {LENGTH} characters that stand elsewhere too: {first:.2%}, after {last:.2%}"
    )
    numbers |= {"broken": broken, **found}
    numbers |= {"standing_twice_before": first, "standing_twice_after": last}
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
    documents = ParquetDocuments(spark, str(before))
    stage.decide_from(documents).write.mode("overwrite").parquet(after)
    seconds = tree_cpu_seconds() - began
    spark.stop()
    old = given.rename_columns(["doc_id", "before", "source"])
    decided = pq.read_table(after)
    dropped = pc.is_valid(decided["verdict"])
    decided = decided.drop_columns("verdict").append_column("dropped", dropped)
    return decided.join(old, "doc_id"), seconds


def look_up(result: pa.Table) -> dict[str, int]:
    """How many documents without cuts, and with them, are not as the stage says that they are.

    `changed` are of the former; `unlike` those that are not the old text less as many passages as
    were counted, `lost` those of which one of these stands nowhere any more.
    """
    with_cuts = pc.greater(result["spans_cut"], 0)
    same = result.filter(pc.invert(with_cuts))
    rows = result.filter(with_cuts).select(["before", "text", "spans_cut"]).to_pylist()
    befores = [row["before"].strip() for row in rows]
    passages = folded(befores)
    stand = covered(standing(passages, folded(result["text"].to_pylist())))
    unlike = lost = begin = 0
    for row, before in zip(rows, befores, strict=True):
        old, new = codes(before), codes(row["text"])
        is_compared = normal_forms()[old] != 0
        end = begin + int(is_compared.sum())
        may_go = np.ones(len(old), np.bool_)
        if fewest_cuts(old, new, may_go) > row["spans_cut"]:
            unlike += 1
        may_go[is_compared] = stand[begin:end]
        lost += fewest_cuts(old, new, may_go) > row["spans_cut"]
        begin = end + 1
    return {
        "without_cuts": same.num_rows,
        "changed": pc.sum(pc.not_equal(same["before"], same["text"])).as_py() or 0,
        "with_cuts": len(rows),
        "unlike": unlike,
        "lost": lost - unlike,
    }


def codes(text: str) -> NDArray[np.uint32]:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


@functools.cache
def normal_forms() -> NDArray[np.uint32]:
    """Of each code point what it is compared as, or 0 where it is not."""
    forms = [ord((normalise(chr(code)) or "\0")[0]) for code in range(0x110000)]
    forms[ord("ς")] = ord("σ")
    return np.array(forms, np.uint32)


def folded(texts: Iterable[str]) -> NDArray[np.uint32]:
    """What is compared of texts, one after the other, each with END after it."""
    parts = [np.zeros(0, np.uint32)]
    for text in texts:
        forms = normal_forms()[codes(text)]
        parts += [forms[forms != 0], np.array([END])]
    return np.concatenate(parts)


def share_standing_twice(texts: pa.ChunkedArray) -> float:
    """The share of all passages that stand in more than one place, as far as hashes tell."""
    hashes, is_whole = rolling(folded(texts.to_pylist()))
    hashes = np.sort(hashes[is_whole])
    same = hashes[1:] == hashes[:-1]
    return float((np.append(same, False) | np.append(False, same)).mean())


@numba.njit(cache=True)
def rolling(units: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """For each place the hash of the LENGTH units from there on, and whether one text has them."""
    size = max(0, units.size - LENGTH + 1)
    hashes, is_whole = np.zeros(size, np.uint64), np.zeros(size, np.bool_)
    highest = np.uint64(1)
    for _ in range(LENGTH):
        highest *= MULTIPLIER
    total, last_end = np.uint64(0), -1
    for i in range(units.size):
        total = total * MULTIPLIER + np.uint64(units[i])
        if units[i] == END:
            last_end = i
        start = i - LENGTH + 1
        if start > 0:
            total -= highest * np.uint64(units[start - 1])
        if start >= 0:
            hashes[start] = total ^ (total >> np.uint64(32))
            is_whole[start] = last_end < start
    return hashes, is_whole


@numba.njit(cache=True)
def standing(passages: NDArray[np.uint32], left: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """For each place in `passages` whether the LENGTH units from there on stand in `left`."""
    hashes, is_whole = rolling(passages)
    bits = 1
    while (1 << bits) < 2 * hashes.size:
        bits += 1
    shift, mask = np.uint64(64 - bits), (1 << bits) - 1
    table = np.full(1 << bits, -1, np.int64)  # places, each at the first free slot from its hash on
    same_as = np.full(passages.size, -1, np.int64)
    for place in range(hashes.size):
        if is_whole[place]:
            slot = np.int64((hashes[place] * MULTIPLIER) >> shift)
            while table[slot] >= 0 and not (
                hashes[table[slot]] == hashes[place]
                and alike(passages, table[slot], passages, place)
            ):
                slot = (slot + 1) & mask
            if table[slot] < 0:
                table[slot] = place
            same_as[place] = table[slot]
    stands = np.zeros(passages.size, np.bool_)
    hashes_left, is_whole_left = rolling(left)
    for place in range(hashes_left.size):
        if is_whole_left[place]:
            slot = np.int64((hashes_left[place] * MULTIPLIER) >> shift)
            while table[slot] >= 0:
                known = table[slot]
                if hashes[known] == hashes_left[place] and not stands[known]:
                    stands[known] = alike(passages, known, left, place)
                slot = (slot + 1) & mask
    for place in range(passages.size):
        stands[place] = same_as[place] >= 0 and stands[same_as[place]]
    return stands


@numba.njit(cache=True)
def alike(one, i, other, j):  # type: ignore[no-untyped-def]
    """Whether the LENGTH units of `one` from i on are those of `other` from j on."""
    n = 0
    while n < LENGTH and one[i + n] == other[j + n]:
        n += 1
    return n == LENGTH


def covered(stands: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which units lie in one of the passages of LENGTH units that stand."""
    edges = np.zeros(len(stands) + 1, np.int64)
    begins = np.flatnonzero(stands)
    edges[begins] += 1
    edges[begins + LENGTH] -= 1
    return np.cumsum(edges[:-1]) > 0


@numba.njit(cache=True)
def fewest_cuts(before, after, may_go):  # type: ignore[no-untyped-def]
    """In how few passages of characters that may go `before` is cut to `after`; else NEVER.

    Of every beginning of `before`, and every beginning of `after` that can be left of it: the
    fewest cuts if its last character stays, and if it goes.
    """
    gone = before.size - after.size
    if gone < 0:
        return NEVER
    stays = np.full(after.size + 1, NEVER, np.uint16)
    goes = np.full(after.size + 1, NEVER, np.uint16)
    stays[0] = 0
    for i in range(before.size):
        for j in range(min(i + 1, after.size), max(0, i + 1 - gone) - 1, -1):
            went = min(goes[j], stays[j] + 1) if may_go[i] else NEVER
            is_left = j > 0 and before[i] == after[j - 1]
            stays[j] = min(stays[j - 1], goes[j - 1]) if is_left else NEVER
            goes[j] = went
    return min(stays[after.size], goes[after.size])


if __name__ == "__main__":
    sys.exit(main())
