"""The lines of a PDF's pages with their geometry, and which of them are headers and footers."""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pymupdf

from corpus.extract.pdf_math import Sign
from corpus.extract.pdf_signs import has_mathematics, read_signs

EDGE = 0.12
"""Headers and footers lie in this share of a page's height, at its top and bottom."""
RECURS = 0.35
"""On so many of the pages a line must recur, digits aside, to be one."""
TABULAR = 5
"""So many texts side by side are a table's row, though it recurs at the edge of each page."""
LEAST_STACKED = 4
"""So many signs one below the other are a column."""
HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WIDE = HAN + "\u3000-\u303f\u3040-\u30ff\uff00-\uffef"
SPACE_IN_HAN = re.compile(f"(?<=[{WIDE}])[ \xa0\u3000]+(?=[{WIDE}])")
ARTICLE = re.compile(
    f"\\s*(第[〇零一二三四五六七八九十百千\\d]{{1,7}}[编編章节節条條])[ \xa0\u3000]+(?=[{HAN}])"
)
"""What numbers a statute's parts; the space behind it is not the layout's."""
PAGE_NUMBER = re.compile(
    r"[\W_]*(?:第\s*)?(?:page\s*)?(?:\d{1,4}|[ivxl]{1,6})(?:\s*[页頁])?(?:\s*(?:/|of|共)\s*\d{1,4}\s*[页頁]?)?[\W_]*",
    re.I,
)
NUMBER_LIKE = re.compile(r"\d\S*")
# Ligatures stay as the file has them: folding them is the cleaning of characters' task.
FLAGS = (
    pymupdf.TEXT_PRESERVE_LIGATURES
    | pymupdf.TEXT_PRESERVE_WHITESPACE
    | pymupdf.TEXT_MEDIABOX_CLIP
    | pymupdf.TEXT_CID_FOR_UNKNOWN_UNICODE
)


@dataclass(slots=True)
class Line:
    """Signs on one base line without a wide gap between them; points from the page's top left."""

    left: float
    top: float
    right: float
    bottom: float
    size: float
    """Font size of most of the signs, points."""
    text: str
    bold: bool
    order: int
    """The line's place in the page's own order."""
    key: tuple[int, int] = (-1, -1)
    """Its block's and its own number there, as PyMuPDF counts them."""

    @property
    def width(self) -> float:
        return self.right - self.left


Word = tuple[float, float, float, float, str, int, int, int]
"""left, top, right, bottom, text, and the numbers of its block, its line there, itself there."""


@dataclass(slots=True)
class PageLines:
    """One page."""

    width: float
    height: float
    lines: list[Line]
    images: int
    """How many images it shows."""
    words: list[Word] = field(default_factory=list)
    """The words of the page where it may hold a table."""
    signs: dict[tuple[int, int], list[Sign]] = field(default_factory=dict)
    """The signs of its lines, by their keys, where it holds formulas that are wanted."""
    matrix: pymupdf.Matrix | None = None
    """What has turned the page, where its text was not upright."""

    def at_edge(self, line: Line) -> bool:
        return line.bottom < EDGE * self.height or line.top > (1 - EDGE) * self.height


def read_page(page: pymupdf.Page, formulas: bool = False) -> PageLines:
    """The horizontal lines of a page; what is set at an angle (stamps, axis titles) is left out.

    A page most of whose text runs up, down or upside down is turned first: tables set across, and
    Chinese in columns from the right to the left.
    """
    textpage = page.get_textpage(flags=FLAGS)
    content = textpage.extractDICT()
    width, height = content["width"], content["height"]
    matrix = _turn(content)
    if matrix is not None:
        textpage = page.get_textpage(flags=FLAGS & ~pymupdf.TEXT_MEDIABOX_CLIP, matrix=matrix)
        content = textpage.extractDICT()
        width, height = (height, width) if matrix.a == 0 else (width, height)
    lines: list[Line] = []
    for number, block in enumerate(content["blocks"]):
        for place, line in enumerate(block.get("lines", ())):
            if abs(line["dir"][0]) < 0.99:
                continue
            spans = line["spans"]
            text = "".join(span["text"] for span in spans)
            if not text.strip():
                continue
            longest = max(spans, key=lambda span: len(span["text"]))
            x0, y0, x1, y1 = line["bbox"]
            lines.append(
                Line(x0, y0, x1, y1, longest["size"], clean(text), bool(longest["flags"] & 16),
                     len(lines), (number, place))
            )  # fmt: skip
    if matrix is None and (columns := _columns(lines, width)):
        lines, matrix = columns, pymupdf.Matrix(0, -1, 1, 0, 0, width)
        return PageLines(height, width, lines, 0, matrix=matrix)
    images = len(page.get_images()) if len(lines) < 3 else 0
    words = textpage.extractWORDS() if _may_hold_tables(lines) else []
    signs = read_signs(textpage.extractRAWDICT()) if formulas and has_mathematics(content) else {}
    return PageLines(width, height, lines, images, words, signs, matrix)


def _turn(content: dict[str, Any]) -> pymupdf.Matrix | None:
    """What turns a page so that most of its text is upright; None where it is."""
    signs: Counter[tuple[int, int]] = Counter()
    for block in content["blocks"]:
        for line in block.get("lines", ()):
            x, y = (round(part) for part in line["dir"])
            signs[x, y] += sum(len(span["text"].strip()) for span in line["spans"])
    if not signs:
        return None
    direction, count = signs.most_common(1)[0]
    width, height = content["width"], content["height"]
    if direction == (1, 0) or count <= 0.6 * signs.total():
        return None
    if direction == (0, -1):
        return pymupdf.Matrix(0, 1, -1, 0, height, 0)
    if direction == (0, 1):
        return pymupdf.Matrix(0, -1, 1, 0, 0, width)
    return pymupdf.Matrix(-1, 0, 0, -1, width, height) if direction == (-1, 0) else None


def _columns(lines: list[Line], width: float) -> list[Line]:
    """The columns of a page on which each sign is set below the other, as lines of a turned page.

    From the right to the left, which is then from the top down; none where the page is not so.
    """
    columns: list[list[Line]] = []
    open_at: dict[int, list[Line]] = {}  # by the place of its left edge
    for line in sorted(lines, key=lambda x: x.top):
        place = round(line.left / 3)
        before = next((open_at[k] for k in (place, place - 1, place + 1) if k in open_at), None)
        if (
            before is not None
            and len(line.text) == 1
            and abs(line.size - before[-1].size) < 0.1 * line.size
            and -0.5 * line.size < line.top - before[-1].bottom < line.size
        ):
            before.append(line)
        else:
            columns.append([line])
            open_at[place] = columns[-1]
    stacked = sum(len(column) for column in columns if len(column) >= LEAST_STACKED)
    if stacked <= 0.6 * sum(len(line.text) for line in lines):
        return []
    turned = [
        Line(column[0].top, width - column[0].right, column[-1].bottom, width - column[0].left,
             column[0].size, clean("".join(line.text for line in column)), column[0].bold, 0)
        for column in columns
    ]  # fmt: skip
    turned.sort(key=lambda line: (line.top, line.left))
    for order, line in enumerate(turned):
        line.order = order
    return turned


def _may_hold_tables(lines: list[Line]) -> bool:
    """Do two lines hold several numbers, or do several stand beside others?"""
    beside, numeric, end = 0, 0, 0.0
    for line in sorted(lines, key=lambda x: x.top + x.bottom):
        beside += (line.top + line.bottom) / 2 < end
        numeric += len(NUMBER_LIKE.findall(line.text)) >= 3
        end = line.bottom - 0.25 * (line.bottom - line.top)
    return beside >= 2 or numeric >= 2


def clean(text: str) -> str:
    """Text without control signs and without the spaces that layout puts between wide signs."""
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f\ufffd\u200b\ufeff]", "", text).replace("\xa0", " ")
    number = ARTICLE.match(text)
    head, text = (f"{number[1]} ", text[number.end() :]) if number else ("", text)
    return head + SPACE_IN_HAN.sub("", re.sub(r"[ \t]+", " ", text)).strip()


def drop_furniture(pages: list[PageLines]) -> int:
    """Take headers, footers, page and line numbers and watermarks out of the pages.

    How many lines they were.
    """
    where: Counter[tuple[str, bool]] = Counter()
    for page in pages:
        where.update(
            {(blind(x.text), x.top < page.height / 2) for x in page.lines if page.at_edge(x)}
        )
    least = max(3, RECURS * len(pages))
    known = {key for key, count in where.items() if key[0] and count >= least}
    marks = _watermarks(pages)
    dropped = 0
    for page in pages:
        numbers = _line_numbers(page)
        kept = []
        for line in page.lines:
            key = (blind(line.text), line.top < page.height / 2)
            is_furniture = id(line) in numbers or _place(line) in marks
            if page.at_edge(line) and (key in known or _is_page_number(page, line)):
                is_furniture |= len(_beside(page, line)) < TABULAR
            if is_furniture:
                dropped += 1
            else:
                kept.append(line)
        page.lines = kept
    return dropped


def _beside(page: PageLines, line: Line) -> list[Line]:
    """The lines that stand on a line's base line, itself among them."""
    middle = (line.top + line.bottom) / 2
    return [x for x in page.lines if abs((x.top + x.bottom) / 2 - middle) < 3]


def _place(line: Line) -> tuple[str, int, int]:
    """What a line says, and where, to some points."""
    return line.text, round(line.left / 5), round(line.top / 5)


def _watermarks(pages: list[PageLines]) -> set[tuple[str, int, int]]:
    """Lines that recur at one place and that others run across: text under or over the text."""
    places: Counter[tuple[str, int, int]] = Counter()
    crossed: Counter[tuple[str, int, int]] = Counter()
    for page in pages:
        places.update({_place(line) for line in page.lines})
    least = max(3, 0.5 * len(pages))
    recurring = {place for place, count in places.items() if count >= least}
    for page in pages:
        for line in page.lines:
            if _place(line) in recurring:
                crossed[_place(line)] += any(
                    min(line.right, x.right) - max(line.left, x.left) > 0.2 * line.width
                    and min(line.bottom, x.bottom) - max(line.top, x.top)
                    > 0.3 * min(line.bottom - line.top, x.bottom - x.top)
                    for x in page.lines
                    if x is not line and x.text != line.text
                )
    return {place for place, count in crossed.items() if count >= 0.5 * places[place]}


def _line_numbers(page: PageLines) -> set[int]:
    """The ids of numbers that count the lines of a page in its left margin."""
    found = sorted((x for x in page.lines if x.text.isdecimal()), key=lambda x: x.top)
    rest = [x.left for x in page.lines if not x.text.isdecimal()]
    if len(found) < 8 or not rest:
        return set()
    found = [x for x in found if x.right <= min(rest) + 2 and len(x.text) <= 4]
    steps = {int(after.text) - int(line.text) for line, after in pairwise(found)}
    is_count = len(found) >= 8 and len(steps) == 1 and steps <= {1, 5}
    return {id(line) for line in found} if is_count else set()


def blind(text: str) -> str:
    """What a line says, digits and spaces aside."""
    return re.sub(r"\d+", "0", re.sub(r"[\s*_#|`>\\\-]+", "", text))


def _is_page_number(page: PageLines, line: Line) -> bool:
    """A number that stands alone at the very edge."""
    if not PAGE_NUMBER.fullmatch(line.text) or len(line.text) > 20:
        return False
    edge = min(line.top, page.height - line.bottom)
    return edge < 0.09 * page.height and len(_beside(page, line)) == 1
