"""Tables on a page: which hold data, and their rows of cells with spans resolved."""

import html
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import attributes
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Ints, Tape
from corpus.jit import kernel

T_TABLE, T_TR, T_TD, T_TH, T_THEAD = (TAG[name] for name in ["table", "tr", "td", "th", "thead"])
MAX_COLUMNS = 400
MAX_SPAN_COLUMNS = 100
MAX_SPAN_ROWS = 2000
LONG_CELL = 150
"""Tokens: a table with a longer cell than this and no header cells lays a page out."""

MERGED_BEFORE = re.compile(r"[-–—]?[$€£¥￥(+]+|\(\s*[$€£¥]|[A-Z]{2,3}\$|RMB|US\$|HK\$")
"""Not a dash by itself, which stands for nothing, as a zero does."""
MERGED_AFTER = re.compile(r"[)%‰]+|\)\s*%|%\s*\)|pts?|bps")


def data_tables(tape: Tape, first: Ints, tokens: Ints) -> npt.NDArray[np.bool_]:
    """Which nodes are tables that hold data; `first` and `tokens` are those of the blocks."""
    if not np.any(tape.tag == T_TABLE):
        return np.zeros(len(tape.tag), np.bool_)
    return _data_tables(tape.tag, tape.parent, tape.last, first, tokens)


@kernel
def _data_tables(tag, parent, last, first, tokens):  # type: ignore[no-untyped-def]
    nodes = len(tag)
    text = np.zeros(nodes + 1)
    for k in range(len(first)):
        text[first[k] + 1] += max(1, tokens[k])  # a lone sign fills a cell too
    for node in range(nodes):
        text[node + 1] += text[node]
    table = np.zeros(nodes, np.int32)
    rows = np.zeros(nodes, np.int32)
    filled = np.zeros(nodes, np.int32)
    heads = np.zeros(nodes, np.int32)
    longest = np.zeros(nodes)
    wide = np.zeros(nodes, np.int32)  # rows with two filled cells or more
    in_row = np.zeros(nodes, np.int32)
    row_of = np.zeros(nodes, np.int32)
    nested = np.zeros(nodes, np.bool_)
    has_thead = np.zeros(nodes, np.bool_)
    for node in range(1, nodes):
        up = parent[node]
        table[node] = up if tag[up] == T_TABLE else table[up]
        row_of[node] = up if tag[up] == T_TR else row_of[up]
        own = table[node]
        has_thead[own] |= tag[node] == T_THEAD
        if tag[node] == T_TABLE:
            row_of[node] = 0
            if own and text[last[node] + 1] - text[node] > 0:
                nested[own] = True
        elif own and tag[node] == T_TR:
            rows[own] += 1
        elif own and (tag[node] == T_TD or tag[node] == T_TH):
            size = text[last[node] + 1] - text[node]
            heads[own] += tag[node] == T_TH
            longest[own] = max(longest[own], size)
            if size > 0:
                filled[own] += 1
                row = row_of[node]
                in_row[row] += 1
                if in_row[row] == 2:
                    wide[own] += 1
    found = np.zeros(nodes, np.bool_)
    for node in range(1, nodes):
        if tag[node] == T_TABLE and not nested[node]:
            is_short = longest[node] <= LONG_CELL or heads[node] >= 2
            is_wide = wide[node] >= 2 and filled[node] >= 4
            has_head = has_thead[node] and heads[node] >= 1 and filled[node] >= 2
            found[node] = rows[node] >= 2 and (is_wide or has_head) and is_short
    return found


@dataclass
class Cell:
    """A cell at its top left place; the places that it also covers hold nothing."""

    text: str
    end: int
    """The first column after it."""
    height: int
    """In rows."""
    is_head: bool


Row = dict[int, Cell]
"""Cells by their column."""


def table_cells(tape: Tape, node: int, render: Callable[[int, int], str]) -> list[Row]:
    """The rows of a table that hold text; `render(first, last)` writes the inline text of nodes.

    Columns that hold only a currency sign, a bracket or a percent sign are joined to the number
    that they belong to, and columns that are one but for spans and spacers to one.
    """
    grid: list[Row] = []
    taken: dict[tuple[int, int], bool] = {}
    row = column = -1
    stop = int(tape.last[node])
    at = node + 1
    while at <= stop:
        number = tape.tag[at]
        if number == T_TABLE:
            at = int(tape.last[at]) + 1
            continue
        if number == T_TR:
            grid.append({})
            row, column = len(grid) - 1, 0
        elif number in (T_TD, T_TH):
            if row < 0:
                grid.append({})
                row, column = 0, 0
            while taken.pop((row, column), False):
                column += 1
            width = height = 1
            if tape.end[at] - tape.start[at] > 8:
                has = attributes(tape, at)
                width = _span(has.get("colspan"), MAX_SPAN_COLUMNS)
                height = _span(has.get("rowspan"), MAX_SPAN_ROWS)
            if column < MAX_COLUMNS:
                text = render(at + 1, int(tape.last[at]))
                if text:
                    grid[row][column] = Cell(text, column + width, height, number == T_TH)
                for down in range(1, height):
                    for right in range(width):
                        taken[row + down, column + right] = True
            column += width
            at = int(tape.last[at]) + 1
            continue
        at += 1
    _count_kept_rows(grid)
    grid = [cells for cells in grid if cells]
    _join_signs(grid)
    _join_sparse(grid, sorted({column for cells in grid for column in cells}))
    return grid


def table_rows(grid: list[Row]) -> list[list[str]]:
    """The cells' texts, the places that a cell spans left empty."""
    columns = sorted({column for cells in grid for column in cells})
    texts = [{column: cell.text for column, cell in cells.items()} for cells in grid]
    return [[row.get(column, "") for column in columns] for row in texts]


def is_irregular(grid: list[Row]) -> bool:
    """Does a cell span others, which Markdown cannot say? A title over all columns may."""
    columns = sorted({column for cells in grid for column in cells})
    return any(
        cell.height > 1 or 1 < _width(cell, column, columns) < len(columns)
        for cells in grid
        for column, cell in cells.items()
    )


def html_table(grid: list[Row]) -> str:
    """The table as plain HTML, a line for each row, with its spans."""
    columns = sorted({column for cells in grid for column in cells})
    lines = ["<table>"]
    covered: dict[tuple[int, int], bool] = {}
    for number, cells in enumerate(grid):
        pieces = []
        for column in columns:
            cell = cells.get(column)
            if cell is None:
                if not covered.get((number, column)):
                    pieces.append("<td></td>")
                continue
            width = _width(cell, column, columns)
            tag = "th" if cell.is_head else "td"
            spans = f' rowspan="{cell.height}"' if cell.height > 1 else ""
            spans += f' colspan="{width}"' if width > 1 else ""
            text = html.escape(cell.text.replace(r"\|", "|"), quote=False)
            pieces.append(f"<{tag}{spans}>{text}</{tag}>")
            first = columns.index(column)
            for right in columns[first : first + width]:
                for down in range(cell.height):
                    covered[number + down, right] = True
        lines.append(f"<tr>{''.join(pieces)}</tr>")
    return "\n".join([*lines, "</table>"])


def has_head(tape: Tape, node: int) -> bool:
    """Does the table say which of its rows are its head?"""
    return bool(np.any(tape.tag[node : tape.last[node] + 1] == T_THEAD))


def markdown_table(rows: list[list[str]]) -> str:
    """GitHub's table: the first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def _span(value: str | None, most: int) -> int:
    found = re.match(r"\s*(\d{1,9})", value or "")
    return max(1, min(most, int(found[1]))) if found else 1


def _width(cell: Cell, column: int, columns: list[int]) -> int:
    """How many of the kept columns a cell covers."""
    return bisect_left(columns, cell.end) - bisect_left(columns, column)


def _count_kept_rows(grid: list[Row]) -> None:
    """Leave rows without text, which are not kept, out of the cells' heights."""
    kept = [0]
    for cells in grid:
        kept.append(kept[-1] + bool(cells))
    for number, cells in enumerate(grid):
        for cell in cells.values():
            if cell.height > 1:
                cell.height = kept[min(number + cell.height, len(grid))] - kept[number]


def _join_signs(grid: list[Row]) -> None:
    """Put `$`, `(`, `)`, `%` that have a cell of their own into their number's."""
    for cells in grid:
        order = sorted(cells)
        for position, column in enumerate(order):
            cell = cells.get(column)
            if cell is None:
                continue
            if MERGED_BEFORE.fullmatch(cell.text) and position + 1 < len(order):
                following = cells[order[position + 1]]
                if re.match(r"[\d(.,$\-–—]", following.text):
                    following.text = cell.text + following.text
                    del cells[column]
            elif MERGED_AFTER.fullmatch(cell.text) and position:
                before = cells.get(order[position - 1])
                if before and re.search(r"[\d)—–-]$", before.text):
                    before.text += cell.text
                    del cells[column]


def _join_sparse(grid: list[Row], columns: list[int]) -> None:
    """Join neighbouring columns that are never filled in the same row: one column, laid out as
    two by spans and spacers."""
    kept: list[int] = []
    for column in columns:
        if kept:
            left = kept[-1]
            both = any(left in cells and column in cells for cells in grid)
            if not both:
                for cells in grid:
                    if column in cells:
                        cells[left] = cells.pop(column)
                continue
        kept.append(column)
