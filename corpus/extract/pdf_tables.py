"""Tables on a page: cells between ruling lines, or rows of short texts in the same columns.

A ruled table's cells are those of its grid. Elsewhere rows come from base lines, and columns from
the white between the words of the fullest rows; ruling lines, where there are any, say where rows
end, so that cells of several lines become one.
"""

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pymupdf

from corpus.extract.pdf_lines import NUMBER_LIKE, SPACE_IN_HAN, Line, PageLines
from corpus.extract.pdf_neural import Region
from corpus.extract.pdf_paragraphs import join_lines, prose
from corpus.extract.pdf_rules import Grid, Rule, find_grids, read_rules

MIN_ROWS = 3
"""Fewer rows are a table only between ruling lines."""
PROSE = 34
"""Characters: where the texts of a would-be table are longer on average, it is columns of prose."""
WORD_SPACE = 0.42
"""Font sizes: words that are closer than this are one text."""
NUMBER = re.compile(
    r"(?:US|HK|RMB|CNY|EUR|USD|GBP|JPY)?[\d.,%()\-–—−+±*†‡$€£¥/:\s<>~≤≥]{0,4}\d[\d.,%()\-–—−+±*†‡$€£¥/:\s]*(?:[a-zA-Z%]{1,2})?"
    r"|[-–—−*.]{1,5}|N/?A|\(?[XxNn]\)?"
)
CAPTION = re.compile(
    r"(?:Table|Exhibit|Figure|Fig\.|Chart|Box|Annex|TABLE|EXHIBIT|FIGURE)\s*[A-Z]?\.?\d|[表图圖]\s*\d"
)
NOTE = re.compile(
    r"(?:Sources?|Notes?|SOURCE|NOTES?)\b|(?:资料来源|数据来源|資料來源|来源|注)[:：]"
)
UNFINISHED = re.compile(r"[,\-–—/&(]$|\b(?:and|or|of|the|in|for|to|with|by|from|on|at)$")


@dataclass(slots=True)
class Table:
    """A table: its lines, and rows of cells."""

    lines: list[Line]
    rows: list[list[str]]


@dataclass(slots=True)
class _Word:
    left: float
    top: float
    right: float
    bottom: float
    text: str
    size: float
    line: Line

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(slots=True)
class _Text:
    """Words that stand together on a base line."""

    words: list[_Word]

    @property
    def left(self) -> float:
        return self.words[0].left

    @property
    def right(self) -> float:
        return self.words[-1].right

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(slots=True)
class _Row:
    top: float
    bottom: float
    texts: list[_Text] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def has_numbers(self) -> bool:
        return sum(NUMBER.fullmatch(x.text) is not None for x in self.texts) >= max(
            1, 0.4 * (len(self.texts) - 1)
        )


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
        inside = [word for word in words if _is_inside(word, grid)]
        table = _ruled(grid, inside)
        if table is not None and not any(id(line) in used for line in table.lines):
            tables.append(table)
            used.update(id(line) for line in table.lines)
    free = [word for word in words if id(word.line) not in used and id(word.line) not in running]
    gutter = _gutter([line for line in lines if id(line) in running], page.width)
    for region in (region for rows in _apart(_rows(free), gutter) for region in _regions(rows)):
        table = _unruled(region, across)
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
            inside = [word for word in own if _is_inside(word, grid)]
            if len(inside) > 0.6 * len(own):
                table = _ruled(grid, inside)
                break
        if table is None:
            table = _unruled(_rows(own), across, is_sure=True)
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


def _apart(rows: list[_Row], gutter: tuple[float, float] | None) -> list[list[_Row]]:
    """Rows that lie close together; by column where no text reaches from one into the other."""
    bands: list[list[_Row]] = []
    for row in rows:
        far = bool(bands) and row.top - bands[-1][-1].bottom > 2.2 * row.height
        if not bands or (far and gutter is not None):
            bands.append([])
        bands[-1].append(row)
    if gutter is None:
        return bands
    parts: list[list[_Row]] = []
    for band in bands:
        texts = [text for row in band for text in row.texts]
        if any(text.left < gutter[0] - 2 and text.right > gutter[1] + 2 for text in texts):
            parts.append(band)
        else:
            middle = (gutter[0] + gutter[1]) / 2
            words = [word for text in texts for word in text.words]
            parts.append(_rows([word for word in words if word.left < middle]))
            parts.append(_rows([word for word in words if word.left >= middle]))
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


def _words(page: PageLines) -> list[_Word]:
    """The words of the page's lines, in the page's order."""
    by_key = {line.key: line for line in page.lines}
    found: list[_Word] = []
    for x0, y0, x1, y1, text, block, line_number, _ in page.words:
        line = by_key.get((block, line_number))
        if line is not None and text.strip("\x00\ufffd\u200b\ufeff\xa0"):
            found.append(_Word(x0, y0, x1, y1, text, line.size, line))
    return found


# ---------------------------------------------------------------- between ruling lines


def _is_inside(word: _Word, grid: Grid) -> bool:
    across = (word.left + word.right) / 2
    return (
        grid.columns[0] < across < grid.columns[-1] and grid.rows[0] < word.middle < grid.rows[-1]
    )


def _ruled(grid: Grid, words: list[_Word]) -> Table | None:
    """The table whose words stand in the cells of a grid; None where it does not look like one."""
    height, width = len(grid.rows) - 1, len(grid.columns) - 1
    cells: dict[tuple[int, int], list[_Word]] = {}
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
    texts = {place: _rows(found, apart=1.2) for place, found in cells.items()}
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


def _parted(grid: Grid, words: list[_Word]) -> dict[int, list[_Word]] | None:
    """The words by column where they keep to the columns although no line parts them here."""
    found: dict[int, list[_Word]] = {}
    is_parted = False
    for row in _rows(words, apart=0.6):
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


def _band(cells: dict[int, list[_Row]], spanned: set[int], width: int) -> list[list[str]]:
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
            parts[at].append(_joined([text.text for text in row.texts]))
        for row_cells, part in zip(rows, parts, strict=True):
            row_cells[j] = join_lines(part)
    return rows


def _is_aligned(rows: list[_Row], middles: list[float]) -> bool:
    """Do all rows stand on the base lines?"""
    return all(any(abs((row.top + row.bottom) / 2 - y) < 3 for y in middles) for row in rows)


def _interval(borders: list[float], place: float) -> int:
    return max(0, min(len(borders) - 2, sum(place >= border for border in borders) - 1))


def _joined(texts: list[str]) -> str:
    return SPACE_IN_HAN.sub("", " ".join(texts))


# ---------------------------------------------------------------- between columns of white


def _rows(words: list[_Word], apart: float = WORD_SPACE) -> list[_Row]:
    """Words that share a base line, from top to bottom, as texts that stand apart."""
    rows: list[_Row] = []
    members: list[list[_Word]] = []
    for word in sorted(words, key=lambda w: (w.middle, w.left)):
        if rows and word.middle < rows[-1].bottom - 0.25 * rows[-1].height:
            row = rows[-1]
            members[-1].append(word)
            row.top, row.bottom = min(row.top, word.top), max(row.bottom, word.bottom)
        else:
            rows.append(_Row(word.top, word.bottom))
            members.append([word])
    for row, found in zip(rows, members, strict=True):
        found.sort(key=lambda w: w.left)
        for word in found:
            last = row.texts[-1] if row.texts else None
            if last is not None and word.left - last.right < apart * max(
                word.size, last.words[-1].size
            ):
                last.words.append(word)
            else:
                row.texts.append(_Text([word]))
    return rows


def _regions(rows: list[_Row]) -> list[list[_Row]]:
    """Runs of rows with several texts each; a single text between two of them belongs to them."""
    regions: list[list[_Row]] = []
    run: list[_Row] = []
    waiting: list[_Row] = []
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


def _unruled(region: list[_Row], across: list[Rule], is_sure: bool = False) -> Table | None:
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
    region: list[_Row], grid: list[list[list[_Text]]], across: list[Rule], least: float
) -> Table | None:
    """The rows in their columns; None where less than `least` of the cells are filled."""
    rows = _merge_rows(region, grid, _wide(region, across))
    filled = sum(bool(text) for row in rows for text in row)
    if len(rows) < 2 or filled < least * len(rows) * len(rows[0]):
        return None
    lines = {id(word.line): word.line for row in region for x in row.texts for word in x.words}
    return Table(list(lines.values()), rows)


def _trimmed(region: list[_Row]) -> list[_Row]:
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


def _goes_on(above: _Row, row: _Row) -> bool:
    """Is a row's first text the rest of the first text of the row above it?"""
    lead, before = row.texts[0], above.texts[0]
    size = lead.words[0].size
    return (
        row.top - above.bottom < 0.4 * row.height
        and abs(size - before.words[0].size) < 0.15 * size
        and -0.5 * size < lead.left - before.left < 2.5 * size
        and (lead.text[0].islower() or UNFINISHED.search(before.text) is not None)
    )


def _is_boxed(region: list[_Row], across: list[Rule]) -> bool:
    """Do three ruling lines or more run along the rows?"""
    height = region[0].height
    low, high = region[0].top - height, region[-1].bottom + height
    return len({round(y / 3) for y in _wide(region, across, low, high)}) >= 3


def _wide(
    region: list[_Row], across: list[Rule], low: float = 0.0, high: float = 0.0
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


def _body(region: list[_Row]) -> list[_Row]:
    """The rows that show the columns: those with numbers, or else the fuller ones."""
    most = sorted(len(row.texts) for row in region)[-max(1, len(region) // 3)]
    fuller = [row for row in region if len(row.texts) >= max(2, 0.5 * most)]
    numeric = [row for row in fuller if row.has_numbers]
    return numeric if len(numeric) >= 3 else fuller


def _columns(region: list[_Row]) -> list[tuple[float, float]]:
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


def _cells(row: _Row, columns: list[tuple[float, float]]) -> list[list[_Text]]:
    """A row's texts by column; a text over several columns stands in the first unless it parts."""
    cells: list[list[_Text]] = [[] for _ in columns]
    borders = [(one[1] + other[0]) / 2 for one, other in pairwise(columns)]
    for text in row.texts:
        first = _column(text.words[0], borders)
        if first == _column(text.words[-1], borders):
            cells[first].append(text)
            continue
        part: list[_Word] = []
        for word in text.words:
            size = word.size
            if part and _column(word, borders) != _column(part[-1], borders):
                gap = word.left - part[-1].right
                if gap > 0.33 * size or NUMBER.fullmatch(word.text):
                    cells[_column(part[0], borders)].append(_Text(part))
                    part = []
            part.append(word)
        cells[_column(part[0], borders)].append(_Text(part))
    return cells


def _column(word: _Word, borders: list[float]) -> int:
    """The column that a word's middle is in; `borders` are the middles of the white between."""
    return bisect(borders, (word.left + word.right) / 2)


def _is_chart(grid: list[list[list[_Text]]]) -> bool:
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
    region: list[_Row], grid: list[list[list[_Text]]], wide: list[float]
) -> list[list[str]]:
    """Cells of several lines made one; rows of cells."""
    is_ruled = len(wide) >= max(3, 0.4 * len(region))
    body = next((n for n, row in enumerate(region) if row.has_numbers and len(row.texts) > 1), 0)
    merged: list[list[list[_Text]]] = []
    above: _Row | None = None
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
    return [[join_lines([_joined([x.text]) for x in cell]) for cell in row] for row in merged]


def _spans(head: list[list[_Text]], cells: list[list[_Text]]) -> bool:
    """Does a text of a row of heads stand over several of those below it?"""
    low = [text for cell in cells for text in cell]
    return any(
        sum(min(text.right, x.right) - max(text.left, x.left) > 0.5 * (x.right - x.left)
            for x in low) > 1
        for cell in head
        for text in cell[-1:]
    )  # fmt: skip


def _is_rest(above: _Row, row: _Row, before: list[list[_Text]], cells: list[list[_Text]]) -> bool:
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
