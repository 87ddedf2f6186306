"""One PDF to Markdown: page by page, without headers and footers, lines joined into paragraphs."""

import re
from collections import Counter
from dataclasses import dataclass

import pymupdf

from corpus.extract.result import Extracted
from corpus.extract.settings import PdfSettings

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)

HAN = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WIDE = HAN + "\u3000-\u303f\uff00-\uffef"
EDGE = 0.1
"""Headers and footers lie in this share of the page's height, at its top and bottom."""
SCANNED_CHARACTERS = 20
"""A page with an image and fewer characters of text than this is a scan."""


@dataclass
class Block:
    """A paragraph, a table or a line, where it stands on its page."""

    top: float
    bottom: float
    text: str
    is_table: bool = False


def extract_pdf(payload: bytes, settings: PdfSettings) -> Extracted:
    """Extract a PDF; `broken_pdf`, `encrypted`, `needs_ocr` or `no_text` where there is no text."""
    try:
        document = pymupdf.open(stream=payload, filetype="pdf")
    except (RuntimeError, ValueError) as error:
        return Extracted(reason="broken_pdf", message=str(error)[:300])
    with document:
        if document.needs_pass:
            return Extracted(reason="encrypted", message="it opens with a password only")
        if not len(document):
            return Extracted(reason="broken_pdf", message="it has no pages")
        pages: list[list[Block]] = []
        heights, scans, failures = [], 0, []
        count = min(len(document), settings.max_pages)
        for number in range(count):
            try:
                page = document[number]
                blocks = _blocks(page, settings)
                is_scan = sum(len(b.text) for b in blocks) < SCANNED_CHARACTERS
                scans += is_scan and bool(page.get_images())
                heights.append(page.rect.height)
                pages.append(blocks)
            except (RuntimeError, ValueError) as error:
                failures.append(f"page {number + 1}: {error}")
        _drop_furniture(pages, heights)
        text = "\n\n".join(block.text for blocks in pages for block in blocks)
        facts = {"pages": str(len(document))}
        if count < len(document):
            facts["pages_left_out"] = str(len(document) - count)
        if failures:
            facts["broken_pages"] = str(len(failures))
        metadata = document.metadata or {}
        if author := (metadata.get("author") or "").strip():
            facts["author"] = author
        if text.strip():
            title = (metadata.get("title") or "").strip() or None
            return Extracted(text, title=title, date=_date(metadata), extra=facts)
        if failures:
            return Extracted(reason="broken_pdf", message="; ".join(failures)[:300], extra=facts)
        if scans:
            message = f"{scans} of {len(document)} pages are images without text"
            return Extracted(reason="needs_ocr", message=message, extra=facts)
        return Extracted(reason="no_text", message=f"{len(document)} pages", extra=facts)


def join_lines(lines: list[str]) -> str:
    """Join a paragraph's lines: Chinese without a space, English with one, hyphenation undone."""
    text = ""
    for line in map(str.strip, lines):
        if not line or not text:
            text += line
        elif text.endswith(("\xad", "\u2010")) or (
            re.search("[a-z]-$", text) and line[0].islower()
        ):
            text = text[:-1] + line
        elif re.search(f"[{WIDE}]$", text) or re.match(f"[{WIDE}]", line):
            text += line
        else:
            text += " " + line
    return text


def _blocks(page: pymupdf.Page, settings: PdfSettings) -> list[Block]:
    tables = []
    if settings.tables and page.rect.height and len(page.get_cdrawings()) >= 4:
        tables = page.find_tables().tables
    blocks: list[Block] = []
    for table in tables:
        rows = [[cell or "" for cell in row] for row in table.extract()]
        if len(rows) > 1 and len(rows[0]) > 1:
            box = table.bbox
            blocks.append(Block(box[1], box[3], markdown_table(rows), is_table=True))
    flags = pymupdf.TEXTFLAGS_DICT & ~pymupdf.TEXT_PRESERVE_IMAGES
    inside = [pymupdf.Rect(table.bbox) for table in tables if len(blocks)]
    for block in page.get_text("dict", flags=flags)["blocks"]:
        lines: list[str] = []
        top = bottom = None
        for line in block.get("lines", ()):
            text = "".join(span["text"] for span in line["spans"])
            x0, y0, x1, y1 = line["bbox"]
            middle = pymupdf.Point((x0 + x1) / 2, (y0 + y1) / 2)
            if not text.strip() or any(middle in box for box in inside):
                continue
            lines.append(re.sub(f"(?<=[{WIDE}])[ \xa0]+(?=[{WIDE}])", "", text))
            top = y0 if top is None else top
            bottom = y1
        if lines and top is not None and bottom is not None:
            blocks.append(Block(top, bottom, join_lines(lines)))
    if inside:
        blocks.sort(key=lambda b: b.top)
    return blocks


def _drop_furniture(pages: list[list[Block]], heights: list[float]) -> None:
    """Take out what recurs, digits aside, at the pages' edges on two fifths of them."""

    def at_edge(block: Block, height: float) -> bool:
        return not block.is_table and (
            block.bottom < EDGE * height or block.top > (1 - EDGE) * height
        )

    def blind(text: str) -> str:
        return re.sub(r"\d+", "0", re.sub(r"\s+", "", text))

    counts: Counter[str] = Counter()
    for blocks, height in zip(pages, heights, strict=True):
        counts.update({blind(b.text) for b in blocks if at_edge(b, height)})
    least = max(3, 0.4 * len(pages))
    for blocks, height in zip(pages, heights, strict=True):
        blocks[:] = [
            b for b in blocks if not (at_edge(b, height) and counts[blind(b.text)] >= least)
        ]


def markdown_table(rows: list[list[str]]) -> str:
    """GitHub's table of rows of cells; the first row is its header."""
    clean = [[re.sub(r"\s*\n\s*", " ", c).strip().replace("|", r"\|") for c in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in clean]
    lines.insert(1, "|" + " --- |" * len(clean[0]))
    return "\n".join(lines)


def _date(metadata: dict[str, str]) -> str | None:
    """A PDF date (D:YYYYMMDD…) as ISO 8601."""
    found = re.match(r"D:(\d{4})(\d\d)(\d\d)", metadata.get("creationDate") or "")
    return f"{found[1]}-{found[2]}-{found[3]}" if found else None
