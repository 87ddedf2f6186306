"""Tables without a grid: rows of short texts in columns that white runs down between.

Columns come from the fullest rows; ruling lines, where there are any, say where rows end, so that
cells of several lines become one.
"""

import re
from bisect import bisect
from itertools import pairwise

from corpus.extract.pdf_paragraphs import join_lines
from corpus.extract.pdf_rows import NUMBER, Table, TableRow, TableText, TableWord, spaced
from corpus.extract.pdf_rules import Rule

MIN_ROWS = 3
"""Fewer rows are a table only between ruling lines."""
PROSE = 34
"""Characters: where the texts of a would-be table are longer on average, it is columns of prose."""
CAPTION = re.compile(
    r"(?:Table|Exhibit|Figure|Fig\.|Chart|Box|Annex|TABLE|EXHIBIT|FIGURE)\s*[A-Z]?\.?\d|[表图圖]\s*\d"
)
NOTE = re.compile(
    r"(?:Sources?|Notes?|SOURCE|NOTES?)\b|(?:资料来源|数据来源|資料來源|来源|注)[:：]"
)
UNFINISHED = re.compile(r"[,\-–—/&(]$|\b(?:and|or|of|the|in|for|to|with|by|from|on|at)$")


def regions_of(rows: list[TableRow]) -> list[list[TableRow]]:
    """Runs of rows with several texts each; a single text between two of them belongs to them."""
    regions: list[list[TableRow]] = []
    run: list[TableRow] = []
    waiting: list[TableRow] = []
    for row in rows:
        far = bool(run) and row.top - (waiting or run)[-1].bottom > 2.2 * row.height
        if len(row.texts) >= 2:
            if far or len(waiting) > 3:
                regions.append(run)
                run, waiting = [], []
            run.extend(waiting)
            waiting = []
            run.append(row)
        elif run and not far and len(row.texts[0].text) < 90:
            waiting.append(row)
        elif run:
            regions.append(run)
            run, waiting = [], []
    # What follows the last full row may be the last line of its first cell.
    if run and waiting and _goes_on(run[-1], waiting[0]):
        run.append(waiting[0])
    regions.append(run)
    return [r for r in regions if sum(len(row.texts) >= 2 for row in r) >= 2]


def unruled_table(
    region: list[TableRow], across: list[Rule], is_sure: bool = False
) -> Table | None:
    region = _trimmed(region)
    full = [row for row in region if len(row.texts) >= 2]
    if len(full) < 2:
        return None
    texts = [text.text for row in full for text in row.texts]
    is_boxed = _is_boxed(region, across)
    columns = _columns(region)
    if is_sure:
        grid = [_cells(row, columns) for row in region]
        return _table(region, grid, across, least=0.2) if len(columns) > 1 else None
    is_small = len(full) < MIN_ROWS
    if is_small and not (is_boxed and any(map(str.isalpha, "".join(texts[: len(texts) // 2])))):
        return None
    numbers = sum(NUMBER.fullmatch(text) is not None for text in texts) / len(texts)
    length = sum(map(len, texts)) / len(texts)
    if is_small and numbers < 0.15:
        return None
    if length > PROSE * (1 + numbers) or (numbers < 0.15 and (length > 22 or not is_boxed)):
        return None
    if len(columns) < 2 or (len(columns) == 2 and numbers < 0.25 and not is_boxed):
        return None
    grid = [_cells(row, columns) for row in region]
    if _is_chart(grid):
        return None
    return _table(region, grid, across, least=0.8 if is_small else 0.35)


def _table(
    region: list[TableRow], grid: list[list[list[TableText]]], across: list[Rule], least: float
) -> Table | None:
    """The rows in their columns; None where less than `least` of the cells are filled."""
    rows = _merge_rows(region, grid, _wide(region, across))
    filled = sum(bool(text) for row in rows for text in row)
    if len(rows) < 2 or filled < least * len(rows) * len(rows[0]):
        return None
    lines = {id(word.line): word.line for row in region for x in row.texts for word in x.words}
    return Table(list(lines.values()), rows)


def _trimmed(region: list[TableRow]) -> list[TableRow]:
    """Without the title above the table and the notes below it."""
    if not region:
        return region
    first = min(text.left for row in region for text in row.texts)
    start, end = 0, len(region)
    for place, row in enumerate(region[: end - 2]):
        lead = row.texts[0]
        is_title = CAPTION.match(" ".join(x.text for x in row.texts)) and not row.has_numbers
        is_one = len({id(word.line) for x in row.texts for word in x.words}) == 1
        is_alone = len(row.texts) == 1 or (is_one and start > 0 and not row.has_numbers)
        if is_title or (is_alone and place == start and lead.left < first + 12):
            start = place + 1
    while end > start:
        row = region[end - 1]
        is_note = NOTE.match(row.texts[0].text) is not None
        if not is_note and (len(row.texts) > 1 or (end > 1 and _goes_on(region[end - 2], row))):
            break
        end -= 1
    for place in range(start + 2, end):
        if NOTE.match(region[place].texts[0].text) and not region[place].has_numbers:
            return region[start:place]
    return region[start:end]


def _goes_on(above: TableRow, row: TableRow) -> bool:
    """Is a row's first text the rest of the first text of the row above it?"""
    lead, before = row.texts[0], above.texts[0]
    size = lead.words[0].size
    return (
        row.top - above.bottom < 0.4 * row.height
        and abs(size - before.words[0].size) < 0.15 * size
        and -0.5 * size < lead.left - before.left < 2.5 * size
        and (lead.text[0].islower() or UNFINISHED.search(before.text) is not None)
    )


def _is_boxed(region: list[TableRow], across: list[Rule]) -> bool:
    """Do three ruling lines or more run along the rows?"""
    height = region[0].height
    low, high = region[0].top - height, region[-1].bottom + height
    return len({round(y / 3) for y in _wide(region, across, low, high)}) >= 3


def _wide(
    region: list[TableRow], across: list[Rule], low: float = 0.0, high: float = 0.0
) -> list[float]:
    """Where lines run along most of the width of the rows, between `low` and `high`."""
    left = min(row.texts[0].left for row in region)
    right = max(row.texts[-1].right for row in region)
    if not high:
        low, high = region[0].top, region[-1].bottom
    return [
        rule.at
        for rule in across
        if min(rule.end, right) - max(rule.start, left) > 0.6 * (right - left)
        and low < rule.at < high
    ]


def _body(region: list[TableRow]) -> list[TableRow]:
    """The rows that show the columns: those with numbers, or else the fuller ones."""
    most = sorted(len(row.texts) for row in region)[-max(1, len(region) // 3)]
    fuller = [row for row in region if len(row.texts) >= max(2, 0.5 * most)]
    numeric = [row for row in fuller if row.has_numbers]
    return numeric if len(numeric) >= 3 else fuller


def _columns(region: list[TableRow]) -> list[tuple[float, float]]:
    """The columns' extents: what the white that runs down between the body's texts leaves."""
    rows = _body(region)
    least = 0.3 * max(text.words[0].size for row in rows for text in row.texts)
    spared = len(rows) // 12
    left = min(row.texts[0].left for row in rows)
    right = max(row.texts[-1].right for row in rows)
    ends = sorted(
        [(text.left, 1) for row in rows for text in row.texts]
        + [(text.right, -1) for row in rows for text in row.texts]
    )
    columns: list[tuple[float, float]] = []
    depth, start, white = 0, left, None
    for place, step in ends:
        was = depth
        depth += step
        if was > spared >= depth:
            white = place
        elif was <= spared < depth and white is not None:
            if place - white >= least:
                columns.append((start, white))
                start = place
            white = None
    columns.append((start, right))
    return columns


def _cells(row: TableRow, columns: list[tuple[float, float]]) -> list[list[TableText]]:
    """A row's texts by column; a text over several columns stands in the first unless it parts."""
    cells: list[list[TableText]] = [[] for _ in columns]
    borders = [(one[1] + other[0]) / 2 for one, other in pairwise(columns)]
    for text in row.texts:
        first = _column(text.words[0], borders)
        if first == _column(text.words[-1], borders):
            cells[first].append(text)
            continue
        part: list[TableWord] = []
        for word in text.words:
            size = word.size
            if part and _column(word, borders) != _column(part[-1], borders):
                gap = word.left - part[-1].right
                if gap > 0.33 * size or NUMBER.fullmatch(word.text):
                    cells[_column(part[0], borders)].append(TableText(part))
                    part = []
            part.append(word)
        cells[_column(part[0], borders)].append(TableText(part))
    return cells


def _column(word: TableWord, borders: list[float]) -> int:
    """The column that a word's middle is in; `borders` are the middles of the white between."""
    return bisect(borders, (word.left + word.right) / 2)


def _is_chart(grid: list[list[list[TableText]]]) -> bool:
    """Are all numbers the even steps of an axis?"""
    found = False
    for column in zip(*grid, strict=True):
        texts = [re.sub("[%$, ]", "", cell[0].text) for cell in column if len(cell) == 1]
        values = [
            float(re.sub("[–−]", "-", text))
            for text in texts
            if re.fullmatch(r"[-–−]?\d+(?:\.\d+)?", text, re.A)
        ]
        if not values:
            continue
        steps = {round(after - value, 6) for value, after in pairwise(values)}
        if len(values) < 5 or len(steps) != 1 or steps == {0.0}:
            return False
        found = True
    return found


def _merge_rows(
    region: list[TableRow], grid: list[list[list[TableText]]], wide: list[float]
) -> list[list[str]]:
    """Cells of several lines made one; rows of cells."""
    is_ruled = len(wide) >= max(3, 0.4 * len(region))
    body = next((n for n, row in enumerate(region) if row.has_numbers and len(row.texts) > 1), 0)
    merged: list[list[list[TableText]]] = []
    above: TableRow | None = None
    for place, (row, cells) in enumerate(zip(region, grid, strict=True)):
        join = False
        if above is not None:
            parted = any(
                (above.top + above.bottom) / 2 < y < (row.top + row.bottom) / 2 for y in wide
            )
            last = merged[-1]
            close = row.top - above.bottom < 0.5 * row.height
            if is_ruled or parted:
                join = not parted
            elif place < body:
                join = close and not _spans(last, cells)
            else:
                join = close and _is_rest(above, row, last, cells)
        if join:
            for target, cell in zip(merged[-1], cells, strict=True):
                target.extend(cell)
        else:
            merged.append([list(cell) for cell in cells])
        above = row
    return [[join_lines([spaced([x.text]) for x in cell]) for cell in row] for row in merged]


def _spans(head: list[list[TableText]], cells: list[list[TableText]]) -> bool:
    """Does a text of a row of heads stand over several of those below it?"""
    low = [text for cell in cells for text in cell]
    return any(
        sum(min(text.right, x.right) - max(text.left, x.left) > 0.5 * (x.right - x.left)
            for x in low) > 1
        for cell in head
        for text in cell[-1:]
    )  # fmt: skip


def _is_rest(
    above: TableRow, row: TableRow, before: list[list[TableText]], cells: list[list[TableText]]
) -> bool:
    """Is a row of the body made of second lines of the cells above?"""
    count = sum(bool(cell) for cell in cells)
    numbers = any(NUMBER.fullmatch(text.text) for cell in cells[1:] for text in cell)
    above_numbers = any(NUMBER.fullmatch(text.text) for cell in before[1:] for text in cell)
    if cells[0] and before[0]:
        fits = count == 1 or not any(before[1:]) or not (numbers or above_numbers)
        return fits and not (numbers and above_numbers) and _goes_on(above, row)
    if not cells[0]:
        filled = sum(bool(cell) for cell in before)
        return count < filled and count <= 0.5 * len(cells) and not numbers
    return False
