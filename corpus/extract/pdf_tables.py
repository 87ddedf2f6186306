"""Tables on a page: rows of short texts that stand in the same columns, ruled or not.

The rows come from base lines, the columns from where the texts of the fullest rows stand; ruling
lines, where a page has them, say where rows end, so that cells of several lines become one.
"""

import re
from dataclasses import dataclass

import pymupdf

from corpus.extract.pdf_lines import Line
from corpus.extract.pdf_paragraphs import join_lines, prose

MIN_ROWS = 3
"""Fewer rows are a table only between ruling lines."""
PROSE = 34
"""Characters: where the texts of a would-be table are longer on average, it is columns of prose."""
NUMBER = re.compile(r"[\d.,%()\-–—+±$€£¥/:*\sA-Za-z]{0,4}\d[\d.,%()\-–—+±$€£¥/:*\s]*|[-–—]|N/?A")


@dataclass(slots=True)
class Table:
    """A table: its lines, and rows of cells."""

    lines: list[Line]
    rows: list[list[str]]


@dataclass(slots=True)
class _Row:
    top: float
    bottom: float
    cells: list[Line]


def find_tables(page: pymupdf.Page, lines: list[Line]) -> list[Table]:
    """The tables among the lines of a page."""
    running = prose(lines)
    rows = _rows([line for line in lines if id(line) not in running])
    if sum(len(row.cells) >= 2 for row in rows) < 2:
        return []
    rules = _horizontal_rules(page)
    return [table for region in _regions(rows) if (table := _table(region, rules)) is not None]


def _rows(lines: list[Line]) -> list[_Row]:
    """Lines that share a base line, from top to bottom."""
    rows: list[_Row] = []
    for line in sorted(lines, key=lambda x: ((x.top + x.bottom) / 2, x.left)):
        middle = (line.top + line.bottom) / 2
        if rows and middle < rows[-1].bottom - 0.25 * (rows[-1].bottom - rows[-1].top):
            row = rows[-1]
            row.cells.append(line)
            row.top, row.bottom = min(row.top, line.top), max(row.bottom, line.bottom)
        else:
            rows.append(_Row(line.top, line.bottom, [line]))
    for row in rows:
        row.cells.sort(key=lambda x: x.left)
    return rows


def _regions(rows: list[_Row]) -> list[list[_Row]]:
    """Runs of rows with several texts each; a single text between two of them belongs to them."""
    regions: list[list[_Row]] = []
    run: list[_Row] = []
    waiting: list[_Row] = []
    for row in rows:
        height = row.bottom - row.top
        far = bool(run) and row.top - (waiting or run)[-1].bottom > 2.2 * height
        if len(row.cells) >= 2:
            if far or len(waiting) > 2:
                regions.append(run)
                run, waiting = [], []
            run.extend(waiting)
            waiting = []
            run.append(row)
        elif run and not far and len(row.cells[0].text) < 90:
            waiting.append(row)
        elif run:
            regions.append(run)
            run, waiting = [], []
    regions.append(run)
    return [r for r in regions if sum(len(row.cells) >= 2 for row in r) >= 2]


def _table(region: list[_Row], rules: list[tuple[float, float, float]]) -> Table | None:
    full = [row for row in region if len(row.cells) >= 2]
    texts = [cell.text for row in full for cell in row.cells]
    is_boxed = _is_boxed(region, rules)
    if len(full) < MIN_ROWS and not is_boxed:
        return None
    numbers = sum(NUMBER.fullmatch(text) is not None for text in texts) / len(texts)
    length = sum(map(len, texts)) / len(texts)
    if length > PROSE * (1 + numbers) or (numbers < 0.15 and length > 22):
        return None
    columns = _columns(full)
    if len(columns) < 2 or (len(columns) == 2 and numbers < 0.25 and not is_boxed):
        return None
    grid: list[list[list[Line]]] = []
    for row in region:
        cells: list[list[Line]] = [[] for _ in columns]
        for cell in row.cells:
            cells[_column(cell, columns)].append(cell)
        grid.append(cells)
    merged = _merge_rows(region, grid, rules)
    rows = [[join_lines([x.text for x in cell]) for cell in cells] for cells in merged]
    filled = sum(bool(text) for row in rows for text in row)
    if len(rows) < 2 or filled < 0.35 * len(rows) * len(columns):
        return None
    return Table([cell for row in region for cell in row.cells], rows)


def _is_boxed(region: list[_Row], rules: list[tuple[float, float, float]]) -> bool:
    """Do three ruling lines or more run along the rows?"""
    left = min(cell.left for row in region for cell in row.cells)
    right = max(cell.right for row in region for cell in row.cells)
    height = region[0].bottom - region[0].top
    along = {
        round(y / 3)
        for y, start, end in rules
        if min(end, right) - max(start, left) > 0.6 * (right - left)
        and region[0].top - height < y < region[-1].bottom + height
    }
    return len(along) >= 3


def _columns(rows: list[_Row]) -> list[tuple[float, float]]:
    """The columns' extents: texts of the fuller rows, joined where they overlap."""
    most = sorted(len(row.cells) for row in rows)[-max(1, len(rows) // 3)]
    spans = sorted(
        (cell.left, cell.right)
        for row in rows
        if len(row.cells) >= max(2, 0.6 * most)
        for cell in row.cells
    )
    columns: list[list[float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1] - 0.5:
            columns[-1][1] = max(columns[-1][1], right)
        else:
            columns.append([left, right])
    return [(left, right) for left, right in columns]


def _column(cell: Line, columns: list[tuple[float, float]]) -> int:
    """The column that a text overlaps most, or is nearest to."""
    return max(
        range(len(columns)),
        key=lambda k: (
            min(cell.right, columns[k][1]) - max(cell.left, columns[k][0]),
            -abs(cell.left - columns[k][0]),
        ),
    )


def _merge_rows(
    region: list[_Row], grid: list[list[list[Line]]], rules: list[tuple[float, float, float]]
) -> list[list[list[Line]]]:
    """Join the rows that are lines of the same cells."""
    left = min(cell.left for row in region for cell in row.cells)
    right = max(cell.right for row in region for cell in row.cells)
    wide = [
        y
        for y, start, end in rules
        if min(end, right) - max(start, left) > 0.6 * (right - left)
        and region[0].top < y < region[-1].bottom
    ]
    is_ruled = len(wide) >= max(3, 0.4 * len(region))
    merged: list[list[list[Line]]] = []
    above: _Row | None = None
    for row, cells in zip(region, grid, strict=True):
        join = False
        if above is not None and merged:
            middle = (row.top + row.bottom) / 2
            if is_ruled:
                join = not any((above.top + above.bottom) / 2 < y < middle for y in wide)
            else:
                count = sum(bool(cell) for cell in cells)
                before = sum(bool(cell) for cell in merged[-1])
                close = row.top - above.bottom < 0.35 * (row.bottom - row.top)
                starts_low = not cells[0] and count < before and count <= 0.5 * len(cells)
                has_numbers = any(NUMBER.fullmatch(line.text) for cell in cells for line in cell)
                join = close and starts_low and not has_numbers
        if join:
            for target, cell in zip(merged[-1], cells, strict=True):
                target.extend(cell)
        else:
            merged.append([list(cell) for cell in cells])
        above = row
    return merged


def _horizontal_rules(page: pymupdf.Page) -> list[tuple[float, float, float]]:
    """(y, left, right) of drawn horizontal lines and the edges of boxes."""
    found: list[tuple[float, float, float]] = []
    for path in page.get_cdrawings():
        for item in path["items"]:
            if item[0] == "l":
                (x0, y0), (x1, y1) = item[1], item[2]
                if abs(y0 - y1) < 1 and abs(x1 - x0) > 10:
                    found.append((y0, min(x0, x1), max(x0, x1)))
            elif item[0] == "re":
                x0, y0, x1, y1 = item[1][:4]
                if abs(x1 - x0) > 10:
                    found.append((min(y0, y1), min(x0, x1), max(x0, x1)))
                    if abs(y1 - y0) > 3:
                        found.append((max(y0, y1), min(x0, x1), max(x0, x1)))
        if len(found) > 5000:
            break
    return found
