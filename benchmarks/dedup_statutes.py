"""Many dated versions of the same laws: which is kept, which laws stay, how many tokens go.

    python benchmarks/dedup_statutes.py --data DIR [--quick] [--json OUT]

The statutes of the data folder, through the stages `exact` and `minhash-global` with the order
priority, date: of versions that are near-duplicates (Jaccard >= .8) the newest is to be kept, and
laws that merely share their boilerplate are all to stay. Titles and dates come from the files
themselves; a version without any date loses to one that has a date.
"""

import argparse
import gzip
import json
import platform
import re
import sys
from pathlib import Path

import pyarrow as pa
import sentencepiece
from pyspark.sql import functions as F

from corpus.dedup.exact import Exact
from corpus.dedup.keeping import Keeping
from corpus.dedup.minhash import MinHashConfig, deduplicate
from corpus.session import spark_session
from corpus.settings import command
from corpus.stage import StageContext

FILES = ("zh_general_law", "zh_finance_law")
ORDER = Keeping(order=("priority", "date", "complete", "longest"))
DATE_IN_NAME = re.compile(r"\((\d{4}-\d{2}-\d{2})\)")
DATE_IN_TEXT = re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日")
SHOWN = 8


@command
def main(arguments: list[str] | None = None) -> int:
    """Deduplicate the statutes and say what was kept of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--quick", action="store_true", help="the financial statutes only")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args(arguments)
    laws = statutes(options.data, FILES[1:] if options.quick else FILES)
    rows = {row["doc_id"]: row for row in laws.to_pylist()}
    print(f"{len(rows):,} statutes; {platform.machine()}, Python {platform.python_version()}")

    spark = spark_session("dedup statutes", {"spark.sql.shuffle.partitions": "4"})
    documents = spark.createDataFrame(laws).cache()
    exact = Exact("exact", Exact.Config(keep=ORDER), StageContext("", 0, {})).decide(documents)
    copies = exact.where("verdict is not null").cache()
    rest = documents.join(copies.select("doc_id"), "doc_id", "left_anti")
    near = deduplicate(rest, MinHashConfig(keep=ORDER)).where("verdict is not null")
    chosen = F.col("verdict.evidence")["kept"].alias("kept")
    dropped = copies.union(near).select("doc_id", chosen, F.col("verdict.value").alias("value"))
    pairs = [(row.doc_id, row.kept, row.value) for row in dropped.collect()]
    spark.stop()

    older = [p for p in pairs if (rows[p[0]]["date"] or "") <= (rows[p[1]]["date"] or "")]
    others = [p for p in pairs if plain(rows[p[0]]["title"]) != plain(rows[p[1]]["title"])]
    gone = {doc_id for doc_id, _, _ in pairs}
    left = [plain(row["title"]) for doc_id, row in rows.items() if doc_id not in gone]
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(options.data / "tokenizers" / "mistral-v1-32000.model")
    )
    encoded = tokenizer.encode(laws["text"].to_pylist())
    tokens = {doc_id: len(ids) for doc_id, ids in zip(rows, encoded, strict=True)}
    removed = sum(tokens[doc_id] for doc_id in gone)

    titles = {plain(row["title"]) for row in rows.values()}
    print(
        f"{len(titles):,} titles, of which {len(rows) - len(titles):,} texts are further versions"
    )
    print(f"{len(pairs):,} dropped; in {len(older):,} of them the kept one is no older")
    print(
        f"{len(titles - set(left)):,} titles are gone altogether; those dropped for another title:"
    )
    for doc_id, kept, value in sorted(others, key=lambda pair: pair[2])[:SHOWN]:
        print(f"  {value:.3f}  {rows[doc_id]['title']}  ->  {rows[kept]['title']}")
    print(f"{len(left) - len(set(left)):,} versions stay beside another: less than .8 alike")
    whole = sum(tokens.values())
    print(f"{removed:,} of {whole:,} tokens go ({removed / whole:.2%})")
    for doc_id, kept, value in sorted(pairs, key=lambda pair: -pair[2])[:SHOWN]:
        if value < 1:
            old, new = rows[doc_id], rows[kept]
            print(f"  {value:.3f}  {old['title']} {old['date']}  ->  {new['date']}")
    numbers = {
        "documents": len(rows),
        "dropped": len(pairs),
        "newest_kept_share": len(older) / max(1, len(pairs)),
        "dropped_for_another_title": len(others),
        "titles_gone": len(titles - set(left)),
        "tokens_removed_share": removed / whole,
    }
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    return 0


def statutes(data: Path, files: tuple[str, ...]) -> pa.Table:
    """doc_id, text, source, title, date of every statute; the date is null where none is known."""
    columns: dict[str, list[str | None]] = {
        name: [] for name in ("doc_id", "text", "source", "title", "date")
    }
    for name in files:
        with gzip.open(data / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                heading = re.search(r"^# *(.+)$", row["text"], re.MULTILINE)
                title = heading[1] if heading else Path(row["id"]).stem
                columns["doc_id"].append(f"{name}/{number:05d}")
                columns["text"].append(row["text"])
                columns["source"].append(name)
                columns["title"].append(title.strip())
                columns["date"].append(date_of(row["id"], row["text"]))
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def date_of(name: str, text: str) -> str | None:
    """The date in the file's name, or else the last one in what stands before the first article."""
    stated = DATE_IN_NAME.search(name)
    if stated:
        return stated[1]
    head = text.split("<!-- INFO END -->")[0][:3000] if "<!-- INFO END -->" in text else ""
    dates = [f"{y}-{int(m):02d}-{int(d):02d}" for y, m, d in DATE_IN_TEXT.findall(head)]
    return max(dates, default=None)


def plain(title: str | None) -> str:
    """A title without spaces, brackets with dates, and the country's name."""
    title = re.sub(r"[(（].*?[)）]|\s", "", title or "")
    return title.removeprefix("中华人民共和国")


if __name__ == "__main__":
    sys.exit(main())
