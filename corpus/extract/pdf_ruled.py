"""Tables between ruling lines: the words in the cells of a grid."""

import re

from corpus.extract.pdf_paragraphs import join_lines
from corpus.extract.pdf_rows import Table, TableRow, TableWord, spaced, text_rows
from corpus.extract.pdf_rules import Grid


def is_inside(word: TableWord, grid: Grid) -> bool:
    across = (word.left + word.right) / 2
    return (
        grid.columns[0] < across < grid.columns[-1] and grid.rows[0] < word.middle < grid.rows[-1]
    )


def ruled_table(grid: Grid, words: list[TableWord]) -> Table | None:
    """The table whose words stand in the cells of a grid; None where it does not look like one."""
    height, width = len(grid.rows) - 1, len(grid.columns) - 1
    cells: dict[tuple[int, int], list[TableWord]] = {}
    for word in words:
        i = _interval(grid.rows, word.middle)
        j = _interval(grid.columns, (word.left + word.right) / 2)
        cells.setdefault(grid.cell[i][j], []).append(word)
    for place, found in list(cells.items()):
        if (parted := _parted(grid, found)) is not None:
            del cells[place]
            for j, part in parted.items():
                cells[place[0], j] = part
                grid.cell[place[0]][j] = (place[0], j)
    if len(cells) < 4 or len({j for _, j in cells}) < 2 or len({i for i, _ in cells}) < 2:
        return None
    lines = {id(word.line): word.line for word in words}
    texts = {place: text_rows(found, apart=1.2) for place, found in cells.items()}
    apart = sum(len(row.texts) > 1 for rows in texts.values() for row in rows)
    if apart > 0.25 * sum(map(len, texts.values())):
        return None  # the lines do not part the columns
    if max(sum(len(word.text) for word in found) for found in cells.values()) > 0.6 * sum(
        len(word.text) for word in words
    ):
        return None  # a box of text
    rows: list[list[str]] = []
    for i in range(height):
        heads = [j for j in range(width) if grid.cell[i][j] == (i, j) and (i, j) in texts]
        spanned = {j for j in heads if i + 1 < height and grid.cell[i + 1][j] == (i, j)}
        band = {j: texts[i, j] for j in heads}
        rows.extend(_band(band, spanned, width))
    rows = [row for row in rows if any(row)]
    kept = [j for j in range(width) if any(row[j] for row in rows)]
    rows = [[row[j] for j in kept] for row in rows]
    if len(rows) < 2 or len(kept) < 2:
        return None
    return Table(list(lines.values()), rows)


def _parted(grid: Grid, words: list[TableWord]) -> dict[int, list[TableWord]] | None:
    """The words by column where they keep to the columns although no line parts them here."""
    found: dict[int, list[TableWord]] = {}
    is_parted = False
    for row in text_rows(words, apart=0.6):
        columns = [
            {_interval(grid.columns, side) for side in (text.left + 1, text.right - 1)}
            for text in row.texts
        ]
        if any(len(both) > 1 for both in columns):
            return None
        is_parted |= len({min(both) for both in columns}) > 1
        for both, text in zip(columns, row.texts, strict=True):
            found.setdefault(min(both), []).extend(text.words)
    return found if is_parted else None


def _band(cells: dict[int, list[TableRow]], spanned: set[int], width: int) -> list[list[str]]:
    """The rows between two lines: one, or several where numbers stand on several base lines."""
    own = [j for j in cells if j not in spanned]
    first = min(own, default=0)
    rest = [j for j in own if j != first]
    middles: list[float] = []
    for j in rest:
        column = [(row.top + row.bottom) / 2 for row in cells[j]]
        short = all(
            len(row.texts[0].text) <= 12 and re.search(r"\d|^[-–—]$", row.texts[0].text)
            for row in cells[j]
        )
        if short and len(column) > max(1, len(middles)):
            middles = column
    aligned = {j: _is_aligned(cells[j], middles) for j in own}
    if len(own) < 2 or sum(aligned[j] for j in rest) < 0.6 * len(rest):
        middles = []
    if middles and len(cells[first]) >= len(middles):
        labels = [(row.top + row.bottom) / 2 for row in cells[first]]
        if all(any(abs(y - x) < 3 for x in labels) for y in middles):
            middles, aligned[first] = labels, True
    rows = [[""] * width for _ in range(max(1, len(middles)))]
    for j, found in cells.items():
        parts: list[list[str]] = [[] for _ in rows]
        for row in found:
            middle = (row.top + row.bottom) / 2
            at = 0
            if middles and aligned.get(j):
                at = min(range(len(middles)), key=lambda k: abs(middles[k] - middle))
            parts[at].append(spaced([text.text for text in row.texts]))
        for row_cells, part in zip(rows, parts, strict=True):
            row_cells[j] = join_lines(part)
    return rows


def _is_aligned(rows: list[TableRow], middles: list[float]) -> bool:
    """Do all rows stand on the base lines?"""
    return all(any(abs((row.top + row.bottom) / 2 - y) < 3 for y in middles) for row in rows)


def _interval(borders: list[float], place: float) -> int:
    return max(0, min(len(borders) - 2, sum(place >= border for border in borders) - 1))
