"""The corpora on which deduplication is measured, with their exact truth; no benchmark itself.

60,060 pieces of 300 to 5,000 characters, cut from the real texts of the data folder (Chinese
general .58, Chinese finance .24, English .18); every tenth gets a controlled near-copy (edits,
shuffled sentences, pasted boilerplate, truncation, a combination, re-formatting), and the texts
repeat themselves too. The truth is every pair whose Jaccard similarity over the sets of character
5-grams (lower case, only what `str.isalnum` accepts) is at least .5, found by a prefix-filter join
with full counting, not by MinHash, and not by the project's code.
"""

import csv
import gzip
import hashlib
import html
import io
import json
import math
import random
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SHARES = {"zh general": 0.58, "zh finance": 0.24, "en": 0.18}
SHINGLE = 5
MIN_JACCARD = 0.5
NOT_ALNUM = re.compile(r"[\W_]+")  # \w is str.isalnum plus the underscore


@dataclass(frozen=True)
class Truth:
    """All pairs i < j of documents (rows of the corpus) with at least MIN_JACCARD."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    jaccard: NDArray[np.float32]

    def at(self, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs that reach the threshold."""
        reached = self.jaccard >= threshold
        return self.i[reached], self.j[reached]


def load(data: Path, scratch: Path, originals: int, seed: int = 20261121) -> tuple[pa.Table, Truth]:
    """The corpus (doc_id, text, source) and its truth; made once for a scratch folder."""
    folder = scratch / f"dedup-{originals}-{seed}"
    corpus, truth = folder / "corpus.parquet", folder / "truth.npz"
    if not truth.exists():
        folder.mkdir(parents=True, exist_ok=True)
        documents = build_corpus(data, originals, seed)
        columns = dict(zip(("doc_id", "text", "source"), zip(*documents, strict=True), strict=True))
        pq.write_table(pa.table(columns), corpus, compression="zstd")
        i, j, jaccard = similar_pairs([normalise(text) for _, text, _ in documents])
        np.savez(folder / "partial.npz", i=i, j=j, jaccard=jaccard)
        (folder / "partial.npz").rename(truth)
    arrays = np.load(truth)
    i, j = arrays["i"].astype(np.int64), arrays["j"].astype(np.int64)
    return pq.read_table(corpus), Truth(i, j, arrays["jaccard"])


def normalise(text: str) -> str:
    return NOT_ALNUM.sub("", text.lower())


def enlarge(corpus: pa.Table, documents: int, folder: Path) -> Path:
    """A Parquet folder of `documents` undated ones: the corpus again and again, in other alphabets.

    Each repetition maps Han characters and letters to others, one to one, so that lengths, word
    frequencies and the near-duplicates inside a repetition stay as they are while repetitions have
    nothing in common. The text is nonsense; what it costs to deduplicate is not.
    """
    path = folder / f"enlarged-dated-{documents}"
    if (path / "_DONE").exists():
        return path
    path.mkdir(parents=True, exist_ok=True)
    texts = corpus["text"].to_pylist()
    codes = np.frombuffer("\0".join(texts).encode("utf-32-le"), np.uint32)
    sources = corpus["source"]
    written = 0
    repetition = 0
    while written < documents:
        rng = np.random.default_rng(repetition)
        table = np.arange(0x110000, dtype=np.uint32)
        if repetition:
            han = np.arange(0x4E00, 0x9FA6, dtype=np.uint32)
            table[han] = rng.permutation(han)
            letters = rng.permutation(26).astype(np.uint32)
            table[ord("a") : ord("z") + 1] = letters + ord("a")
            table[ord("A") : ord("Z") + 1] = letters + ord("A")
        mapped = table[codes].tobytes().decode("utf-32-le").split("\0")
        take = min(len(mapped), documents - written)
        ids = [
            hashlib.blake2b(f"{repetition}/{n}".encode(), digest_size=16).hexdigest()
            for n in range(take)
        ]
        columns = {"doc_id": ids, "text": mapped[:take], "source": sources.slice(0, take)}
        part = pa.table({**columns, "date": pa.nulls(take, pa.string())})
        pq.write_table(part, path / f"part-{repetition:04d}.parquet", compression="zstd")
        written += take
        repetition += 1
    (path / "_DONE").touch()
    return path


# ---------------------------------------------------------------- the corpus


def build_corpus(data: Path, wanted: int, seed: int) -> list[tuple[str, str, str]]:
    """(doc_id, text, source) in a random order."""
    rng = random.Random(seed)
    pools: dict[str, list[tuple[str, str]]] = {group: [] for group in SHARES}
    for group, source, text in long_texts(data):
        for piece in pieces(text, rng):
            if len(normalise(piece)) >= 50:
                pools[group].append((source, piece))
    takes = {g: min(len(pools[g]), round(wanted * share)) for g, share in SHARES.items()}
    takes["zh general"] += wanted - sum(takes.values())  # what a smaller pool could not give
    chosen: list[tuple[str, str]] = []
    for group, take in takes.items():
        pool = pools[group]
        rng.shuffle(pool)
        chosen += pool[:take]
    rng.shuffle(chosen)
    documents = [(f"d{n:06d}", text, source) for n, (source, text) in enumerate(chosen)]
    vary = near_copier([text for _, text in chosen], rng)
    for n, original in enumerate(rng.sample(range(len(documents)), len(documents) // 10)):
        text = vary(documents[original][1])
        documents.append((f"x{n:06d}", text, documents[original][2]))
    rng.shuffle(documents)
    return documents


def long_texts(data: Path) -> Iterator[tuple[str, str, str]]:
    """(group, source, text) of everything in the data folder that holds running text."""
    for path in sorted((data / "text").glob("*.jsonl.gz")):
        source = path.name.removesuffix(".jsonl.gz")
        group = "en" if source.startswith("en") else "zh " + source.split("_")[1]
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        # Short rows of one file (poems, messages) are joined, so that pieces have full length.
        files: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            files[row["id"].split("#")[0]].append(row["text"])
        for rows_of_file in files.values():
            text = "\n\n".join(rows_of_file)
            yield group, source, strip_tags(text) if "<html" in text[:1000] else text
    for _, content in members(data / "prospectuses.tar.gz", (".txt",)):
        records = [r for r in json_lines(content) if r.get("type") in ("text", "excel")]
        cells = [re.sub(r"[\[\]']", "", r.get("inside", "")) for r in records]
        yield "zh finance", "prospectuses", "\n".join(cells)
    for name, content in members(data / "qa.tar.gz", (".json", ".csv")):
        group = "en" if "TAT-QA" in name else "zh finance"
        if name.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(content)))
            yield group, "qa", "\n".join(f"{r['QUES']}\n{r['ANS']}" for r in rows)
            continue
        try:
            values = json.loads(content)
        except ValueError:
            values = json_lines(content)
        for text in strings_of(values):
            yield group, "qa", text


def members(archive: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            file = tar.extractfile(member) if member.name.endswith(endings) else None
            if file:
                yield member.name, file.read().decode("utf-8", "replace")


def json_lines(content: str) -> list[Any]:
    """The values of the lines that are JSON; some of the collected files have broken lines."""
    values = []
    for line in content.split("\n"):
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values


def strings_of(value: object) -> Iterator[str]:
    """The texts of a JSON value: the strings of one record together, each long list on its own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        own = "\n".join(v for v in value.values() if isinstance(v, str))
        if own:
            yield own
        for v in value.values():
            if isinstance(v, list | dict):
                yield from strings_of(v)
    elif isinstance(value, list):
        if value and all(isinstance(v, str) for v in value):
            yield "\n".join(value)
        else:
            for v in value:
                yield from strings_of(v)


def strip_tags(page: str) -> str:
    page = re.sub(r"(?is)<(script|style)\b.*?</\1>|<!--.*?-->", " ", page)
    page = re.sub(r"(?i)</?(p|div|tr|li|h[1-6]|br|section)[^>]*>", "\n", page)
    page = html.unescape(re.sub(r"<[^>]+>", " ", page))
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t\xa0]+", " ", page))


def pieces(text: str, rng: random.Random) -> Iterator[str]:
    """Cut at line ends into pieces whose lengths are log-normal around 950 characters."""

    def target() -> int:
        return min(5000, max(300, int(math.exp(rng.gauss(6.85, 0.6)))))

    lines: list[str] = []
    length, goal = 0, target()
    for line in [*text.replace("\r", "").strip().split("\n"), None]:
        if line is not None:
            line = line.rstrip()[:5000]
        if line is None or length + len(line) > 5000 or length >= goal:
            piece = "\n".join(lines).strip()
            if len(piece) >= 300:
                yield piece[:5000]
            lines, length, goal = [], 0, target()
        if line is not None:
            lines.append(line)
            length += len(line) + 1


def near_copier(texts: list[str], rng: random.Random) -> Callable[[str], str]:
    """A function text -> near-copy."""
    boilerplate = [t[: rng.randint(60, 400)] for t in rng.sample(texts, min(40, len(texts)))]
    alphabet = "".join(t[:50] for t in rng.sample(texts, min(2000, len(texts))))
    sentence_end = re.compile(r"(?<=[。！？!?；;\n])")

    def edit(text: str, rate: float) -> str:
        out = []
        for char in text:
            draw = rng.random() / rate if rate else 1.0
            if draw < 0.45:
                out.append(rng.choice(alphabet))
            elif draw >= 0.8:
                out.append(char)
                if draw < 1.0:
                    out.append(rng.choice(alphabet))
        return "".join(out)

    def shuffle(text: str) -> str:
        parts = [p for p in sentence_end.split(text) if p]
        for _ in range(max(1, int(len(parts) * rng.uniform(0.1, 0.8)))):
            a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
            parts[a], parts[b] = parts[b], parts[a]
        return "".join(parts)

    def paste(text: str) -> str:
        extra = "\n".join(rng.sample(boilerplate, rng.randint(1, 3)))
        extra = extra[: max(40, int(len(text) * rng.uniform(0.03, 0.35)))]
        return f"{extra}\n{text}" if rng.random() < 0.5 else f"{text}\n{extra}"

    def truncate(text: str) -> str:
        return text[: max(200, int(len(text) * rng.uniform(0.55, 0.97)))]

    def reformat(text: str) -> str:
        text = re.sub("([，。])", lambda m: m[1] + (" " if rng.random() < 0.3 else ""), text)
        if rng.random() < 0.5:
            text = text.replace("，", ",")
        return text.upper() if rng.random() < 0.3 else text.replace("\n", "\n\n")

    kinds = {
        "edit": lambda t: edit(t, rng.uniform(0, 0.04)),
        "shuffle": shuffle,
        "boilerplate": paste,
        "truncate": truncate,
        "combination": lambda t: paste(truncate(edit(shuffle(t), rng.uniform(0, 0.015)))),
        "format": reformat,
    }

    def vary(text: str) -> str:
        return kinds[rng.choice(list(kinds))](text)

    return vary


# ---------------------------------------------------------------- the truth


def similar_pairs(
    normal: list[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """All pairs i < j with Jaccard >= MIN_JACCARD, and their similarity.

    Prefix filter (Chaudhuri et al. 2006, Bayardo et al. 2007): order all shingles by rarity; two
    sets that reach threshold t share one of their n - ceil(t n) + 1 rarest shingles (the prefix),
    so only those are indexed. Every candidate is then counted in full.
    """
    lengths = np.array([len(t) for t in normal])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    codes = np.frombuffer("".join(normal).encode("utf-32-le"), np.uint32)
    starts = np.concatenate([[0], np.cumsum(np.maximum(1, lengths - SHINGLE + 1))])
    hashes = np.empty(starts[-1], np.uint64)
    _hash_shingles(codes, offsets, starts, hashes)
    distinct, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(distinct))
    ranks = rank[inverse]
    del distinct, inverse, hashes
    tokens = np.empty(len(ranks), np.int64)
    starts = _sorted_sets(ranks, starts, tokens)
    sizes = np.diff(starts)
    order = np.argsort(sizes, kind="stable")
    heads, postings = _prefix_index(tokens, starts, order, len(counts))
    i, j, jaccard = _join(tokens, starts, order, heads, postings, 20_000_000)
    i, j = np.minimum(i, j), np.maximum(i, j)
    by_row = np.lexsort((j, i))
    return i[by_row], j[by_row], jaccard[by_row]


@numba.njit
def _hash_shingles(codes, offsets, starts, out):  # type: ignore[no-untyped-def]
    for d in range(len(offsets) - 1):
        begin, length = offsets[d], offsets[d + 1] - offsets[d]
        for t in range(starts[d + 1] - starts[d]):
            h = np.uint64(1469598103934665603)  # FNV-1a over code points, murmur3's finaliser
            for q in range(min(SHINGLE, length)):
                h = (h ^ np.uint64(codes[begin + t + q])) * np.uint64(1099511628211)
            h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
            h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
            out[starts[d] + t] = h ^ (h >> np.uint64(33))


@numba.njit
def _sorted_sets(ranks, starts, out):  # type: ignore[no-untyped-def]
    """Each document's distinct ranks, ascending (rare first), packed into out."""
    new_starts = np.zeros(len(starts), np.int64)
    n = 0
    for d in range(len(starts) - 1):
        last = -1
        for rank in np.sort(ranks[starts[d] : starts[d + 1]]):
            if rank != last:
                out[n] = rank
                n += 1
                last = rank
        new_starts[d + 1] = n
    return new_starts


@numba.njit
def _prefix_index(tokens, starts, order, vocabulary):  # type: ignore[no-untyped-def]
    """Posting lists (positions in `order`) of the prefix shingles of all documents."""
    heads = np.zeros(vocabulary + 1, np.int64)
    for d in order:
        n = starts[d + 1] - starts[d]
        for t in range(starts[d], starts[d] + n - int(np.ceil(MIN_JACCARD * n)) + 1):
            heads[tokens[t] + 1] += 1
    heads = np.cumsum(heads)
    place = heads[:-1].copy()
    postings = np.empty(heads[-1], np.int32)
    for k in range(len(order)):
        d = order[k]
        n = starts[d + 1] - starts[d]
        for t in range(starts[d], starts[d] + n - int(np.ceil(MIN_JACCARD * n)) + 1):
            postings[place[tokens[t]]] = k
            place[tokens[t]] += 1
    return heads, postings


@numba.njit
def _join(tokens, starts, order, heads, postings, capacity):  # type: ignore[no-untyped-def]
    """Documents in ascending size meet the earlier ones that share a prefix shingle."""
    count = len(order)
    left = np.empty(capacity, np.int32)
    right = np.empty(capacity, np.int32)
    jaccard = np.empty(capacity, np.float32)
    found = 0
    seen = np.full(count, -1, np.int32)
    first = heads[:-1].copy()
    for k in range(count):
        d = order[k]
        n = starts[d + 1] - starts[d]
        smallest = int(np.ceil(MIN_JACCARD * n))
        for t in range(starts[d], starts[d] + n - smallest + 1):
            token = tokens[t]
            p = first[token]
            while p < heads[token + 1]:  # sizes ascend: a partner too small now stays too small
                e = order[postings[p]]
                if starts[e + 1] - starts[e] >= smallest:
                    break
                p += 1
            first[token] = p
            while p < heads[token + 1] and postings[p] < k:
                q = postings[p]
                p += 1
                if seen[q] == k:
                    continue
                seen[q] = k
                e = order[q]
                m = starts[e + 1] - starts[e]
                need = int(np.ceil(MIN_JACCARD / (1 + MIN_JACCARD) * (n + m) - 1e-9))
                a, b, common = starts[d], starts[e], 0
                while a < starts[d + 1] and b < starts[e + 1]:
                    if common + min(starts[d + 1] - a, starts[e + 1] - b) < need:
                        break
                    if tokens[a] < tokens[b]:
                        a += 1
                    elif tokens[a] > tokens[b]:
                        b += 1
                    else:
                        common += 1
                        a += 1
                        b += 1
                if common >= need:
                    if found == capacity:
                        raise RuntimeError("more pairs than capacity")
                    left[found], right[found] = d, e
                    jaccard[found] = common / (n + m - common)
                    found += 1
    return left[:found], right[:found], jaccard[:found]
