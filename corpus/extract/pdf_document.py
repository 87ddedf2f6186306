"""One PDF to Markdown: page by page, without headers and footers, lines joined into paragraphs."""

import re

import pymupdf

from corpus.extract.html_tables import markdown_table
from corpus.extract.pdf_lines import PageLines, drop_furniture, read_page
from corpus.extract.pdf_paragraphs import FINAL, Block, join_lines, paragraphs, usual_size
from corpus.extract.pdf_tables import find_tables
from corpus.extract.result import Extracted
from corpus.extract.settings import PdfSettings

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)

SCANNED_CHARACTERS = 20
"""A page with an image and fewer characters of text than this is a scan."""
FILE_NAME = re.compile(r"\.(?:docx?|pdf|pptx?|xlsx?|indd|tex|dvi)$|^(?:untitled|microsoft)", re.I)
ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError)
"""What PyMuPDF raises on broken pages."""


def extract_pdf(payload: bytes, settings: PdfSettings) -> Extracted:
    """Extract a PDF; `broken_pdf`, `encrypted`, `needs_ocr` or `no_text` where there is no text."""
    try:
        document = pymupdf.open(stream=payload, filetype="pdf")
    except ERRORS as error:
        return Extracted(reason="broken_pdf", message=str(error)[:300])
    with document:
        if document.needs_pass:
            return Extracted(reason="encrypted", message="it opens with a password only")
        if not len(document):
            return Extracted(reason="broken_pdf", message="it has no pages")
        pages, failures, scans = read_pages(document, settings)
        text = "\n\n".join(block.text for block in _joined(pages))
        facts = {"pages": str(len(document))}
        if settings.max_pages < len(document):
            facts["pages_left_out"] = str(len(document) - settings.max_pages)
        if failures:
            facts["broken_pages"] = str(len(failures))
        if scans:
            facts["scanned_pages"] = str(scans)
        metadata = document.metadata or {}
        if author := (metadata.get("author") or "").strip():
            facts["author"] = author
        if text.strip():
            title = _title(metadata, pages)
            return Extracted(text, title=title, date=_date(metadata), extra=facts)
        if scans:
            message = f"{scans} of {len(document)} pages are images without text"
            return Extracted(reason="needs_ocr", message=message, extra=facts)
        if failures:
            return Extracted(reason="broken_pdf", message="; ".join(failures)[:300], extra=facts)
        return Extracted(reason="no_text", message=f"{len(document)} pages", extra=facts)


def read_pages(
    document: pymupdf.Document, settings: PdfSettings
) -> tuple[list[list[Block]], list[str], int]:
    """The blocks of each page in reading order, the pages that failed, and how many are scans."""
    pages: list[PageLines] = []
    numbers: list[int] = []
    failures: list[str] = []
    scans = 0
    for number in range(min(len(document), settings.max_pages)):
        try:
            page = read_page(document[number])
        except ERRORS as error:
            failures.append(f"page {number + 1}: {error}")
            continue
        scans += page.images > 0 and sum(len(x.text) for x in page.lines) < SCANNED_CHARACTERS
        pages.append(page)
        numbers.append(number)
    drop_furniture(pages)
    size = usual_size([page.lines for page in pages])
    result = []
    for number, page in zip(numbers, pages, strict=True):
        blocks: list[Block] = []
        rest = page.lines
        if settings.tables and rest:
            try:
                tables = find_tables(document[number], page)
            except ERRORS as error:
                failures.append(f"tables of page {number + 1}: {error}")
                tables = []
            for table in tables:
                used = {id(line) for line in table.lines}
                rest = [line for line in rest if id(line) not in used]
                first = min(table.lines, key=lambda x: x.order)
                cells = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
                text = markdown_table(cells)
                blocks.append(Block(first.order, text, first.top, first.left, kind="table"))
        blocks.extend(paragraphs(rest, size))
        blocks.sort(key=lambda block: block.order)
        result.append(blocks)
    return result, failures, scans


def _joined(pages: list[list[Block]]) -> list[Block]:
    """All blocks, a paragraph that the end of its page cut in two made whole."""
    blocks: list[Block] = []
    for page in pages:
        for place, block in enumerate(page):
            before = blocks[-1] if blocks else None
            if (
                place == 0
                and before is not None
                and before.kind == block.kind == "p"
                and abs(before.size - block.size) < 0.1 * block.size
                and len(before.text) > 40
                and not FINAL.search(before.text)
                and re.match(r"[a-z\u3400-\u9fff，、]", block.text)
            ):
                before.text = join_lines([before.text, block.text])
            else:
                blocks.append(block)
    return blocks


def _title(metadata: dict[str, str], pages: list[list[Block]]) -> str | None:
    """The title that the file states, unless it is a file name; else the first page's heading."""
    stated = (metadata.get("title") or "").strip()
    is_name = re.search(
        r"\.(?:docx?|pdf|pptx?|xlsx?|indd|tex|dvi)$|^(?:untitled|microsoft)", stated, re.I
    )
    if stated and not is_name:
        return stated
    headings = [block for block in (pages[0] if pages else []) if block.kind == "h"]
    if headings:
        return max(headings, key=lambda block: block.size).text.lstrip("# ")
    return None


def _date(metadata: dict[str, str]) -> str | None:
    """A PDF date (D:YYYYMMDD…) as ISO 8601."""
    found = re.match(r"D:(\d{4})(\d\d)(\d\d)", metadata.get("creationDate") or "")
    return f"{found[1]}-{found[2]}-{found[3]}" if found else None
