"""Cleaning: what it keeps, what it catches, which page furniture it finds, and how fast it is.

    python benchmarks/cleaning.py --data DIR [--quick] [--json OUT] [--peer-python PYTHON]

1. Good documents dropped, and the share of their characters cut (disclaimers, running headers,
   page numbers and tables of contents aside: they are meant to go), each set under the profile of
   its kind; beside it datatrove's Gopher, C4 and FineWeb2 (cmn_Hani) filters on the Chinese sets.
2. Bad documents caught under zh-web, and how many of them for a reason that names what is wrong.
3. Page numbers and running headers of prospectuses against their labels. The labels are a
   program's: where it calls text what stands, word for word, first or last on half of a
   document's pages, the label is put right. Every line so corrected is named with its count, and
   the figures on raw labels, and on the documents that needed no correction, stand beside.
4. Seconds and memory that the largest bad input takes: lines of 50 MB, a million lines of nothing.
5. Megabytes of UTF-8 per CPU-second for all signals: of the whole process tree of a Spark job from
   Parquet to Parquet, and of its Python worker alone; documents per CPU-second of signals and
   rules beside datatrove's filters.

Datatrove runs in this interpreter if it is installed, else in `--peer-python`, one that has it.
"""

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cleaning_sets import Set, bad_sets, good_sets, join, prospectuses
from dedup_lib import tree_cpu_seconds
from rich.console import Console
from rich.table import Table

from corpus.clean.lines import PAGE_NUMBER, RUNNING_HEADER
from corpus.clean.stage import CleanSettings, clean_texts, line_spans
from corpus.decided_files import write_decided
from corpus.rules.profile import choose, load_profile
from corpus.rules.stage import judge
from corpus.scan import ParquetDocuments
from corpus.session import spark_session
from corpus.signals.stage import Signals, measure_texts
from corpus.stage import StageContext

SIGNALS_MB = 600  # of text in the job that times the signals, unless --quick
# What is meant to go, and is shown in a column of its own.
ASIDE = ("disclaimer", "contents-entry", PAGE_NUMBER, RUNNING_HEADER)
# What changes a character's spelling, white space or a row of dots cuts no text.
SPELLING = (
    "blank-lines", "trailing-spaces", "spaces", "line-breaks", "full-width", "composition",
    "compatibility-forms", "html-entities", "spaces-between-han", "invisible-characters",
    "control-characters", "punctuation-runs",
)  # fmt: skip
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter)
from datatrove.utils.typeshelper import Languages
zh = getattr(Languages, "mandarin_chinese__hani", None) or Languages.mandarin_chinese
function = "的 是 在 了 不 和 有 我 他 这 中 人 上 个 大 来 到 说 们 为".split()
filters = {
    "Gopher quality": [GopherQualityFilter(language=zh)],
    "C4": [C4QualityFilter(language=zh)],
    "FineWeb2 cmn": [
        GopherRepetitionFilter(
            language=zh, dup_line_frac=0.287, dup_para_frac=0, dup_line_char_frac=0,
            dup_para_char_frac=0, top_n_grams=((2, 0.256), (3, 0.201), (4, 0.171)),
            dup_n_grams=((5, 0.198), (6, 0.181), (7, 0.166), (8, 0.152), (9, 0.139), (10, 0.127))),
        FineWebQualityFilter(
            language=zh, line_punct_thr=0.106, short_line_thr=999, char_duplicates_ratio=0.1,
            new_line_ratio=0.3),
        GopherQualityFilter(
            language=zh, min_avg_word_length=1, max_avg_word_length=5, stop_words=function,
            max_non_alpha_words_ratio=0.735),
    ],
}
texts = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
for stack in filters.values():
    for step in stack:
        step.filter(Document(text="你好。" * 30, id="warm"))
result = {"version": __import__("importlib.metadata").metadata.version("datatrove")}
for name, stack in filters.items():
    start, dropped = time.process_time(), 0
    for text in texts:
        dropped += any(step.filter(Document(text=text, id="0")) is not True for step in stack)
    result[name] = {"dropped": dropped, "seconds": time.process_time() - start}
print(json.dumps(result))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of measuring data")
    parser.add_argument("--quick", action="store_true", help="60 documents of each set")
    parser.add_argument("--json", type=Path, help="write the figures here, as flat JSON")
    parser.add_argument("--peer-python", help="a Python in which datatrove is installed")
    parser.add_argument("--show", type=int, default=3, help="examples of each error to print")
    options = parser.parse_args(arguments)
    console = Console(width=150)
    console.print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    )
    figures: dict[str, float] = {}
    limit = 60 if options.quick else 10_000
    good = good_sets(options.data, limit)
    peers = run_peers(good, options.peer_python, 10 if options.quick else 50, console)
    measure_good(good, figures, peers, console, options.show)
    measure_bad(bad_sets(options.data, min(limit, 2000)), figures, console, options.show)
    measure_furniture(options.data, limit, figures, console)
    measure_hostile(figures, console, 10 if options.quick else 1)
    measure_speed(good, figures, peers, console, options.quick)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False))
    return 0


def decide(group: Set) -> tuple[list[str | None], list[Counter[str]]]:
    """The rule that drops each document of a set, and the edits of each."""
    texts, edits, reasons = clean_texts(
        group.texts, CleanSettings(), [group.kind] * len(group.texts)
    )
    name = choose(None, f"{group.lang}-{group.domain}-{group.kind}", {}, None)
    signals = measure_texts(pa.array(texts, pa.string()))
    verdicts = judge(signals, [name] * len(texts), {name: load_profile(name)}).to_pylist()
    rules = [
        reason or (verdict and verdict["rule"])
        for reason, verdict in zip(reasons, verdicts, strict=True)
    ]
    return rules, edits


def measure_good(
    groups: Sequence[Set], figures: dict[str, float], peers: Any, console: Console, show: int
) -> None:
    """Documents dropped and characters cut, of each set and of all."""
    table = Table(title="good documents")
    columns = ["set", "documents", "dropped", "characters cut", "and furniture", "by"]
    for column in [*columns, *(f"datatrove {name}" for name in peers.get("names", ()))]:
        table.add_column(column)
    totals: Counter[str] = Counter()
    for group in groups:
        rules, edits = decide(group)
        characters = sum(map(len, group.texts))
        cut = sum(len(text) for text, rule in zip(group.texts, rules, strict=True) if rule)
        furniture = 0
        by: Counter[str] = Counter()
        for entry, rule in zip(edits, rules, strict=True):
            for name, count in entry.items():
                if name in ASIDE:
                    furniture += count
                elif name not in SPELLING and not name.startswith("personal-") and not rule:
                    cut += count
                    by[name] += count
        dropped = sum(rule is not None for rule in rules)
        totals.update(documents=len(rules), dropped=dropped, characters=characters, cut=cut)
        key = group.name.replace(" ", "_").lower()
        figures[f"dropped_{key}"] = dropped / len(rules)
        figures[f"cut_{key}"] = cut / characters
        reasons = Counter(rule for rule in rules if rule)
        table.add_row(
            group.name,
            str(len(rules)),
            f"{dropped / len(rules):.4f}",
            f"{cut / characters:.4f}",
            f"{furniture / characters:.4f}",
            ", ".join(f"{rule} {count}" for rule, count in (reasons + by).most_common(show)),
            *(_share(peers, name, group.name) for name in peers.get("names", ())),
        )
    names = [group.name.replace(" ", "_").lower() for group in groups]
    figures["good_documents_dropped"] = max(figures[f"dropped_{name}"] for name in names)
    figures["good_characters_cut"] = max(figures[f"cut_{name}"] for name in names)
    figures["good_documents_dropped_pooled"] = totals["dropped"] / totals["documents"]
    figures["good_characters_cut_pooled"] = totals["cut"] / totals["characters"]
    console.print(table)
    console.print("good_documents_dropped and good_characters_cut are those of the worst set")


def _share(peers: Any, name: str, group: str) -> str:
    found = peers["sets"].get(group)
    return f"{found[name]['dropped'] / found['documents']:.2f}" if found else ""


def measure_bad(
    groups: Sequence[Set], figures: dict[str, float], console: Console, show: int
) -> None:
    """The share of bad documents that go, and of those the share that goes for a wrong reason."""
    table = Table(title="bad documents, under zh-web")
    for column in ("set", "documents", "caught", "for a wrong reason", "by"):
        table.add_column(column)
    caught_all, wrong_all, documents = 0, 0, 0
    missed: list[tuple[str, str]] = []
    for group in groups:
        rules, _ = decide(group)
        caught = sum(rule is not None for rule in rules)
        wrong = [rule for rule in rules if rule and rule not in group.right_reasons]
        missed += [
            (group.name, text) for text, rule in zip(group.texts, rules, strict=True) if not rule
        ][:show]
        key = group.name.replace(" ", "_").replace(",", "").lower()
        figures[f"caught_{key}"] = caught / len(rules)
        figures[f"wrong_reason_{key}"] = len(wrong) / max(1, caught)
        caught_all, wrong_all, documents = (
            caught_all + caught,
            wrong_all + len(wrong),
            documents + len(rules),
        )
        reasons = Counter(rule for rule in rules if rule).most_common(5)
        table.add_row(
            group.name,
            str(len(rules)),
            f"{caught / len(rules):.4f}",
            f"{len(wrong) / max(1, caught):.4f}",
            ", ".join(f"{rule} {count}" for rule, count in reasons),
        )
    console.print(table)
    for name, text in missed:
        console.print(f"missed, {name}: {text[:100]!r}", markup=False)
    worst = [value for key, value in figures.items() if key.startswith("caught_")]
    figures["bad_documents_caught"] = min(worst)
    figures["bad_documents_caught_pooled"] = caught_all / documents
    figures["bad_documents_wrong_reason"] = wrong_all / caught_all
    console.print("bad_documents_caught is that of the worst set")


def measure_furniture(data: Path, limit: int, figures: dict[str, float], console: Console) -> None:
    """Recall and precision of page numbers and running headers, by lines."""
    counts: Counter[str] = Counter()
    corrected: Counter[tuple[int, str]] = Counter()
    for number, lines in enumerate(prospectuses(data)):
        if number >= limit:
            break
        removed = removed_lines(join(lines))
        edges = page_edges(lines)
        put_right = {line for label, line, _ in lines if label == "text" and line in edges}
        for index, (label, line, _) in enumerate(lines):
            labelled = label in ("页眉", "页脚")
            gone = index in removed
            if label == "text" and line in put_right:
                corrected[number, line] += 1
            counts["documents"] += index == 0
            counts["lines"] += 1
            counts["labelled"] += labelled
            _count("", counts, labelled or (label == "text" and line in put_right), gone)
            _count("raw ", counts, labelled, gone)
            if not put_right:
                _count("untouched ", counts, labelled, gone)
    table = Table(title="prospectus headers, footers, page numbers", expand=False)
    for column in ("labels", "recall", "precision"):
        table.add_column(column)
    documents = len({number for number, _ in corrected})
    rest = counts["documents"] - documents
    for prefix, name, title in (
        ("", "", f"put right: {corrected.total():,} lines of {documents} documents, see below"),
        (
            "raw ",
            "_raw_labels",
            f"as they are: {counts['labelled']:,} of {counts['lines']:,} lines",
        ),
        ("untouched ", "_untouched_documents", f"as they are, the other {rest} documents"),
    ):
        hits = counts[f"{prefix}hit"]
        key = f"prospectus_furniture{name}"
        figures[f"{key}_recall"] = hits / max(1, hits + counts[f"{prefix}miss"])
        figures[f"{key}_precision"] = hits / max(1, hits + counts[f"{prefix}alarm"])
        table.add_row(
            title, f"{figures[f'{key}_recall']:.4f}", f"{figures[f'{key}_precision']:.4f}"
        )
    figures["prospectus_labels_corrected_lines"] = corrected.total()
    figures["prospectus_labels_corrected_documents"] = documents
    console.print(table)
    console.print("labels put right from text to header, as the line stands on half of the pages'")
    for (number, line), count in sorted(corrected.items()):
        console.print(f"  edges: document {number}, {count} times {line!r}", markup=False)


def _count(prefix: str, counts: Counter[str], gold: bool, gone: bool) -> None:
    counts[f"{prefix}hit"] += gold and gone
    counts[f"{prefix}miss"] += gold and not gone
    counts[f"{prefix}alarm"] += gone and not gold


def measure_hostile(figures: dict[str, float], console: Console, part: int) -> None:
    """CPU seconds of cleaning and signals for one bad document each; memory at the worst."""
    table = Table(title="bad input")
    for column in ("document", "MB", "CPU seconds", "comes out as"):
        table.add_column(column)
    cases = {
        "one line": "公司的收入继续增长，a1 " * 1_500_000,
        "one word": "a" * 50_000_000,
        "words in one line": "the bank raised rates " * 2_300_000,
        "empty lines": "\n" * 1_000_000,
        "lines of one character": "甲\n" * 1_000_000,
        "emoji": "😀" * 1_000_000,
        "right to left": "مرحبا بالعالم " * 1_000_000,
        "NUL": "正\0文" * 1_000_000,
        "lone surrogates": "正\ud800文" * 1_000_000,
    }
    worst = 0.0
    for name, text in cases.items():
        document = text[: len(text) // part]
        start = time.process_time()
        texts, _, reasons = clean_texts([document], CleanSettings(), ["web"])
        signals = measure_texts(pa.array(texts, pa.large_string()))
        verdict = judge(signals, ["zh-web"], {"zh-web": load_profile("zh-web")}).to_pylist()[0]
        spent = time.process_time() - start
        worst = max(worst, spent)
        size = len(document.encode("utf-8", "replace")) / 1e6
        outcome = reasons[0] or (verdict and verdict["rule"]) or "kept"
        table.add_row(name, f"{size:.1f}", f"{spent:.2f}", outcome)
    figures["hostile_cpu_s_max"] = worst
    figures["hostile_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    console.print(table)
    console.print(f"at most {figures['hostile_peak_mb']:.0f} MB, the benchmark's own data included")


def removed_lines(text: str) -> set[int]:
    """The numbers of the lines that go as page numbers or running headers."""
    starts, position = {}, 0
    for number, line in enumerate(text.split("\n")):
        starts[position] = number
        position += len(line.encode()) + 1
    spans = line_spans(text, "filing", CleanSettings())
    return {starts[start] for start, _, rule in spans if rule in (PAGE_NUMBER, RUNNING_HEADER)}


def page_edges(lines: Sequence[tuple[str, str, int]]) -> set[str]:
    """Lines that stand, the same each time, first or last on half of the document's pages."""
    first: dict[int, str] = {}
    last: dict[int, str] = {}
    for _, line, page in lines:
        first.setdefault(page, line)
        last[page] = line
    edges = Counter(first.values()) + Counter(last.values())
    return {line for line, count in edges.items() if count >= len(first) / 2}


def measure_speed(
    groups: Sequence[Set], figures: dict[str, float], peers: Any, console: Console, quick: bool
) -> None:
    """Signals as a Spark job; signals and rules beside datatrove on the same documents."""
    texts = [text for group in groups for text in group.texts]
    random.Random(17).shuffle(texts)  # else one partition of rows is all long documents
    size = sum(len(text.encode()) for text in texts) / 1e6
    table = Table("", "per CPU-second", title=f"speed, {size:.0f} MB")
    times = 1 if quick else max(1, round(SIGNALS_MB / size))
    worker, job = signals_in_spark(texts, times)
    figures["signals_mb_per_cpu_s"] = size / job
    figures["signals_worker_mb_per_cpu_s"] = size / worker
    table.add_row(
        f"signals: Parquet to Parquet, JVM and all, {size * times:.0f} MB", f"{size / job:.1f} MB"
    )
    table.add_row("signals, in the Spark worker alone", f"{size / worker:.1f} MB")
    start = time.process_time()
    clean_texts(texts[:2000], CleanSettings(), ["web"] * len(texts[:2000]))
    cleaned = sum(len(text.encode()) for text in texts[:2000]) / 1e6
    figures["clean_mb_per_cpu_s"] = cleaned / (time.process_time() - start)
    table.add_row("characters, lines and personal data", f"{figures['clean_mb_per_cpu_s']:.1f} MB")
    if peers:
        ours, profile = 0.0, {"zh-finance-filing": load_profile("zh-finance-filing")}
        for sample in peers["texts"].values():
            start = time.process_time()
            signals = measure_texts(pa.array(sample))
            judge(signals, ["zh-finance-filing"] * len(sample), profile)
            ours += time.process_time() - start
        documents = sum(map(len, peers["texts"].values()))
        table.add_row("signals and rules", f"{documents / ours:.0f} documents")
        fastest = 0.0
        for name in peers["names"]:
            spent = sum(found[name]["seconds"] for found in peers["sets"].values())
            table.add_row(f"datatrove {name}", f"{documents / spent:.1f} documents")
            figures[f"datatrove_{name.replace(' ', '_').lower()}_documents_per_cpu_s"] = (
                documents / spent
            )
            fastest = max(fastest, documents / spent)
        # Ours computes what all of theirs do together; the fastest of them is the bar.
        figures["speed_vs_datatrove_zh"] = documents / ours / fastest
        table.add_row("ours / the fastest of them", f"{figures['speed_vs_datatrove_zh']:.1f}")
    console.print(table)


def signals_in_spark(texts: Sequence[str], times: int) -> tuple[float, float]:
    """CPU seconds of `signals` on `texts`: in its Python worker, and of the whole process tree.

    The tree's are those of the job as the runner runs it: workers read Parquet, and what they
    measure is written as Parquet. The texts are taken `times` times over, since the JVM goes on
    compiling long after its first job, which is a fixed cost; the figure is for `texts` once. The
    worker's are its whole process', from its first batch to its last. A job before, which is not
    counted, starts what must start.
    """
    # The Java options are those that configs/spark has for one machine.
    options = {
        "spark.master": "local[1]",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    spark = spark_session("cleaning-benchmark", options)
    stage = Signals("signals", Signals.Config(), StageContext("", 0, {}))

    def timed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        stage.process(pa.RecordBatch.from_pydict({"doc_id": ["a"], "text": ["warm up"]}))
        start = time.process_time()
        rows = sum(stage.process(batch).num_rows for batch in batches)
        seconds = time.process_time() - start
        yield pa.RecordBatch.from_pydict({"rows": [float(rows)], "seconds": [seconds]})

    columns = {"doc_id": [f"{number:032x}" for number in range(len(texts))], "text": list(texts)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(times):
            path = Path(folder, "all", f"part-{number}", "texts.parquet")
            path.parent.mkdir(parents=True)
            pq.write_table(pa.table(columns), path, row_group_size=1000)
        once = ParquetDocuments(spark, f"{folder}/all/part-0")
        write_decided(stage, once, f"{folder}/first")
        found = once.map(["text"], timed, "rows double, seconds double").collect()
        assert sum(row["rows"] for row in found) == len(texts)
        before = tree_cpu_seconds()
        (tally,) = write_decided(stage, ParquetDocuments(spark, f"{folder}/all"), f"{folder}/out")
        job = tree_cpu_seconds() - before
        assert tally.documents == len(texts) * times
    spark.stop()
    return sum(row["seconds"] for row in found), job / times


def run_peers(groups: Sequence[Set], python: str | None, count: int, console: Console) -> Any:
    """datatrove's filters on a sample of each Chinese set, in their own process."""
    python = python or sys.executable
    result: dict[str, Any] = {"sets": {}, "texts": {}}
    for group in groups:
        if group.lang != "zh":
            continue
        sample = sorted(group.texts, key=len)[:: max(1, len(group.texts) // count)][:count]
        # spaCy refuses texts of a million characters, and long before that is slow.
        sample = [text[:50_000] for text in sample]
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            file.write("\n".join(map(json.dumps, sample)))
            file.flush()
            done = subprocess.run(
                [python, "-c", PEER, file.name], capture_output=True, text=True, check=False
            )
        if done.returncode:
            reason = (done.stderr.strip().split("\n") or [""])[-1]
            console.print(f"datatrove did not run: {reason}", markup=False)
            return {}
        found = json.loads(done.stdout.strip().split("\n")[-1])
        result["version"] = found.pop("version")
        result["names"] = list(found)
        result["sets"][group.name] = {**found, "documents": len(sample)}
        result["texts"][group.name] = sample
    console.print(f"datatrove {result['version']}, {count} documents of each Chinese set")
    return result


if __name__ == "__main__":
    sys.exit(main())
