"""PDF extraction on real documents: furniture, Chinese lines, reading order, tables, speed.

python benchmarks/extraction_pdf.py --data DIR [--quick] [--json OUT]

broker: Chinese brokers' reports, cut to 10 pages: headers and footers left, body kept, broken lines
and spaces inside Chinese. papers: is a line followed by the next line of its column? icdar: ICDAR
2013 tables, adjacency relations end to end. Peers' figures are those that were measured with the
same definitions on the same files; PyMuPDF's plain text is run here.

Continuity takes every piece of a line that justification tore at a wide gap for a line, and so asks
for "piece above, piece below" where a reader reads the rest of the line in between. No faithful
text has those pairs: `column_continuity_ceiling` is the share of the pairs that one can have, and
`column_continuity_whole_lines` counts pairs of whole lines only.
"""

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pymupdf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import itertools

import extraction_lib as benchlib
from extraction_lib import HAN, Grid, Worker, mean

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)


@dataclass
class Line:
    top: float
    bottom: float
    left: float
    right: float
    font_size: float
    text: str


@dataclass
class Layout:
    """One page as PyMuPDF sees it: its size and its horizontal lines."""

    width: float
    height: float
    lines: list[Line]

    def at_edge(self, line: Line) -> bool:
        return line.bottom < 0.1 * self.height or line.top > 0.9 * self.height


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--quick", action="store_true", help="every fourth document")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    parser.add_argument("--scratch", type=Path, help="work folder (default: a temporary one)")
    options = parser.parse_args()
    options.every = 4 if options.quick else 1
    options.max_pages, options.timeout = 10, 300.0
    with tempfile.TemporaryDirectory() as folder:
        options.scratch = options.scratch or Path(folder)
        options.scratch.mkdir(parents=True, exist_ok=True)
        print(benchlib.machine())
        print(benchlib.versions("pymupdf"))
        ours: dict[str, float] = {}
        plain: dict[str, float] = {}
        for name, tool, found in (("ours", lianjin, ours), ("PyMuPDF text", plain_text, plain)):
            options.name = name.replace(" ", "-")
            found.update(broker_part(tool, options))
            found.update(papers_part(tool, options))
            if tool is lianjin:
                found["icdar_table_f_rules"] = icdar_part(tool, options)
        if importlib.util.find_spec("pymupdf.layout") is not None:
            options.name = "ours-neural"
            ours["icdar_table_f_neural"] = icdar_part(lianjin_neural, options)
        else:
            print("ours-neural: not run, the extra `neural` is not installed")
    limits = {
        "furniture_lines_per_page": ("<= 0.10", "pymupdf4llm layout 0.16 at body 0.924"),
        "body_lines_kept": (">= 0.99", ""),
        "zh_broken_lines_per_1k": ("<= 0.5", "pymupdf4llm layout 0"),
        "zh_spurious_spaces_per_1k": ("<= 1.0", "pymupdf4llm layout 17.1"),
        "column_continuity": (">= 0.97", "pymupdf4llm layout 0.874"),
        "column_continuity_ceiling": (">= 0", "what a faithful text can reach"),
        "column_continuity_whole_lines": (">= 0.97", ""),
        "icdar_table_f_rules": (
            ">= 0.80", "pdfplumber 0.580, PyMuPDF find_tables 0.409, neural layout 0.887"
        ),
        "icdar_table_f_neural": (">= 0.90", "pymupdf4llm layout 0.887; ours with the same model"),
        "pages_per_cpu_s": (">= 30", "pymupdf4llm layout 4"),
    }  # fmt: skip
    rows = []
    for key, (limit, peer) in limits.items():
        if key not in ours:
            continue
        here = f"PyMuPDF text {plain[key]:.3f}" if key in plain else ""
        rows.append((key, ours[key], limit, "; ".join(filter(None, (here, peer)))))
    benchlib.report("PDF extraction", rows, options.json)


def lianjin(path: str, layout: str = "rules") -> str:
    """Ours, a form feed between pages."""
    from corpus.extract.pdf_document import read_pages
    from corpus.extract.settings import PdfSettings

    with pymupdf.open(path) as document:
        pages = read_pages(document, PdfSettings(layout=layout)).pages
    return "\f".join("\n\n".join(block.text for block in blocks) for blocks in pages)


def lianjin_neural(path: str) -> str:
    """Ours, with PyMuPDF's layout model to say where tables are."""
    return lianjin(path, "neural")


def plain_text(path: str) -> str:
    """PyMuPDF's own text."""
    with pymupdf.open(path) as document:
        return "\f".join(page.get_text("text") for page in document)


def run_all(tool, paths: list[Path], part: str, options) -> tuple[dict[Path, str], float]:
    """The tool's output per document that did not fail, and its pages per CPU second."""
    worker = Worker(tool)
    warm_up = options.scratch / "warm-up.pdf"
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "warm up")
        document.save(warm_up)
    worker.call(str(warm_up), 120)
    folder = options.scratch / "pdf" / options.name / part
    folder.mkdir(parents=True, exist_ok=True)
    outputs, cpu, pages, failures = {}, 0.0, 0, []
    for path in paths:
        outcome = worker.call(str(path), options.timeout)
        if outcome.status != "ok":
            failures.append(f"{path.name}: {outcome.status} {outcome.error}")
            continue
        outputs[path] = outcome.value
        cpu += outcome.cpu_s
        with pymupdf.open(path) as document:
            pages += len(document)
        text = outcome.value if isinstance(outcome.value, str) else json.dumps(outcome.value)
        (folder / f"{path.stem}.md").write_text(text, encoding="utf-8")
    worker.close()
    summary = (
        f"{len(paths)} documents, {pages} pages, {pages / max(cpu, 1e-9):.1f} pages/CPU-s, "
        f"{len(failures)} failed"
    )
    print(f"{options.name}: {part}, {summary}" + "".join(f"\n    {f}" for f in failures))
    return outputs, pages / max(cpu, 1e-9)


def cut(paths: list[Path], options) -> list[Path]:
    """Copies of the documents that hold only their first pages."""
    paths = paths[:: options.every]
    if not options.max_pages:
        return paths
    folder = options.scratch / "data" / f"first-{options.max_pages}-pages"
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=False):
        if not copy.exists():
            with pymupdf.open(path) as document:
                document.select(range(min(options.max_pages, len(document))))
                document.save(copy, garbage=2)
    return copies


def layouts(path: Path) -> list[Layout]:
    result = []
    with pymupdf.open(path) as document:
        for page in document:
            lines = []
            for block in page.get_text("dict")["blocks"]:
                for line in block.get("lines", ()):
                    text = "".join(span["text"] for span in line["spans"]).strip()
                    if text and abs(line["dir"][0]) > 0.99:
                        x0, y0, x1, y1 = line["bbox"]
                        lines.append(Line(y0, y1, x0, x1, line["spans"][0]["size"], text))
            result.append(Layout(page.rect.width, page.rect.height, lines))
    return result


def split_pages(output: str, count: int) -> list[str]:
    """The pages; where their number does not fit, every page is judged on the whole text."""
    pages = output.replace("\r", "").split("\f")
    if len(pages) == count + 1 and not pages[-1].strip():
        pages.pop()
    return pages if len(pages) == count else [output] * count


def squeezed(text: str) -> str:
    """Without spaces, markdown marks, hyphens and the entities markdown writers use."""
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return re.sub("[\\s*_#|`>\\\\\\-\x02\ufffe\xad]+", "", text)


def blind(text: str) -> str:
    return re.sub(r"\d+", "0", squeezed(text))


# ---------------------------------------------------------------- broker reports


def broker_part(tool, options) -> dict[str, float]:
    paths = cut(sorted((options.data / "pdf" / "zh-broker").glob("*.pdf")), options)
    outputs, speed = run_all(tool, paths, "broker", options)
    furniture, chinese, follows = Counter(), Counter(), Counter()
    for path, output in outputs.items():
        page_layouts = layouts(path)
        pages = split_pages(output, len(page_layouts))
        furniture += furniture_counts(pages, page_layouts)
        chinese += chinese_counts(output)
        follows += follow_counts(pages, page_layouts)
    print(
        f"  header and footer lines left: {furniture['left']} of {furniture['gold']}"
        f" ({furniture['left'] / max(1, furniture['pages']):.2f} a page); page numbers left:"
        f" {furniture['numbers left']} of {furniture['numbers']}; body lines kept:"
        f" {furniture['body kept'] / max(1, furniture['body']):.3f}"
    )
    per_1k = {k: 1e3 * v / max(1, chinese["han"]) for k, v in chinese.items()}
    print(
        f"  per 1,000 Han: {per_1k.get('broken', 0):.2f} broken lines,"
        f" {per_1k.get('spaces', 0):.2f} spaces inside text, {per_1k.get('junk', 0):.2f} junk"
    )
    print(f"  lines followed by the next line of their column: {share(follows)}")
    return {
        "furniture_lines_per_page": furniture["left"] / max(1, furniture["pages"]),
        "body_lines_kept": furniture["body kept"] / max(1, furniture["body"]),
        "zh_broken_lines_per_1k": per_1k.get("broken", 0.0),
        "zh_spurious_spaces_per_1k": per_1k.get("spaces", 0.0),
        "pages_per_cpu_s": speed,
    }


def furniture_counts(pages: list[str], page_layouts: list[Layout]) -> Counter:
    """Furniture: lines in the top or bottom tenth that recur, numbers aside, on 40 % of pages."""
    recurring = Counter()
    for layout in page_layouts:
        recurring.update({blind(x.text) for x in layout.lines if layout.at_edge(x)})
    least = max(3, 0.4 * len(page_layouts))
    known = {text for text, n in recurring.items() if text and n >= least}
    counts = Counter()
    if not known:
        return counts
    counts["pages"] = len(pages)
    for page, layout in zip(pages, page_layouts, strict=False):
        blinded, plain = blind(page), squeezed(page)
        own_lines = {blind(line) for line in page.split("\n")}
        for line in layout.lines:
            text = blind(line.text)
            if layout.at_edge(line):
                if text in known and len(text) >= 4:
                    counts["gold"] += 1
                    counts["left"] += text in blinded
                elif text in known and re.fullmatch(r"[\W0页第共]*0[\W0页第共]*", text):
                    counts["numbers"] += 1
                    counts["numbers left"] += text in own_lines
            elif len(squeezed(line.text)) >= 8:
                counts["body"] += 1
                counts["body kept"] += squeezed(line.text) in plain
    return counts


def chinese_counts(text: str) -> Counter:
    """A broken line: at least 15 Han, no final punctuation, and the next line starts with Han."""
    han = len(re.findall(f"[{HAN}]", text))
    if han < 200:
        return Counter()
    lines = [line.strip() for line in re.split("[\n\f]", text)]
    broken = sum(
        len(re.findall(f"[{HAN}]", a)) >= 15
        and re.search(f"[{HAN}，、]$", a) is not None
        and re.match(f"[{HAN}]", b) is not None
        for a, b in itertools.pairwise(lines)
    )
    spaces = len(re.findall(f"(?<=[{HAN}])[ \u3000\xa0]+(?=[{HAN}])", text))
    junk = len(re.findall("[\ufffd\ue000-\uf8ff\u2e80-\u2fdf]|\\(cid:\\d+\\)", text))
    return Counter({"han": han, "broken": broken, "spaces": spaces, "junk": junk})


def is_torn(layout: Layout, line: Line, left: bool = True, right: bool = True) -> bool:
    """Is there another piece of the line (on its left, its right), beyond a gap of some words?"""
    middle = (line.top + line.bottom) / 2
    reach = 2.2 * line.font_size
    return any(
        abs((other.top + other.bottom) / 2 - middle) < 3
        and (
            (left and -1 < line.left - other.right < reach)
            or (right and -1 < other.left - line.right < reach)
        )
        and not is_gutter(layout, line, other)
        for other in layout.lines
        if other is not line
    )


def is_gutter(layout: Layout, line: Line, other: Line) -> bool:
    """Do the two pieces stand in different halves of a page in two columns?"""
    first, second = sorted((line, other), key=lambda x: x.left)
    middle = layout.width / 2
    return first.right < middle + 12 and second.left > middle - 12


def follow_counts(pages: list[str], page_layouts: list[Layout]) -> Counter:
    """Pairs (line, the line right below it in its column and font size) that the output joins.

    A piece of a torn line is, rightly read, followed by the line's other piece and not by what
    stands below it: so the pairs between whose lines another piece is to be read are counted, and
    pairs of whole lines by themselves too.
    """
    counts = Counter()
    for page, layout in zip(pages, page_layouts, strict=False):
        plain = squeezed(page)
        for line in layout.lines:
            if len(line.text) < 20:
                continue
            below = [b for b in layout.lines if is_next_in_column(line, b)]
            if below:
                following = min(below, key=lambda b: b.top)
                counts["all"] += 1
                seam = squeezed(line.text)[-10:] + squeezed(following.text)[:10]
                counts["kept"] += seam in plain
                counts["readable"] += not (
                    is_torn(layout, line, left=False) or is_torn(layout, following, right=False)
                )
                if not (is_torn(layout, line) or is_torn(layout, following)):
                    counts["whole"] += 1
                    counts["whole kept"] += seam in plain
    return counts


def is_next_in_column(line: Line, other: Line) -> bool:
    overlap = min(line.right, other.right) - max(line.left, other.left)
    return (
        other is not line
        and len(other.text) >= 12
        and abs(other.font_size - line.font_size) < 0.3
        and other.top > line.top + 0.5 * line.font_size
        and other.top - line.bottom < 0.6 * line.font_size
        and overlap > 0.8 * min(line.right - line.left, other.right - other.left)
    )


def share(counts: Counter) -> str:
    return f"{counts['kept'] / max(1, counts['all']):.3f} of {counts['all']}"


# ---------------------------------------------------------------- papers


def papers_part(tool, options) -> dict[str, float]:
    paths = cut(sorted((options.data / "pdf" / "papers").glob("*.pdf")), options)
    outputs, _ = run_all(tool, paths, "papers", options)
    follows, two_columns = Counter(), Counter()
    for path, output in outputs.items():
        page_layouts = layouts(path)
        for page, layout in zip(split_pages(output, len(page_layouts)), page_layouts, strict=False):
            counts = follow_counts([page], [layout])
            follows += counts
            if in_two_columns(layout):
                two_columns += counts
    print(f"  lines followed by the next line of their column: {share(follows)}")
    print(f"  the same on pages in two columns: {share(two_columns)}")
    whole = two_columns["whole kept"] / max(1, two_columns["whole"])
    print(f"  the same, lines that justification tore aside: {whole:.3f} of {two_columns['whole']}")
    return {
        "column_continuity": two_columns["kept"] / max(1, two_columns["all"]),
        "column_continuity_ceiling": two_columns["readable"] / max(1, two_columns["all"]),
        "column_continuity_whole_lines": whole,
    }


def in_two_columns(layout: Layout) -> bool:
    """At least 30 % of the long lines lie wholly in the left half, and 30 % in the right half."""
    long = [line for line in layout.lines if len(line.text) >= 25]
    left = sum(line.right < 0.52 * layout.width for line in long)
    right = sum(line.left > 0.48 * layout.width for line in long)
    return min(left, right) >= 0.3 * len(long) > 0


# ---------------------------------------------------------------- ICDAR 2013 tables


def icdar_part(tool, options) -> float:
    """Adjacency relations pooled per document, mean precision and recall over documents.

    A little more lenient than the contest's matching of single tables; end to end, so a table that
    is not found costs recall and a list that is taken for one costs precision.
    """
    root = benchlib.unpack(options.data / "pdf/icdar2013-and-camelot.tar.gz", options.scratch)
    gold = {p.with_name(p.name.replace("-str.xml", ".pdf")): p for p in root.rglob("*-str.xml")}
    paths = [p for p in sorted(gold) if p.exists()][:: options.every]
    outputs, _ = run_all(tool, paths, "icdar", options)
    precisions, recalls, best = [], [], []
    for path in paths:
        gold_pages = icdar_tables(gold[path])
        with pymupdf.open(path) as document:
            found_pages = tables_by_page(outputs.get(path, ""), len(document))
        gold_all, found_all = Counter(), Counter()
        for page in set(gold_pages) | set(found_pages):
            found = [benchlib.adjacency(t) for t in found_pages.get(page, ())]
            for table in gold_pages.get(page, ()):
                relations = benchlib.adjacency(table)
                gold_all.update({(page, *k): n for k, n in relations.items()})
                best.append(max((benchlib.f1(relations, f) for f in found), default=0.0))
            for relations in found:
                found_all.update({(page, *k): n for k, n in relations.items()})
        common = (gold_all & found_all).total()
        if found_all:
            precisions.append(common / found_all.total())
        recalls.append(common / max(1, gold_all.total()))
    p, r = mean(precisions), mean(recalls)
    print(
        f"  adjacency P {p:.3f} R {r:.3f} F {2 * p * r / max(1e-9, p + r):.3f}; tables with F"
        f" >= .9: {sum(b >= 0.9 for b in best)} of {len(best)}; mean best F {mean(best):.3f}"
    )
    return 2 * p * r / max(1e-9, p + r)


def tables_by_page(output: str | list, count: int) -> dict[int, list[Grid]]:
    if isinstance(output, list):
        return {n: [benchlib.plain_grid(t) for t in page] for n, page in enumerate(output, 1)}
    pages = output.replace("\r", "").split("\f")
    if len(pages) < count:
        print(f"    {count} pages, but {len(pages) - 1} form feeds: tables count for page 1")
    return {n: benchlib.markdown_tables(page) for n, page in enumerate(pages, 1)}


def icdar_tables(path: Path) -> dict[int, list[Grid]]:
    from lxml import etree

    tables: dict[int, list[Grid]] = {}
    for region in etree.parse(path, etree.XMLParser(recover=True)).iter("region"):
        cells = {}
        for n, cell in enumerate(region.iter("cell")):
            top, left = int(cell.get("start-row")), int(cell.get("start-col"))
            for i in range(top, int(cell.get("end-row") or top) + 1):
                for j in range(left, int(cell.get("end-col") or left) + 1):
                    cells.setdefault((i, j), (cell.findtext("content") or "", n))
        if cells:
            tables.setdefault(int(region.get("page")), []).append(benchlib.filled(cells))
    return tables


if __name__ == "__main__":
    main()
