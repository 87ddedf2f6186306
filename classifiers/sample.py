"""Sample candidates for annotation from a corpus, by word lists.

`python -m classifiers.sample CONFIG.yaml --out candidates.csv` (Spark). Documents in which words of
the lists occur are drawn by label, source and density of hits; documents of trusted kinds that hold
such words too (news of a gambling raid, a statute on obscene goods) are the hard negatives, and
documents without any the random ones. No two candidates are near-duplicates.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from classifiers.candidates import (
    SPARE,
    Candidate,
    collect,
    draw,
    draw_key,
    known_texts,
    read_documents,
    write_candidates,
)
from classifiers.lexicon import Hit, Matcher, matcher_of
from classifiers.training import Lexicon
from corpus.session import spark_session
from corpus.settings import Settings, command
from corpus.settings import load as load_settings

EXAMPLE = """\
a configuration, for classes of your own (every key: configs/classifiers/sample.yaml):

  documents: [runs/web/documents]         # a run's, or JSON lines with a `text`
  lexicons:                               # your word lists, one word a line
    - {path: lexicons/gambling.txt, label: gambling}
    - {path: lexicons/fraud.txt, label: fraud}
  per_stratum: 60                         # of each label, source and density of hits

then, step by step:

  python -m classifiers.sample sample.yaml --out candidates.csv
  python -m classifiers.annotate serve --candidates candidates.csv \\
      --labels normal,gambling,fraud --out annotations.jsonl
  python -m classifiers.annotate agree annotations.jsonl --out labels.csv --conflicts conflicts.csv
  python -m classifiers.train train.yaml --out models/mine
  python -m classifiers.evaluate models/mine more-labels.csv --train labels.csv --out page.html
  - harm: {model: models/mine}            # in the recipe's stages
  python -m classifiers.mine mine.yaml --rounds rounds       # what to annotate next
"""
DENSITIES = ((10.0, "many"), (2.0, "some"), (0.0, "few"))  # hits per 1,000 tokens, from


class Sampling(Settings):
    """A sampling configuration."""

    documents: tuple[str, ...] = Field(min_length=1)
    """Parquet folders (a run's `documents/`) or JSON-lines files with a `text`, and if known
    `doc_id`, `source`, `lang` and `kind`."""
    lexicons: tuple[Lexicon, ...] = Field(min_length=1)
    """Word lists, each with the label that it hints at."""
    per_stratum: int = Field(20, ge=1)
    """Candidates of each label, source and density of hits (few, some, many)."""
    hard_negatives: int = Field(20, ge=0)
    """Candidates of each label and source among the documents of trusted kinds that hold words."""
    random_negatives: int = Field(20, ge=0)
    """Candidates of each source that hold no word."""
    trusted_kinds: tuple[str, ...] = (
        "law", "news", "filing", "report", "announcement", "encyclopedia", "textbook", "paper",
        "book", "exam",
    )  # fmt: skip
    """Kinds of documents in which such words are mostly harmless."""
    excerpt: int = Field(300, ge=20)
    """Characters of a candidate's text."""
    exclude: tuple[str, ...] = ()
    """CSV files whose texts, and near-duplicates of them, are not drawn again."""
    seed: int = 17


def sample(config: Sampling) -> list[Candidate]:
    """The candidates of `config`: the same ones whatever the partitions."""
    spark = spark_session("sample")
    documents = read_documents(spark, config.documents)
    matcher = matcher_of(_pairs(config))  # a missing word list is told here
    most = max(config.per_stratum, config.hard_negatives, config.random_negatives)
    found = collect(documents, partial(_propose, config), SPARE * most)
    quotas = {candidate.stratum: _quota(config, candidate.stratum) for candidate in found}
    del matcher
    return draw(found, quotas, known_texts(config.exclude))


def _quota(config: Sampling, stratum: str) -> int:
    kind = stratum.split("/")[0]
    quotas = {"hard": config.hard_negatives, "random": config.random_negatives}
    return quotas.get(kind, config.per_stratum)


def _pairs(config: Sampling) -> tuple[tuple[str, str], ...]:
    return tuple((entry.label, entry.path) for entry in config.lexicons)


def _propose(config: Sampling, batch: pa.RecordBatch) -> Iterator[Candidate]:
    matcher = matcher_of(_pairs(config))
    texts = batch.column("text")
    counts, lengths = matcher.counts(texts)
    rows = batch.select(["doc_id", "source", "lang", "kind"]).to_pylist()
    for place, row in enumerate(rows):
        if not lengths[place]:
            continue
        text = texts[place].as_py()
        total = int(counts[place].sum())
        source, label = row["source"] or "", ""
        if total:
            label = matcher.labels[int(counts[place].argmax())]
            density = 1000 * total / int(lengths[place])
            name = next(name for least, name in DENSITIES if density >= least)
            hard = (row["kind"] or "") in config.trusted_kinds
            stratum = f"hard/{label}/{source}" if hard else f"hits/{label}/{source}/{name}"
        else:
            stratum = f"random/{source}"
        yield excerpt(matcher, text, stratum, label, config.excerpt, config.seed, row)


def excerpt(
    matcher: Matcher,
    text: str,
    stratum: str,
    label: str,
    size: int,
    seed: int,
    row: dict[str, str | None],
) -> Candidate:
    """The candidate whose text is the stretch of `size` characters with the most hits."""
    hits = matcher.hits(text) if label else []
    begin = _densest(hits, size) if hits else 0
    begin = max(0, min(begin, len(text) - size))
    piece = text[begin : begin + size]
    inside = [
        text[hit.begin : hit.end] for hit in hits if begin <= hit.begin and hit.end <= begin + size
    ]
    words = " | ".join(dict.fromkeys(inside))
    key = draw_key(text, seed)
    return Candidate(
        stratum, key, row["doc_id"] or key, piece, label, row["lang"] or "", row["source"] or "",
        words,
    )  # fmt: skip


def _densest(hits: Sequence[Hit], size: int) -> int:
    """Where a stretch of `size` characters begins that holds the most hits, a quarter before."""
    best, most, first = 0, 0, 0
    for last, hit in enumerate(hits):
        while hit.end - hits[first].begin > size * 3 // 4 and first < last:
            first += 1
        if last - first + 1 > most:
            best, most = first, last - first + 1
    return hits[best].begin - size // 4


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Sample, write, and say how many of which stratum there are."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE,
    )
    parser.add_argument("config", help="sampling configuration (YAML)")
    parser.add_argument("--out", required=True, type=Path, help="CSV of the candidates")
    options = parser.parse_args(arguments)
    candidates = sample(load_settings(options.config, Sampling))
    write_candidates(options.out, candidates)
    for stratum, count in sorted(Counter(c.stratum for c in candidates).items()):
        print(f"{count:6}  {stratum}")
    print(f"{len(candidates):6}  candidates: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
