"""One PDF to Markdown: page by page, without headers and footers, lines joined into paragraphs."""

import re
from dataclasses import dataclass, field
from datetime import date

import pymupdf

from corpus.extract.pdf_authors import find_author
from corpus.extract.pdf_disclaimers import disclaimers_from
from corpus.extract.pdf_formulas import take_formulas
from corpus.extract.pdf_joins import joined, table_text
from corpus.extract.pdf_lines import PageLines, drop_furniture, read_page
from corpus.extract.pdf_neural import drop_model_furniture, regions
from corpus.extract.pdf_ocr import OcrError, recognise
from corpus.extract.pdf_paragraphs import Block, paragraphs, usual_size
from corpus.extract.pdf_rows import Table
from corpus.extract.pdf_rules import read_rules
from corpus.extract.pdf_tables import find_tables
from corpus.extract.result import Extracted
from corpus.extract.settings import PdfSettings

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)

SCANNED_CHARACTERS = 20
"""A page with an image and fewer characters of text than this is a scan."""
BETWEEN = "\n\n"
NO_TITLE = re.compile(
    r"^doi:|\.(?:docx?|pdf|pptx?|xlsx?|indd|tex|dvi)$|^(?:untitled|microsoft|powerpoint)|www\.|https?:",
    re.I,
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DATE = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)\s*(?:年|[-/.])\s*(?P<m>\d{1,2})\s*(?:月|[-/.])\s*(?P<d>\d{1,2})(?!\d)"
    r"|\b(?:(?P<day_before>\d{1,2})\s+)?"
    r"(?P<month>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6})\.?\s+"
    r"(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?,\s+)?(?P<year_behind>(?:19|20)\d\d)\b"
)
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
        read = read_pages(document, settings)
        texts = [block.text for block in joined(read.pages, read.heights, read.size)]
        text = BETWEEN.join(texts)
        facts = {"pages": str(len(document))}
        if (place := disclaimers_from(texts, len(BETWEEN))) is not None:
            facts["disclaimer_from"] = str(place)
        if settings.max_pages < len(document):
            facts["pages_left_out"] = str(len(document) - settings.max_pages)
        if read.failures:
            facts["broken_pages"] = str(len(read.failures))
        if read.scans:
            facts["scanned_pages"] = str(read.scans)
        if read.recognised:
            facts["ocr"] = _ranges(read.recognised)
        metadata = document.metadata or {}
        title = _title(metadata, read.pages)
        first = read.pages[0] if read.pages else []
        if author := find_author(metadata.get("author"), title, first):
            facts["author"] = author
        if text.strip():
            return Extracted(text, title=title, date=_date(metadata, read.pages), extra=facts)
        if read.scans:
            message = f"{read.scans} of {len(document)} pages are images without text"
            if read.ocr_failure:
                message += f"; {read.ocr_failure}"
            return Extracted(reason="needs_ocr", message=message, extra=facts)
        if read.failures:
            message = "; ".join(read.failures)[:300]
            return Extracted(reason="broken_pdf", message=message, extra=facts)
        return Extracted(reason="no_text", message=f"{len(document)} pages", extra=facts)


@dataclass(slots=True)
class Read:
    """What the pages of a document gave."""

    pages: list[list[Block]] = field(default_factory=list)
    """The blocks of each page that could be read, in reading order."""
    heights: list[float] = field(default_factory=list)
    """Their heights, points."""
    size: float = 0.0
    """The font size of most of their signs, points."""
    failures: list[str] = field(default_factory=list)
    """What failed, and on which page."""
    scans: int = 0
    """Pages that are images without text and were not recognised."""
    recognised: list[int] = field(default_factory=list)
    """The numbers, from 1, of the pages that OCR read."""
    ocr_failure: str = ""
    """Why OCR did not."""


def read_pages(document: pymupdf.Document, settings: PdfSettings) -> Read:
    """Read a document's pages, and put their lines into paragraphs, headings and tables."""
    read = Read()
    pages: list[PageLines] = []
    numbers: list[int] = []
    for number in range(min(len(document), settings.max_pages)):
        try:
            source = document[number]
            page = read_page(source, settings.formulas)
            if page.images > 0 and sum(len(x.text) for x in page.lines) < SCANNED_CHARACTERS:
                page = _scanned(source, page, settings, read)
        except ERRORS as error:
            read.failures.append(f"page {number + 1}: {error}")
            continue
        pages.append(page)
        numbers.append(number)
    drop_furniture(pages)
    read.size = usual_size([page.lines for page in pages])
    for number, page in zip(numbers, pages, strict=True):
        blocks: list[Block] = []
        boxes = None
        if settings.layout == "neural" and page.matrix is None:
            found = regions(document[number])
            drop_model_furniture(page, found)
            boxes = [region for region in found if region.kind == "table"]
        if page.signs:
            try:
                blocks = take_formulas(page, read_rules(document[number], page.matrix)[0])
            except ERRORS as error:
                read.failures.append(f"formulas of page {number + 1}: {error}")
        rest = page.lines
        if settings.tables and rest:
            try:
                tables = find_tables(document[number], page, boxes)
            except ERRORS as error:
                read.failures.append(f"tables of page {number + 1}: {error}")
                tables = []
            for table in tables:
                used = {id(line) for line in table.lines}
                rest = [line for line in rest if id(line) not in used]
                blocks.append(_table_block(table))
        blocks.extend(paragraphs(rest, read.size))
        blocks.sort(key=lambda block: block.order)
        read.pages.append(blocks)
        read.heights.append(page.height)
    return read


def _scanned(source: pymupdf.Page, page: PageLines, settings: PdfSettings, read: Read) -> PageLines:
    """The page as OCR reads it, or as it is where that is not wanted or fails."""
    if settings.ocr is not None and len(read.recognised) < settings.ocr_max_pages:
        try:
            page = recognise(source, settings.ocr)
            read.recognised.append(source.number + 1)
            return page
        except OcrError as error:
            read.ocr_failure = str(error)
    read.scans += 1
    return page


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as 1-3,5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _table_block(table: Table) -> Block:
    lines = table.lines
    return Block(
        min(line.order for line in lines), table_text(table.rows),
        min(line.top for line in lines), min(line.left for line in lines), 0.0, "table",
        max(line.right for line in lines), max(line.bottom for line in lines), table.rows,
    )  # fmt: skip


def _title(metadata: dict[str, str], pages: list[list[Block]]) -> str | None:
    """The title that the file states, unless it is a name or an address; else the first heading."""
    stated = (metadata.get("title") or "").strip()
    author = (metadata.get("author") or "").strip()
    if stated and stated != author and not NO_TITLE.search(stated):
        return stated
    headings = [block for block in (pages[0] if pages else []) if block.kind == "h"]
    if headings:
        return max(headings, key=lambda block: block.size).text.lstrip("# ")
    return None


def _date(metadata: dict[str, str], pages: list[list[Block]]) -> str | None:
    """The first full date on the first page that fits with when the file was made; else that."""
    found = re.match(r"D:(\d{4})(\d\d)(\d\d)", metadata.get("creationDate") or "")
    made = _day(found[1], found[2], found[3]) if found else None
    for block in pages[0] if pages else []:
        for match in DATE.finditer(block.text[:2000]):
            if match["month"]:
                number = str(1 + MONTHS.index(match["month"][:3].lower()))
                number_of_day = match["day_before"] or match["day"] or ""
                day = _day(match["year_behind"], number, number_of_day)
            else:
                day = _day(match["y"], match["m"], match["d"])
            if day and (made is None or -1 <= (made - day).days < 730):
                return day.isoformat()
    return made.isoformat() if made else None


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
