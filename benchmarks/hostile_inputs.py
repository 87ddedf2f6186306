"""Hostile pages and PDFs through the stage's own sandbox: nothing crashes, hangs or goes missing.

python benchmarks/hostile_inputs.py --data DIR [--quick] [--only pages|pdfs] [--json OUT]

27 made pages (nesting, size, broken bytes, bombs) and pdf.js's regression set of odd, encrypted
and broken PDFs, each given to `corpus.extract.stage.Extract` under its limits. A *crash* is an
outcome that ends the stage's process or reports no reason; a *hang* is a document that takes more
than its wall time and is not ended by it; *silent empty* is a document that holds text and comes
out without text and without a reason, or one of the pages whose sentences must come out and that
yields neither them nor a reason; *unaccounted* is a document that is neither kept nor dropped.
"""

import argparse
import gzip
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import extraction_lib as benchlib

from corpus.document import RAW, document_id
from corpus.extract.settings import ExtractSettings
from corpus.extract.stage import Extract
from corpus.stage import StageContext

TIMEOUT_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--quick", action="store_true", help="every tenth PDF")
    parser.add_argument("--only", choices=("pages", "pdfs"), help="one half of them")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    options = parser.parse_args()
    print(benchlib.machine())
    settings = ExtractSettings(timeout_s=TIMEOUT_S, memory_mb=4000, min_characters=0)
    stage = Extract("extract", settings, StageContext("unused", 0, {}))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        pages = hostile_pages(options.data) if options.only != "pdfs" else {}
        for label, (make, expected) in pages.items():
            outcome, text, seconds = run(stage, "html", label, make(), counts)
            kept = sum(f"number {k}." in text for k in range(20)) >= 18
            kept = kept or (expected == "some" and len(text) >= 100) or expected == "nothing"
            counts["silent_empty"] += outcome == "kept" and not kept
            counts["text lost with a reason"] += outcome != "kept" and expected != "nothing"
            print(
                f"  {label:28s} {outcome:12s} {len(text):11,} characters {seconds:6.1f} s",
                flush=True,
            )
        root = benchlib.unpack(options.data / "pdf/pdfjs-regression.tar.gz", Path(folder))
        paths = sorted(root.rglob("*.pdf"))[:: 10 if options.quick else 1]
        paths = paths if options.only != "pages" else []
        results: Counter[str] = Counter()
        for path in paths:
            outcome, text, seconds = run(stage, "pdf", path.name, path.read_bytes(), counts)
            results[outcome] += 1
            counts["silent_empty"] += outcome == "kept" and not text.strip()
            if outcome in ("timeout", "memory", "crash", "error") or seconds > TIMEOUT_S / 2:
                print(f"  {path.name:40s} {outcome} {seconds:.1f} s")
    print(f"  {len(paths)} PDFs: {dict(sorted(results.items()))}")
    print(f"  pages whose text was lost with a reason: {counts['text lost with a reason']}")
    rows = [
        ("crashes", counts["crashes"], "<= 0", ""),
        ("hangs", counts["hangs"], "<= 0", "of 27 pages: trafilatura 6, Resiliparse 2"),
        ("silent_empty", counts["silent_empty"], "<= 0", "trafilatura 8, Resiliparse 1"),
        ("unaccounted_documents", counts["unaccounted_documents"], "<= 0", ""),
    ]
    benchlib.report("Hostile inputs", [(k, float(v), x, y) for k, v, x, y in rows], options.json)


def run(
    stage: Extract, media: str, label: str, payload: bytes, counts: Counter[str]
) -> tuple[str, str, float]:
    """Give one document to the stage; what became of it, its text, and the seconds it took."""
    row = {
        "doc_id": document_id("hostile", label), "source": "hostile", "media": media,
        "locator": label, "payload": payload, "extra": [],
    }  # fmt: skip
    start = time.monotonic()
    try:
        rows = stage.process(pa.RecordBatch.from_pylist([row], schema=RAW)).to_pylist()
    except Exception as error:  # what the benchmark counts
        counts["crashes"] += 1
        return f"stage died: {error!r:.80}", "", time.monotonic() - start
    seconds = time.monotonic() - start
    counts["unaccounted_documents"] += len(rows) != 1
    counts["hangs"] += seconds > 3 * TIMEOUT_S + 30
    verdict = rows[0]["verdict"]
    return (verdict["rule"] if verdict else "kept"), rows[0]["text"] or "", seconds


# ---------------------------------------------------------------- the pages

LINE = "The quick brown fox jumps over the lazy dog and runs through the forest, number {n}. "
TEXT = "".join(
    "<p>" + "".join(LINE.format(n=4 * k + q) for q in range(4)) + "</p>" for k in range(5)
)
ZH = (
    "<p>"
    + "本报记者获悉，公司今日发布年度报告，营业收入同比增长百分之十二，净利润大幅提升。" * 3
    + "</p>"
)


def wrapped(body: str) -> bytes:
    head = '<html><head><meta charset="utf-8"><title>T</title></head><body><article>'
    return (head + body + "</article></body></html>").encode()


def hostile_pages(data: Path) -> dict:
    """name -> (maker of the page, what must come out: TEXT's sentences, some text, nothing)."""
    names = " ".join(f'a{i}="v"' for i in range(1_000_000))
    pdf = sorted((data / "pdf" / "papers").glob("*.pdf"))[0]
    return {
        "2,000 nested div": (lambda: wrapped("<div>" * 2000 + TEXT + "</div>" * 2000), "sentences"),
        "100,000 nested div": (
            lambda: wrapped("<div>" * 100_000 + TEXT + "</div>" * 100_000),
            "sentences",
        ),
        "1M unclosed span": (lambda: wrapped(TEXT + "<span>" * 1_000_000), "sentences"),
        "200,000 unclosed b and p": (lambda: wrapped("<b><p>x" * 200_000), "some"),
        "3,000 nested tables": (
            lambda: wrapped("<table><tr><td>" * 3000 + TEXT + "</td></tr></table>" * 3000),
            "sentences",
        ),
        "table of 200,000 rows": (
            lambda: wrapped(TEXT + "<table>" + "<tr><td>a<td>1</tr>" * 200_000 + "</table>"),
            "sentences",
        ),
        "colspan 1e9": (
            lambda: wrapped(
                TEXT + "<table><tr><td colspan=1000000000 rowspan=1000000000>a<td>b"
                "<tr><td>c</table>"
            ),
            "sentences",
        ),
        "50 MB in one line": (
            lambda: wrapped("<p>" + "lorem ipsum dolor sit amet " * 1_850_000),
            "some",
        ),
        "50 MB of paragraphs": (lambda: wrapped(TEXT * (50_000_000 // len(TEXT))), "sentences"),
        "10 MB of Chinese": (lambda: wrapped(ZH * (10_000_000 // len(ZH.encode()))), "some"),
        "1M attributes": (lambda: wrapped(f"<div {names}>{TEXT}</div>"), "sentences"),
        "20 MB attribute": (
            lambda: wrapped(f'<div data-x="{"y" * 20_000_000}">{TEXT}</div>'),
            "sentences",
        ),
        "20 MB script": (
            lambda: wrapped(f"<script>{'var a=1;' * 2_500_000}</script>{TEXT}"),
            "sentences",
        ),
        "20 MB comment": (lambda: wrapped(f"<!--{'x ' * 10_000_000}-->{TEXT}"), "sentences"),
        "null bytes": (lambda: wrapped(TEXT).replace(b" the ", b" \0the\0 "), "sentences"),
        "1M leading null bytes": (lambda: b"\0" * 1_000_000 + wrapped(TEXT), "sentences"),
        "control characters": (
            lambda: wrapped(TEXT.replace(" fox", " \x01\x08\x1ffox\ufffe")),
            "sentences",
        ),
        "bad entities": (
            lambda: wrapped(TEXT + "<p>" + "&#0;&#x110000;&#xD800;&#99999999999;&no;" * 2000),
            "sentences",
        ),
        "utf-16 without BOM": (lambda: wrapped(TEXT).decode().encode("utf-16-le"), "sentences"),
        "cut in a tag": (lambda: wrapped(TEXT * 3)[:-25] + b'<div class="x', "sentences"),
        "a PDF": (lambda: pdf.read_bytes()[:300_000], "nothing"),
        "gzip bytes": (lambda: gzip.compress(wrapped(TEXT * 100)), "nothing"),
        "empty": (lambda: b"", "nothing"),
        "only a doctype": (lambda: b"<!DOCTYPE html>", "nothing"),
        "300,000 links": (
            lambda: wrapped(TEXT + '<a href="http://x.com/">link</a> ' * 300_000),
            "sentences",
        ),
        "5,000 nested lists": (lambda: wrapped("<ul><li>x" * 5000 + TEXT), "sentences"),
        "1M br": (lambda: wrapped(TEXT + "<br>" * 1_000_000), "sentences"),
    }


if __name__ == "__main__":
    main()
