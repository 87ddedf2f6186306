"""A document's pages put together: what a page's end cuts is made whole, footnotes out of the way.

A paragraph or a table that goes on overleaf becomes one; footnotes, which stand between its halves,
are moved behind it.
"""

import re

from corpus.extract.html_tables import markdown_table
from corpus.extract.pdf_paragraphs import FINAL, Block, join_lines
from corpus.extract.pdf_rows import NUMBER

NOTE_SIZE = 0.93
"""Footnotes are set smaller than this share of the text's size,"""
NOTES_BEGIN = 0.55
"""below this share of the page's height,"""
NOTE = re.compile(r"(?:\d{1,3}|[*†‡§¶]{1,2}|[①-⑳]|\[\d{1,3}\]|注\s*\d{0,2}\s*[:：])\s*[^\W\d_]")
"""and begin with a mark."""
CONTINUED = re.compile(r"(?:#+ )?(?:续表|續表)|.*(?:[(（]\s*(?:续|續|cont)|[—-]\s*continued)", re.I)
"""The caption of a table that goes on."""
STARTS_WITHIN = re.compile(r"[a-z\ufb00-\ufb06\u3400-\u9fff，、]")


def joined(pages: list[list[Block]], heights: list[float], body_size: float) -> list[Block]:
    """All blocks in reading order; `heights` are the pages', `body_size` the text's, in points."""
    blocks: list[Block] = []
    waiting: list[Block] = []  # the footnotes of the pages before
    is_full = False  # did the text of the page before reach down?
    for page, height in zip(pages, heights, strict=True):
        notes = _notes(page, height, body_size)
        main = [block for block in page if not any(block is note for note in notes)]
        last = blocks[-1] if blocks else None
        if last is not None and last.rows and len(main) > 1 and CONTINUED.match(main[0].text):
            main = main[1:] if _is_rest_of_table(last, main[1], near=True) else main
        if last is not None and main:
            first = main[0]
            if _is_rest_of_paragraph(last, first):
                last.text = join_lines([last.text, first.text])
                main = main[1:]
            elif _is_rest_of_table(last, first, near=is_full and first.top < 0.25 * height):
                _add_rows(last, first)
                is_full = first.bottom > 0.6 * height
                main = main[1:]
        if main:
            blocks += [*waiting, *main]
            waiting = []
            is_full = main[-1].bottom > 0.6 * height
        waiting += notes
    for block in blocks:
        if block.rows:
            block.text = table_text(block.rows)
    return blocks + waiting


def _is_rest_of_paragraph(before: Block, block: Block) -> bool:
    return (
        before.kind == block.kind == "p"
        and abs(before.size - block.size) < 0.1 * block.size
        and len(before.text) > 40
        and not FINAL.search(before.text)
        and STARTS_WITHIN.match(block.text) is not None
    )


def _notes(page: list[Block], height: float, body_size: float) -> list[Block]:
    """The footnotes of a page: small blocks with a mark below the text of their column."""
    found: list[Block] = []
    for place, block in enumerate(page):
        is_small = block.kind == "p" and block.size < NOTE_SIZE * body_size
        if not is_small or block.top < NOTES_BEGIN * height:
            continue
        goes_on = bool(found) and page[place - 1] is found[-1]
        before = page[place - 1] if place else None
        if not goes_on and (not NOTE.match(block.text) or (before and before.kind == "h")):
            continue
        lower = [
            other
            for other in page
            if other is not block
            and other.top > block.top
            and other.left < block.right
            and other.right > block.left
            and not (other.kind == "p" and other.size < NOTE_SIZE * body_size)
        ]
        if not lower:
            found.append(block)
    is_set_small = any(
        block.kind == "p"
        and block.size < NOTE_SIZE * body_size
        and block.top < NOTES_BEGIN * height
        and len(block.text) > 200
        for block in page
    )
    # Where whole pages are set small, as lists of references are, these are no footnotes.
    return [] if is_set_small else found


def _is_rest_of_table(before: Block, block: Block, near: bool) -> bool:
    """Does a table go on with this one? `near`: from the foot of a page to the head of the next."""
    if before.rows is None or block.rows is None:
        return False
    width = before.right - before.left
    if len(before.rows[0]) != len(block.rows[0]) or not near:
        return False
    if max(abs(before.left - block.left), abs(before.right - block.right)) > 0.12 * width:
        return False
    if _same(before.rows[0], block.rows[0]):
        return True
    body = before.rows[1:]
    for column, cell in enumerate(block.rows[0]):
        cells = [row[column] for row in body if row[column]]
        numeric = sum(NUMBER.fullmatch(x) is not None for x in cells) > 0.7 * max(1, len(cells))
        if column and cells and numeric and cell and not NUMBER.fullmatch(cell):
            return False  # a head of its own
    return True


def _add_rows(before: Block, block: Block) -> None:
    """Put a table's rows to those of the table that it goes on with, repeated heads aside."""
    assert before.rows is not None
    assert block.rows is not None
    repeated = 0
    while (
        repeated < min(3, len(before.rows), len(block.rows))
        and _same(before.rows[repeated], block.rows[repeated])
    ):  # fmt: skip
        repeated += 1
    before.rows += block.rows[repeated:]
    before.bottom = block.bottom


def _same(one: list[str], other: list[str]) -> bool:
    return ["".join(cell.split()) for cell in one] == ["".join(cell.split()) for cell in other]


def table_text(rows: list[list[str]]) -> str:
    """Rows of cells as a Markdown table."""
    return markdown_table([[cell.replace("|", r"\|") for cell in row] for row in rows])
