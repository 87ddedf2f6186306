"""The straight lines drawn on a page, and the grids of cells that they enclose."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pymupdf

MOST = 4000
"""Segments; a page with more is a drawing."""
SNAP = 2.5
"""Points: lines closer than this are the same line."""
TOUCH = 3.5
"""Points: lines that end this close to each other touch."""
OPEN = 8.0
"""Points: so far rows reach beyond the outermost upright line where a table is open at its side."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A line along one axis: at `at` on the other axis, from `start` to `end`; points."""

    at: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Grid:
    """A ruled table: where its rows and columns end, and which places are one cell."""

    rows: list[float]
    """y of the rows' borders, ascending: one more than there are rows."""
    columns: list[float]
    """x of the columns' borders, ascending."""
    cell: list[list[tuple[int, int]]]
    """[rows, columns]: row and column of the top left place of the cell that covers the place."""


def read_rules(
    page: pymupdf.Page, matrix: pymupdf.Matrix | None = None
) -> tuple[list[Rule], list[Rule]]:
    """The horizontal and the vertical lines: strokes, thin boxes, and the edges of boxes.

    `matrix` is what has turned the page's text.
    """
    across: list[Rule] = []
    upright: list[Rule] = []

    def add(x0: float, y0: float, x1: float, y1: float) -> None:
        if matrix is not None:
            (x0, y0), (x1, y1) = (
                (matrix.a * x + matrix.c * y + matrix.e, matrix.b * x + matrix.d * y + matrix.f)
                for x, y in ((x0, y0), (x1, y1))
            )
        if abs(y1 - y0) <= 1 and abs(x1 - x0) > 4:
            across.append(Rule((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
        elif abs(x1 - x0) <= 1 and abs(y1 - y0) > 4:
            upright.append(Rule((x0 + x1) / 2, min(y0, y1), max(y0, y1)))

    for path in page.get_cdrawings():
        is_white = "s" not in path["type"] and path.get("fill") == (1.0, 1.0, 1.0)
        for item in path["items"]:
            if item[0] == "l":
                add(*item[1], *item[2])
            elif item[0] == "re" and not is_white:
                x0, y0, x1, y1 = item[1][:4]
                if y1 - y0 < 3 and "s" not in path["type"]:
                    add(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2)
                elif x1 - x0 < 3 and "s" not in path["type"]:
                    add((x0 + x1) / 2, y0, (x0 + x1) / 2, y1)
                else:
                    add(x0, y0, x1, y0)
                    add(x0, y1, x1, y1)
                    add(x0, y0, x0, y1)
                    add(x1, y0, x1, y1)
        if len(across) + len(upright) > MOST:
            break
    return _joined(across), _joined(upright)


def find_grids(across: list[Rule], upright: list[Rule]) -> list[Grid]:
    """The grids of at least two rows and two columns that lines which touch each other form."""
    if len(across) < 3 or len(upright) < 1 or len(across) * len(upright) > 4_000_000:
        return []
    group = list(range(len(across) + len(upright)))

    def root(n: int) -> int:
        while group[n] != n:
            group[n] = group[group[n]]
            n = group[n]
        return n

    h = np.array([(r.at, r.start - TOUCH, r.end + TOUCH) for r in across])[:, None]
    v = np.array([(r.at, r.start - TOUCH, r.end + TOUCH) for r in upright])[None]
    touches = (h[..., 1] <= v[..., 0]) & (v[..., 0] <= h[..., 2])
    touches &= (v[..., 1] <= h[..., 0]) & (h[..., 0] <= v[..., 2])
    for i, j in zip(*(indexes.tolist() for indexes in np.nonzero(touches)), strict=True):
        group[root(i)] = root(len(across) + j)
    members: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for n, rule in enumerate([*across, *upright]):
        members.setdefault(root(n), ([], []))[n >= len(across)].append(rule)
    grids = [_grid(*both) for both in members.values() if len(both[0]) >= 2 and both[1]]
    return sorted((g for g in grids if g is not None), key=lambda g: (g.rows[0], g.columns[0]))


def _joined(rules: list[Rule]) -> list[Rule]:
    """Pieces of one line made one."""
    found: list[Rule] = []
    rules = sorted(rules, key=lambda r: (r.at, r.start))
    place = 0
    while place < len(rules):
        last = place + 1
        while last < len(rules) and rules[last].at - rules[place].at < SNAP:
            last += 1
        row = sorted(rules[place:last], key=lambda r: r.start)
        at = sum(r.at for r in row) / len(row)
        start, end = row[0].start, row[0].end
        for rule in row[1:]:
            if rule.start > end + TOUCH:
                found.append(Rule(at, start, end))
                start, end = rule.start, rule.end
            end = max(end, rule.end)
        found.append(Rule(at, start, end))
        place = last
    return found


def _borders(rules: list[Rule], crossing: list[Rule]) -> list[float]:
    """Where the rules lie, and where those that cross them end if that is further out."""
    found = [rules[0].at]
    for rule in sorted(rules, key=lambda r: r.at):
        if rule.at - found[-1] > 1.5 * SNAP:
            found.append(rule.at)
    first, last = min(r.start for r in crossing), max(r.end for r in crossing)
    if first < found[0] - OPEN:
        found.insert(0, first)
    if last > found[-1] + OPEN:
        found.append(last)
    return found


def _grid(across: list[Rule], upright: list[Rule]) -> Grid | None:
    ys = _borders(sorted(across, key=lambda r: r.at), upright)
    xs = _borders(sorted(upright, key=lambda r: r.at), across)
    height, width = len(ys) - 1, len(xs) - 1
    if height < 2 or width < 2 or height > 400 or width > 60 or height * width > 8000:
        return None
    joined: list[tuple[int, int]] = []  # places, numbered row by row, with nothing between them
    for i, (y0, y1) in enumerate(pairwise(ys)):
        here = [r.at for r in upright if r.start - TOUCH < (y0 + y1) / 2 < r.end + TOUCH]
        at = i * width
        joined += [(at + j - 1, at + j) for j in range(1, width) if not _has(here, xs[j])]
    for j, (x0, x1) in enumerate(pairwise(xs)):
        here = [r.at for r in across if r.start - TOUCH < (x0 + x1) / 2 < r.end + TOUCH]
        joined += [
            ((i - 1) * width + j, i * width + j) for i in range(1, height) if not _has(here, ys[i])
        ]
    head = _heads(height * width, width, joined)
    cell = [[divmod(head[i * width + j], width) for j in range(width)] for i in range(height)]
    return Grid(ys, xs, cell)


def _heads(count: int, width: int, joined: list[tuple[int, int]]) -> list[int]:
    """The first place of the cell of each place; cells are the joined places' bounding boxes."""
    head = list(range(count))

    def root(n: int) -> int:
        while head[n] != n:
            head[n] = head[head[n]]
            n = head[n]
        return n

    while joined:
        for one, other in joined:
            a, b = sorted((root(one), root(other)))
            head[b] = a
        members: dict[int, list[int]] = {}
        for n in range(count):
            members.setdefault(root(n), []).append(n)
        joined = []
        for places in members.values():
            columns = [n % width for n in places]
            left, right = min(columns), max(columns) + 1
            top, low = places[0] // width, places[-1] // width + 1
            if (right - left) * (low - top) > len(places):
                first = top * width + left
                box = (i * width + j for i in range(top, low) for j in range(left, right))
                joined += [(first, n) for n in box if n != first]
    return [root(n) for n in range(count)]


def _has(places: Sequence[float], place: float) -> bool:
    return any(abs(x - place) < 2 * SNAP for x in places)
