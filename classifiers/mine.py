"""Mine the next round of candidates with the model that the last round trained.

`python -m classifiers.mine CONFIG.yaml --rounds FOLDER` (Spark) scores a corpus and draws what the
annotators' next hour is best spent on: documents near the threshold (uncertain), documents in
which words of the lists occur but that the model passes (missed), and documents that it flags
without any such word (unlisted); more of the sources that hold more of them. Every call writes a
new `round-NNN/` with candidates.csv and round.json; texts of earlier rounds are not drawn again.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field
from pyspark.sql import functions as sql

from classifiers.candidates import (
    Candidate,
    collect,
    draw,
    draw_key,
    known_texts,
    read_documents,
    write_candidates,
)
from classifiers.lexicon import load_matcher
from classifiers.model import load
from classifiers.model_files import CARD, read_file
from corpus.session import spark_session
from corpus.settings import Settings, command
from corpus.settings import load as load_settings

REASONS = ("missed", "uncertain", "unlisted")


class Mining(Settings):
    """A mining configuration."""

    documents: tuple[str, ...] = Field(min_length=1)
    """Parquet folders (a run's `documents/`) or JSON-lines files."""
    model: str
    """Folder of the model, or the name of a shipped one; its word lists are kept in it."""
    budget: int = Field(300, ge=3)
    """Candidates of the round, a third for each reason."""
    margin: float = Field(0.15, gt=0, le=0.5)
    """How near to its threshold a probability is uncertain."""
    exclude: tuple[str, ...] = ()
    """CSV files whose texts are not drawn again, besides those of the earlier rounds."""
    seed: int = 17


def mine(config: Mining, rounds: Path) -> tuple[Path, list[Candidate]]:
    """The next round's folder and its candidates."""
    spark = spark_session("mine")
    load(config.model)
    documents = read_documents(spark, config.documents)
    earlier = sorted(path for path in rounds.glob("round-*") if (path / "round.json").exists())
    known = [*config.exclude, *(str(path / "candidates.csv") for path in earlier)]
    found = collect(documents, partial(_propose, config), 2 * config.budget)
    candidates = draw(found, quotas(found, config.budget), known_texts(known))
    target = rounds / f"round-{len(earlier) + 1:03}"
    write_candidates(target / "candidates.csv", candidates)
    record = {
        "round": len(earlier) + 1,
        "config": config.model_dump(mode="json"),
        "model": hashlib.sha256(read_file(config.model, CARD)).hexdigest(),
        "documents": documents.where(sql.col("text").isNotNull()).count(),
        "candidates": dict(sorted(Counter(c.stratum for c in candidates).items())),
    }
    (target / "round.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    return target, candidates


def quotas(found: Sequence[Candidate], budget: int) -> dict[str, int]:
    """How many of each stratum (reason/source): a reason's third goes to its sources in proportion
    to what they hold of it, at least one each."""
    counts = Counter(candidate.stratum for candidate in found)
    result = {}
    for reason in REASONS:
        own = {name: count for name, count in counts.items() if name.split("/")[0] == reason}
        for name, count in own.items():
            result[name] = max(1, round(budget / len(REASONS) * count / sum(own.values())))
    return result


def _propose(config: Mining, batch: pa.RecordBatch) -> Iterator[Candidate]:
    model, matcher = load(config.model), load_matcher(config.model)
    texts = batch.column("text")
    scores = model.score(texts)
    margin = model.peak_probabilities(scores) - model.thresholds
    margin[:, model.labels.index(model.negative)] = -np.inf
    best = margin.argmax(axis=1)
    hits, _ = matcher.counts(texts)
    rows = batch.select(["doc_id", "source", "lang"]).to_pylist()
    for place, row in enumerate(rows):
        if not scores.tokens[place]:
            continue
        k, text = best[place], texts[place].as_py()
        above, listed = float(margin[place, k]), bool(hits[place].any())
        if abs(above) <= config.margin:
            reason, key = "uncertain", f"{abs(above):.6f}"
        elif above < 0 and listed:
            reason, key = "missed", f"{1 / (1 + hits[place].sum()):.6f}"
        elif above > 0 and not listed:
            reason, key = "unlisted", f"{1 - above:.6f}"
        else:
            continue
        piece = text[scores.begin[place, k] : scores.end[place, k]]
        words = " | ".join(dict.fromkeys(piece[h.begin : h.end] for h in matcher.hits(piece)))
        source, tie = row["source"] or "", draw_key(text, config.seed)
        yield Candidate(
            f"{reason}/{source}", f"{key}-{tie}", row["doc_id"] or tie, piece, model.labels[k],
            row["lang"] or "", source, words,
        )  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Mine a round, and say what is in it."""
    parser = argparse.ArgumentParser(
        prog="python -m classifiers.mine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
a configuration (every key: configs/classifiers/mine.yaml):

  documents: [runs/web/documents]
  model: models/mine                      # its word lists are kept in it
  budget: 300                             # a third uncertain, a third missed, a third unlisted
  exclude: [labels.csv]                   # texts that have been labelled

example:
  python -m classifiers.mine configs/classifiers/mine.yaml --rounds rounds
  python -m classifiers.annotate serve --candidates rounds/round-001/candidates.csv \\
      --labels normal,gambling,fraud --out annotations.jsonl
""",
    )
    parser.add_argument("config", help="mining configuration (YAML)")
    parser.add_argument("--rounds", required=True, type=Path, help="folder of all rounds")
    options = parser.parse_args(arguments)
    target, candidates = mine(load_settings(options.config, Mining), options.rounds)
    for stratum, count in sorted(Counter(c.stratum for c in candidates).items()):
        print(f"{count:6}  {stratum}")
    print(f"{len(candidates):6}  candidates: {target / 'candidates.csv'}")


if __name__ == "__main__":
    sys.exit(main())
