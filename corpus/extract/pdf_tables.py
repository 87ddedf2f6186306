"""Tables on a page: where ruling lines or columns of white may make one, or the model says so."""

from collections.abc import Sequence

import pymupdf

from corpus.extract.pdf_lines import NUMBER_LIKE, Line, PageLines
from corpus.extract.pdf_neural import Region
from corpus.extract.pdf_paragraphs import prose
from corpus.extract.pdf_rows import NUMBER, Table, TableRow, TableWord, text_rows
from corpus.extract.pdf_ruled import is_inside, ruled_table
from corpus.extract.pdf_rules import find_grids, read_rules
from corpus.extract.pdf_unruled import regions_of, unruled_table


def find_tables(
    source: pymupdf.Page, page: PageLines, boxes: Sequence[Region] | None = None
) -> list[Table]:
    """The tables among the lines of a page, or in the boxes where somebody else has found them."""
    lines = page.lines
    if not page.words:
        return []
    if boxes is not None:
        return _in_boxes(source, page, boxes)
    running = prose(lines) - _labels(lines)
    loose = [line for line in lines if id(line) not in running]
    numeric = sum(len(NUMBER_LIKE.findall(line.text)) >= 3 for line in loose)
    if numeric < 2 and sum(len(row) >= 2 for row in _base_lines(loose)) < 2:
        return []
    across, upright = read_rules(source, page.matrix)
    words = _words(page)
    tables: list[Table] = []
    used: set[int] = set()
    for grid in find_grids(across, upright):
        inside = [word for word in words if is_inside(word, grid)]
        table = ruled_table(grid, inside)
        if table is not None and not any(id(line) in used for line in table.lines):
            tables.append(table)
            used.update(id(line) for line in table.lines)
    free = [word for word in words if id(word.line) not in used and id(word.line) not in running]
    gutter = _gutter([line for line in lines if id(line) in running], page.width)
    for region in (
        region for rows in _apart(text_rows(free), gutter) for region in regions_of(rows)
    ):
        table = unruled_table(region, across)
        if table is not None:
            tables.append(table)
    return tables


def _in_boxes(source: pymupdf.Page, page: PageLines, boxes: Sequence[Region]) -> list[Table]:
    """The tables in boxes that surely hold one each."""
    if not boxes:
        return []
    across, upright = read_rules(source, page.matrix)
    grids = find_grids(across, upright)
    words = _words(page)
    tables: list[Table] = []
    used: set[int] = set()
    for box in boxes:
        held = {id(line) for line in page.lines if box.holds(line) and id(line) not in used}
        own = [word for word in words if id(word.line) in held]
        table = None
        for grid in grids:
            inside = [word for word in own if is_inside(word, grid)]
            if len(inside) > 0.6 * len(own):
                table = ruled_table(grid, inside)
                break
        if table is None:
            table = unruled_table(text_rows(own), across, is_sure=True)
        if table is not None:
            tables.append(table)
            used |= {id(line) for line in table.lines}
    return tables


def _gutter(running: list[Line], width: float) -> tuple[float, float] | None:
    """Where the white between two columns of running text begins and ends; None for one column."""
    middle = width / 2
    left = [line.right for line in running if line.right < middle + 6]
    right = [line.left for line in running if line.left > middle - 6]
    return (max(left), min(right)) if min(len(left), len(right)) >= 3 else None


def _apart(rows: list[TableRow], gutter: tuple[float, float] | None) -> list[list[TableRow]]:
    """Rows that lie close together; by column where no text reaches from one into the other."""
    bands: list[list[TableRow]] = []
    for row in rows:
        far = bool(bands) and row.top - bands[-1][-1].bottom > 2.2 * row.height
        if not bands or (far and gutter is not None):
            bands.append([])
        bands[-1].append(row)
    if gutter is None:
        return bands
    parts: list[list[TableRow]] = []
    for band in bands:
        texts = [text for row in band for text in row.texts]
        if any(text.left < gutter[0] - 2 and text.right > gutter[1] + 2 for text in texts):
            parts.append(band)
        else:
            middle = (gutter[0] + gutter[1]) / 2
            words = [word for text in texts for word in text.words]
            parts.append(text_rows([word for word in words if word.left < middle]))
            parts.append(text_rows([word for word in words if word.left >= middle]))
    return parts


def _labels(lines: list[Line]) -> set[int]:
    """The ids of the lines that have a number right beside them: labels, long as they may be."""
    found: set[int] = set()
    for row in _base_lines(lines):
        row.sort(key=lambda x: x.left)
        numbers = [x for x in row if NUMBER.fullmatch(x.text)]
        found |= {
            id(line)
            for line in row
            if any(0 < x.left - line.right < 12 * line.size for x in numbers)
        }
    return found


def _base_lines(lines: list[Line]) -> list[list[Line]]:
    rows: list[list[Line]] = []
    end = 0.0
    for line in sorted(lines, key=lambda x: x.top + x.bottom):
        if rows and (line.top + line.bottom) / 2 < end:
            rows[-1].append(line)
        else:
            rows.append([line])
        end = line.bottom - 0.25 * (line.bottom - line.top)
    return rows


def _words(page: PageLines) -> list[TableWord]:
    """The words of the page's lines, in the page's order."""
    by_key = {line.key: line for line in page.lines}
    found: list[TableWord] = []
    for x0, y0, x1, y1, text, block, line_number, _ in page.words:
        line = by_key.get((block, line_number))
        if line is not None and text.strip("\x00\ufffd\u200b\ufeff\xa0"):
            found.append(TableWord(x0, y0, x1, y1, text, line.size, line))
    return found
