"""HTML extraction on real pages with gold text: content, formulas, code, tables, encodings, speed.

python benchmarks/extraction_html.py --data DIR [--quick] [--json OUT]

Content is scored by 4-gram shingles of words (each Han character its own), markdown link addresses
left out: F is the harmonic mean of the pages' mean precision and recall. The page type is told to
nobody. SEC filings: the pages' own tables of numbers, by cells. Encodings: the Chinese pages in
other encodings, wrongly declared, with bad bytes, and old files. Speed is pages per CPU second of
one process, beside trafilatura's fast mode on the same pages in this same run. Other peers' figures
were measured with the same definitions on the same files.
"""

import argparse
import gzip
import html
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import extraction_lib as benchlib
from extraction_lib import HAN, Grid, Worker, mean

SETS = ("article", "forum", "aeb", "webkit")


@dataclass
class Page:
    name: str
    html: bytes
    gold: str
    lang: str
    display_formulas: list[str] = field(default_factory=list)
    inline_formulas: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    tables: list[Grid] = field(default_factory=list)
    markdown: str = ""
    """The gold as Markdown, where a set has that besides its blocks."""
    gold_with_items: str = ""
    """The gold with the list items that bear no type, which `gold` leaves out."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--quick", action="store_true", help="every fourth page; no encodings")
    parser.add_argument("--json", type=Path, help="write {metric: number} here")
    parser.add_argument("--scratch", type=Path, help="work folder (default: a temporary one)")
    options = parser.parse_args()
    options.timeout = 120.0
    options.every = 4 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        options.scratch = options.scratch or Path(folder)
        print(benchlib.machine())
        print(benchlib.versions("trafilatura", "lxml", "numba"))
        ours = gold_part(lianjin, "ours", SETS, options)
        peer = gold_part(trafilatura_fast, "trafilatura-fast", ("article", "aeb"), options)
        ours["speed_vs_trafilatura_fast"] = min(
            ours[f"{kind}_pages_per_cpu_s"] / peer[f"{kind}_pages_per_cpu_s"]
            for kind in ("article", "aeb")
        )
        ours.update(filings_part(lianjin, "ours", options))
        if not options.quick:
            ours.update(encodings_part(lianjin, "ours", options))
    limits = {
        "article_zh_f": (">= 0.970", "magic-html 0.964, trafilatura as datatrove calls it 0.933"),
        "article_en_f": (">= 0.92", "magic-html 0.912"),
        "forum_zh_f": (">= 0.83", "trafilatura 0.789, magic-html told the type 0.753"),
        "forum_en_f": (">= 0.84", "magic-html told the type 0.806, trafilatura 0.732"),
        "aeb_f": (">= 0.975", "trafilatura as datatrove calls it 0.969"),
        "webkit_f": (">= 0.91", "magic-html 0.891, trafilatura 0.789"),
        "webkit_items_f": (">= 0.91", "what the gold's lists hold included"),
        "webkit_markdown_f": (">= 0.91", "trafilatura fast 0.758"),
        "webkit_ceiling": (">= 0", "webkit_f of the gold's own Markdown"),
        "formulas_macro": (">= 0.90", "magic-html 0.815, trafilatura 0.247"),
        "code_kept": (">= 0.98", "Resiliparse, magic-html 0.98"),
        "code_fenced": (">= 0.90", "html-to-markdown 0.46"),
        "tables_filings_ge90": (">= 0.92", "html-to-markdown 0.793, trafilatura 0.732"),
        "tables_webkit_ge90": (">= 0.85", "html-to-markdown 0.875, trafilatura 0"),
        "encodings_min": (">= 1.0", "trafilatura 0, Resiliparse 0.78"),
        "speed_vs_trafilatura_fast": (">= 3.0", "Resiliparse about 9 at article_zh_f 0.791"),
    }
    rows = []
    for key, (limit, other) in limits.items():
        if key in ours:
            here = f"trafilatura fast {peer[key]:.3f}; " if key in peer else ""
            rows.append((key, ours[key], limit, here + other))
    benchlib.report("HTML extraction", rows, options.json)


def lianjin(page: bytes) -> str:
    """Ours, as the stage `extract` runs it."""
    from corpus.extract.html_document import extract_html
    from corpus.extract.settings import HtmlSettings

    return extract_html(page, HtmlSettings()).text


def trafilatura_fast(page: bytes) -> str:
    """trafilatura without its fallbacks."""
    from trafilatura import extract

    return extract(page, fast=True) or ""


# ---------------------------------------------------------------- gold


def gold_part(tool, name: str, sets: tuple[str, ...], options) -> dict[str, float]:
    worker = Worker(tool)
    figures: dict[str, float] = {}
    worker.call(b"<html><body><p>warm up</p></body></html>", 120)
    pages, texts, cpu, failures = {}, {}, {}, {}
    for kind in sets:
        pages[kind] = list(load_pages(kind, options.data, options.scratch))[:: options.every]
        folder = options.scratch / "html" / name / kind
        folder.mkdir(parents=True, exist_ok=True)
        texts[kind], cpu[kind], failures[kind] = {}, 0.0, Counter()
        for page in pages[kind]:
            outcome = worker.call(page.html, options.timeout)
            texts[kind][page.name] = outcome.value or ""
            cpu[kind] += outcome.cpu_s
            if outcome.status != "ok":
                failures[kind][outcome.status] += 1
                print(f"    {kind} {page.name}: {outcome.status} {outcome.error}")
            (folder / f"{page.name}.txt").write_text(outcome.value or "", encoding="utf-8")
    worker.close()

    print(f"{name}: content (4-gram shingles)")
    print("  set      lang   n      P      R      F  meanF  empty  failed  pages/CPU-s")
    for kind in pages:
        for lang in ("zh", "en") if kind in ("article", "forum") else ("all",):
            chosen = [p for p in pages[kind] if lang in ("all", p.lang)]
            n, precision, recall, f, mean_f, empty = shingle_score(chosen, texts[kind])
            print(
                f"  {kind:8s} {lang:4s}{n:4d}  {precision:.3f}  {recall:.3f}  {f:.3f}  {mean_f:.3f}"
                f"  {empty:5d}  {failures[kind].total():6d}  {len(pages[kind]) / cpu[kind]:11.1f}"
            )
            figures[f"{kind}_{lang}_f" if lang != "all" else f"{kind}_f"] = f
            figures[f"{kind}_pages_per_cpu_s"] = len(pages[kind]) / cpu[kind]
    if "webkit" in pages:
        figures.update(other_golds(pages["webkit"], texts["webkit"]))
        figures.update(structure_report(pages["webkit"], texts["webkit"]))
    return figures


def load_pages(kind: str, data: Path, scratch: Path) -> Iterator[Page]:
    if kind in ("article", "forum"):
        root = benchlib.unpack(data / "html/magic-html-benchmark.tar.gz", scratch) / "data" / kind
        for key, row in sorted(json.loads((root / "base.json").read_text("utf-8")).items()):
            path = root / "htmls" / f"{key}.html"
            if path.exists():
                yield Page(key, path.read_bytes(), row["content"], language(row["content"]))
    elif kind == "aeb":
        root = benchlib.unpack(data / "html/scrapinghub-aeb.tar.gz", scratch)
        for key, row in sorted(json.loads((root / "ground-truth.json").read_text("utf-8")).items()):
            path = root / "html" / f"{key}.html.gz"
            if path.exists():
                yield Page(key, gzip.decompress(path.read_bytes()), row["articleBody"], "en")
    elif kind == "webkit":
        root = benchlib.unpack(data / "html/llm-webkit-bench.tar.gz", scratch) / "data"
        for path in sorted((root / "groundtruth").glob("*.jsonl")):
            source = root / "origin" / f"{path.stem}.html"
            if source.exists():
                yield webkit_page(path, source)
    elif kind == "defuddle":
        root = benchlib.unpack(data / "html/defuddle.tar.gz", scratch)
        for path in sorted((root / "fixtures").glob("*.html")):
            expected = root / "expected" / f"{path.stem}.md"
            if expected.exists():
                gold = re.sub(r"(?s)^```json\n.*?\n```\n", "", expected.read_text("utf-8"), count=1)
                plain = re.sub(r"(?s)\$\$.+?\$\$", "", gold)
                yield Page(
                    path.stem,
                    path.read_bytes(),
                    gold,
                    language(gold),
                    re.findall(r"(?s)\$\$(.+?)\$\$", gold),
                    re.findall(r"(?<![$\\])\$([^$\n]+?)\$(?!\$)", plain),
                )
    else:
        raise SystemExit(f"no set {kind!r}; there are {', '.join(SETS)}")


def webkit_page(gold_path: Path, source: Path) -> Page:
    page = Page(gold_path.stem, source.read_bytes(), "", "")
    parts: list[str] = []
    with_items: list[str] = []

    def leaves(value, texts: list[str], every: list[str]) -> None:
        """The texts of a paragraph or list; its inline formulas are noted on the way.

        `every` also gets those items of lists that say no type, which other tools' figures lack.
        """
        if isinstance(value, dict) and "t" in value and "c" in value:
            if value["t"].startswith("equation"):
                page.inline_formulas.append(value["c"] or "")
            texts.append(value["c"] or "")
            every.append(value["c"] or "")
        elif isinstance(value, dict) and isinstance(value.get("c"), str):
            every.append(value["c"])
        elif isinstance(value, (dict, list)):
            for child in value.values() if isinstance(value, dict) else value:
                leaves(child, texts, every)

    for line in gold_path.read_text("utf-8").splitlines():
        record = json.loads(line)
        page.markdown += record.get("content") or ""
        for blocks in record["content_list"]:
            for block in blocks if isinstance(blocks, list) else [blocks]:
                kind, content = block["type"], block.get("content") or {}
                before = len(parts)
                if kind in ("paragraph", "list"):
                    texts: list[str] = []
                    every: list[str] = []
                    leaves(content, texts, every)
                    glue = " " if kind == "paragraph" else "\n"
                    parts.append(glue.join(texts))
                    with_items.append(glue.join(every))
                    continue
                if kind == "title":
                    parts.append(content.get("title_content") or "")
                elif kind == "code":
                    page.code.append(content.get("code_content") or "")
                    parts.append(page.code[-1])
                elif kind == "equation-interline":
                    page.display_formulas.append(content.get("math_content") or "")
                    parts.append(page.display_formulas[-1])
                elif "table" in kind and content.get("html"):
                    page.tables.append(benchlib.html_grid(content["html"]))
                    parts.append(re.sub(r"<[^>]+>", "", content["html"]))
                with_items += parts[before:]
    page.gold, page.gold_with_items = "\n".join(parts), "\n".join(with_items)
    page.lang = language(page.gold)
    return page


def language(text: str) -> str:
    """zh where more than 15 % of the signs are Han and the text is not Japanese or Korean."""
    han = len(re.findall("[\u4e00-\u9fff]", text))
    other = len(re.findall("[\u3040-\u30ff\uac00-\ud7af]", text))
    signs = len(re.sub(r"\s", "", text))
    return "zh" if han > 0.15 * max(1, signs) and other < 0.1 * han else "en"


TOKEN = re.compile(f"[{HAN}]|[^\\W{HAN}]+")
LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")


def shingle_score(pages: list[Page], texts: dict[str, str]):
    """Scrapinghub's formula: the harmonic mean of mean precision and mean recall over pages.

    Tokens are words, but every Han character is its own; markdown link addresses do not count.
    """
    precisions, recalls, fs, empty = [], [], [], 0
    for page in pages:
        if len(TOKEN.findall(page.gold)) < 5:
            continue
        text = texts[page.name]
        gold, found = shingles(page.gold), shingles(LINK.sub(r"\1", text))
        common = (gold & found).total()
        if found:
            precisions.append(common / found.total())
        recalls.append(common / gold.total())
        fs.append(2 * common / (gold.total() + found.total()))
        empty += len(text.strip()) < 20
    p, r = mean(precisions), mean(recalls)
    return len(fs), p, r, 2 * p * r / max(1e-9, p + r), mean(fs), empty


def shingles(text: str) -> Counter:
    tokens = TOKEN.findall(text)
    if not tokens:
        return Counter()
    return Counter(tuple(tokens[k : k + 4]) for k in range(max(1, len(tokens) - 3)))


def other_golds(pages: list[Page], texts: dict[str, str]) -> dict[str, float]:
    """Content by other readings of the same gold, which as it is read lacks many items of lists."""
    figures = {}
    for key, what, whole, found in (
        ("webkit_items_f", "gold with all list items",
         [replace(page, gold=page.gold_with_items) for page in pages], texts),
        ("webkit_markdown_f", "gold's own Markdown",
         [replace(page, gold=page.markdown) for page in pages], texts),
        ("webkit_ceiling", "gold's own Markdown as if it were a tool's text",
         pages, {page.name: page.markdown for page in pages}),
    ):  # fmt: skip
        n, precision, recall, figures[key], mean_f, _ = shingle_score(whole, found)
        print(
            f"  webkit, {what}: {n} pages, P {precision:.3f}, R {recall:.3f},"
            f" F {figures[key]:.3f}, meanF {mean_f:.3f}"
        )
    return figures


def structure_report(pages: list[Page], texts: dict[str, str]) -> dict[str, float]:
    both, macro = formula_row(pages, texts, "both")
    print(f"  formulas, webkit: {both}")
    total = kept = lines_kept = fenced = 0
    for page in pages:
        text = texts[page.name]
        plain = re.sub(r"\s+", "", html.unescape(text)).replace("\\_", "_").replace("\\*", "*")
        lines = {line.rstrip() for line in html.unescape(text).split("\n")}
        fences = [squeeze(x) for x in re.findall(r"(?s)```[^\n]*\n(.*?)```", text)]
        for code in page.code:
            if len(code.strip()) < 5:
                continue
            total += 1
            fenced += any(squeeze(code) in fence for fence in fences)
            if squeeze(code) in plain:
                kept += 1
                own = [x.rstrip() for x in code.strip("\n").split("\n") if x.strip()]
                first = any(line.endswith(own[0].strip()) for line in lines)
                lines_kept += first and all(line in lines for line in own[1:])
    print(
        f"  code, webkit: {total} blocks, {kept} kept, {lines_kept} with lines and indent,"
        f" {fenced} fenced"
    )
    found = 0
    cell_f, relation_f = [], []
    for page in pages:
        tables = benchlib.markdown_tables(texts[page.name])
        for gold in page.tables:
            bag = benchlib.cell_bag(gold)
            if bag.total() < 2:
                continue
            scores = [benchlib.f1(bag, benchlib.cell_bag(t)) for t in tables]
            best = max(range(len(tables)), key=scores.__getitem__, default=None)
            if best is None or scores[best] <= 0.3:
                cell_f.append(0.0)
                relation_f.append(0.0)
                continue
            found += 1
            cell_f.append(scores[best])
            table = tables.pop(best)
            relation_f.append(benchlib.f1(benchlib.adjacency(gold), benchlib.adjacency(table)))
    good = sum(f >= 0.9 for f in cell_f)
    good_relations = sum(f >= 0.9 for f in relation_f)
    print(
        f"  tables, webkit: {len(cell_f)} gold, {found} found, cell-F >= .9: {good}, adjacency-F"
        f" >= .9: {good_relations}, mean cell-F {mean(cell_f):.2f}, mean adjacency-F"
        f" {mean(relation_f):.2f}"
    )
    return {
        "formulas_macro": macro,
        "code_kept": kept / max(1, total),
        "code_fenced": fenced / max(1, total),
        "tables_webkit_ge90": good / max(1, len(cell_f)),
    }


def squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)


def formula_norm(text: str) -> str:
    """LaTeX without spacing commands, sizes, braces and spaces; markdown escapes undone."""
    text = html.unescape(text)
    text = re.sub(r"\\(displaystyle|textstyle|,|;|!|:|quad|qquad| )", "", text)
    text = re.sub(r"\\left|\\right|\\bigl?|\\bigr|\\Bigl?|\\Bigr", "", text)
    text = text.replace("\\\\_", "_").replace("\\_", "_").replace("\\*", "*")
    return re.sub(r"[\s{}$&]+", "", text).replace("\\\\", "\\")


DELIMITED = (
    r"\$\$(.+?)\$\$",
    r"\\\[(.+?)\\\]",
    r"\\\((.+?)\\\)",
    r"(?<!\$)\$([^$\n]+?)\$(?!\$)",
    r"\\begin\{(?:equation|align|gather|eqnarray)\*?\}(.+?)\\end\{",
    r"```(?:math|latex)\n(.+?)```",
    r"`\$(.+?)\$`",
)


def formula_row(pages: list[Page], texts: dict[str, str], which: str) -> tuple[str, float]:
    total = anywhere = delimited = 0
    shares = []  # of each page's formulas, those inside delimiters
    for page in pages:
        before = total, delimited
        text = html.unescape(texts[page.name])
        plain = formula_norm(text)
        found = Counter(formula_norm(x) for p in DELIMITED for x in re.findall(p, text, re.S))
        joined = " ".join(found)
        formulas = page.display_formulas if which != "inline" else []
        formulas = formulas + (page.inline_formulas if which != "display" else [])
        for formula in map(formula_norm, formulas):
            if len(formula) < 3:
                continue
            total += 1
            anywhere += formula in plain
            delimited += found[formula] > 0 or (len(formula) > 8 and formula in joined)
            found[formula] -= 1
        if total > before[0]:
            shares.append((delimited - before[1]) / (total - before[0]))
    return (
        f"{total} gold, LaTeX present {anywhere}, inside delimiters {delimited};"
        f" mean share of {len(shares)} pages {mean(shares):.3f}"
    ), mean(shares)


# ---------------------------------------------------------------- filings


def filings_part(tool, name: str, options) -> dict[str, float]:
    """Gold are the tables of the page's own markup that hold numbers; layout tables do not count.

    "$", "%" and brackets, for which filings use cells of their own, do not matter.
    """
    root = benchlib.unpack(options.data / "html/sec-filings.tar.gz", options.scratch)
    worker = Worker(tool)
    total = found = good = pages = 0
    cpu, failed, cells_kept, cell_f = 0.0, Counter(), [], []
    for path in sorted(p for p in root.rglob("*.htm*") if p.is_file())[:: options.every]:
        page = path.read_bytes()
        gold = number_tables(page)
        if not gold:
            continue
        pages += 1
        outcome = worker.call(page, options.timeout)
        cpu += outcome.cpu_s
        if outcome.status != "ok":
            failed[outcome.status] += 1
            print(f"    {path.name}: {outcome.status} {outcome.error}")
        text = outcome.value or ""
        plain = re.sub(r"[\s|*_`\\$()%]+", "", html.unescape(text)).lower()
        tables = [number_bag(t) for t in benchlib.markdown_tables(text)]
        for bag in gold:
            total += 1
            cells_kept.append(sum(n for c, n in bag.items() if c in plain) / bag.total())
            scores = [benchlib.f1(bag, t) for t in tables]
            best = max(range(len(tables)), key=scores.__getitem__, default=None)
            cell_f.append(scores[best] if best is not None and scores[best] > 0.3 else 0.0)
            if cell_f[-1]:
                found += 1
                good += scores[best] >= 0.9
                tables.pop(best)
    worker.close()
    print(
        f"{name}: filings, {pages} pages with number tables, {failed.total()} failed,"
        f" {pages / max(cpu, 1e-9):.1f} pages/CPU-s\n"
        f"  tables: {total} gold, {found} found, cell-F >= .9: {good}, mean cell-F"
        f" {mean(cell_f):.2f}; share of their cells anywhere in the text {mean(cells_kept):.3f}"
    )
    return {"tables_filings_ge90": good / max(1, total)}


def number_tables(page: bytes) -> list[Counter]:
    """The cell bags of innermost tables with >= 3 rows, >= 2 columns and a third of numbers."""
    from lxml import html as lxml_html

    bags = []
    for table in lxml_html.fromstring(page).iter("table"):
        if table.find(".//table") is not None:
            continue
        grid = benchlib.html_grid(table)
        bag = number_bag(grid)
        rows = sum(any(text.strip() for text, _ in row) for row in grid)
        columns = max((len({i for text, i in row if text.strip()}) for row in grid), default=0)
        numbers = sum(n for cell, n in bag.items() if re.search(r"\d", cell))
        if rows >= 3 and columns >= 2 and bag.total() >= 6 and numbers >= bag.total() / 3:
            bags.append(bag)
    return bags


def number_bag(grid: Grid) -> Counter:
    return benchlib.cell_bag([[(re.sub(r"[()%]", "", t), i) for t, i in row] for row in grid])


# ---------------------------------------------------------------- encodings

META = re.compile(r"<meta[^>]*charset[^>]*>", re.I)


def declared(page: str, charset: str) -> str:
    meta = f'<meta charset="{charset}">'
    if META.search(page):
        return META.sub(meta, page, count=1)
    return re.sub(r"(?i)(<head[^>]*>)", rf"\1{meta}", page, count=1)


def gbk(page: str) -> bytes:
    return page.encode("gb18030", "replace")


def in_comment(page: bytes, byte: bytes) -> bytes:
    at = max(page.find(b"</head>"), 0) or 100
    return page[:at] + b"<!-- " + byte + b" -->" + page[at:]


def in_middle(page: bytes, byte: bytes) -> bytes:
    return page[: len(page) // 2] + byte + page[len(page) // 2 :]


VARIANTS = {
    "utf-8, no declaration": lambda s: META.sub("", s).encode(),
    "gbk, declared gb2312": lambda s: gbk(declared(s, "gb2312")),
    "gbk, no declaration": lambda s: gbk(META.sub("", s)),
    "gbk, declared utf-8": lambda s: gbk(declared(s, "utf-8")),
    "utf-8, declared gbk": lambda s: declared(s, "gbk").encode(),
    "utf-16 with BOM": lambda s: META.sub("", s).encode("utf-16"),
    "utf-8, a bad byte in the middle": lambda s: in_middle(declared(s, "utf-8").encode(), b"\xff"),
    "gbk, declared, a bad byte in a comment": lambda s: in_comment(
        gbk(declared(s, "gbk")), b"\xff"
    ),
    "utf-8, null bytes": lambda s: declared(s, "utf-8").replace("的", "的\0").encode(),
}


def encodings_part(tool, name: str, options) -> dict[str, float]:
    """A page counts where the Han characters of the output are >= .95 F those of the original's."""
    pages = [
        page
        for kind in ("article", "forum")
        for page in load_pages(kind, options.data, options.scratch)
        if page.lang == "zh" and len(page.html) < 800_000
    ]
    worker = Worker(tool)

    def han(page: bytes) -> str:
        return "".join(
            re.findall("[\u4e00-\u9fff]", worker.call(page, options.timeout).value or "")
        )

    reference = {page.name: Counter(han(page.html)) for page in pages}
    pages = [page for page in pages if reference[page.name].total() >= 50]
    print(f"{name}: encodings, {len(pages)} Chinese pages")
    shares: list[float] = []
    for variant, encode in VARIANTS.items():
        scores = [
            benchlib.f1(reference[p.name], Counter(han(encode(p.html.decode("utf-8", "replace")))))
            for p in pages
        ]
        right = sum(s >= 0.95 for s in scores)
        shares.append(right / max(1, len(pages)))
        print(f"  {variant:40s} {right:3d}/{len(pages)}")
    root = benchlib.unpack(options.data / "html/zh-legacy-encodings.tar.gz", options.scratch)
    counts: dict[str, Counter] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        charset = "big5hkscs" if "big5" in path.parent.name.lower() else "gb18030"
        source = "".join(
            re.findall("[\u4e00-\u9fff]", path.read_bytes().decode(charset, "replace"))
        )
        if len(source) < 100:
            continue
        output = han(path.read_bytes())
        known = {source[k : k + 2] for k in range(len(source))}
        known_share = mean(output[k : k + 2] in known for k in range(len(output) - 1))
        result = (
            "empty" if len(output) < 20 else "right" if known_share > 0.9 else "wrong characters"
        )
        counts.setdefault(charset, Counter())[result] += 1
    for charset, counter in counts.items():
        print(f"  real old files and feeds in {charset}: {dict(sorted(counter.items()))}")
        shares.append(counter["right"] / counter.total())
    worker.close()
    return {"encodings_min": min(shares)}


if __name__ == "__main__":
    main()
