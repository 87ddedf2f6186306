"""Tables on a page: which hold data, and their rows of cells with spans resolved."""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.extract.html_attributes import attributes
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Ints, Tape

T_TABLE, T_TR, T_TD, T_TH, T_THEAD = (
    TAG[name] for name in ["table", "tr", "td", "th", "thead"]
)
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


@njit(cache=True)
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


def table_rows(tape: Tape, node: int, render: Callable[[int, int], str]) -> list[list[str]]:
    """The rows of a table's cells; `render(first, last)` writes the inline text of nodes.

    A cell that spans stands once, at its top left; the places that it covers are empty. Columns
    and rows without text are left out, and columns that hold only a currency sign, a bracket or
    a percent sign are joined to the number that they belong to.
    """
    grid: list[dict[int, str]] = []
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
                    grid[row][column] = text
                for down in range(1, height):
                    for right in range(width):
                        taken[row + down, column + right] = True
            column += width
            at = int(tape.last[at]) + 1
            continue
        at += 1
    return _compact([cells for cells in grid if cells])


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


def _compact(grid: list[dict[int, str]]) -> list[list[str]]:
    _join_signs(grid)
    columns = sorted({column for cells in grid for column in cells})
    _join_sparse(grid, columns)
    columns = sorted({column for cells in grid for column in cells})
    return [[cells.get(column, "") for column in columns] for cells in grid]


def _join_signs(grid: list[dict[int, str]]) -> None:
    """Put `$`, `(`, `)`, `%` that have a cell of their own into their number's."""
    for cells in grid:
        order = sorted(cells)
        for position, column in enumerate(order):
            text = cells.get(column)
            if text is None:
                continue
            if MERGED_BEFORE.fullmatch(text) and position + 1 < len(order):
                following = cells[order[position + 1]]
                if re.match(r"[\d(.,$\-–—]", following):
                    cells[order[position + 1]] = text + following
                    del cells[column]
            elif MERGED_AFTER.fullmatch(text) and position:
                before = order[position - 1]
                if before in cells and re.search(r"[\d)—–-]$", cells[before]):
                    cells[before] += text
                    del cells[column]


def _join_sparse(grid: list[dict[int, str]], columns: list[int]) -> None:
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
