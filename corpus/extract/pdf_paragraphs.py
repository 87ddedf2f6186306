"""Lines of a page put together: columns followed downwards, paragraphs joined, headings marked."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

from corpus.extract.pdf_lines import WIDE, Line

ENDS_WIDE = re.compile(f"[{WIDE}]$")
STARTS_WIDE = re.compile(f"[{WIDE}]")
FINAL = re.compile("[。！？；：.!?:;…”’）)】」』]$")
BULLET = re.compile(
    r"(?:[•●▪■◆◇○►➢✓※·\uf06c\uf0b7\uf06e\uf0d8-]\s*\S|[（(]?\d{1,2}[)）、.．]\s?\D|[（(][一二三四五六七八九十]{1,3}[)）]|"
    r"[一二三四五六七八九十]{1,3}、|第[一二三四五六七八九十百]{1,4}[章节条])"
)
BULLET_SIGN = re.compile(r"^[•●▪■◆◇○►➢✓※\uf06c\uf0b7\uf06e\uf0d8]\s*")
WORD_GAP = 1.35
"""Font sizes: the widest gap between two words of one justified line."""
SENTENCE_GAP = 2.2
"""Font sizes: the widest gap in a line where one right above or below runs on across it."""
PROSE = 36
"""Signs a line (a Chinese one counts as two) in running text."""
LEADERS = re.compile(r"[.·…⋯]{4,}\s*\d{1,4}$|(?:\. ){4,}\s*\d{1,4}$")
"""Dots that lead to a page number: a line of a table of contents."""
SCRIPT = 0.86
"""Signs smaller than this share of a line's size are its scripts."""
HYPHENATED = re.compile(r"[a-z\ufb00-\ufb06]{2}-$")


@dataclass(slots=True)
class Block:
    """A paragraph, heading or table at its place on the page."""

    order: float
    text: str
    top: float
    left: float
    size: float = 0.0
    kind: str = "p"
    """p | h | table | formula"""
    right: float = 0.0
    bottom: float = 0.0
    rows: list[list[str]] | None = None
    """A table's cells."""


def paragraphs(lines: list[Line], body_size: float) -> list[Block]:
    """The paragraphs of a page's lines, in reading order."""
    blocks: list[Block] = []
    whole, _ = _merged(lines)
    for run in runs(whole):
        blocks.extend(_split(run, body_size))
    return blocks


def runs(lines: list[Line]) -> list[list[Line]]:
    """The lines as runs that read on downwards, each in its column."""
    following = _successors(lines)
    has_before = {id(after) for after in following.values()}
    found: list[list[Line]] = []
    for line in lines:
        if id(line) in has_before:
            continue
        run = [line]
        while (after := following.get(id(run[-1]))) is not None:
            run.append(after)
        found.append(run)
    return found


def prose(lines: list[Line]) -> set[int]:
    """The ids of the lines that surely are running text: runs of several long lines."""
    found: set[int] = set()
    whole, parts = _merged(lines)
    for run in runs(whole):
        if len(run) < 3:
            continue
        text = "".join(line.text for line in run)
        letters = sum(map(str.isalpha, text))
        signs = len(text) + len(re.findall(f"[{WIDE}]", text))
        if signs >= PROSE * len(run) and letters > 0.5 * len(text):
            for line in run:
                found.update(parts[id(line)])
    return found


def _merged(lines: list[Line]) -> tuple[list[Line], dict[int, list[int]]]:
    """Lines that justification tore apart made whole; and of each (by id) the ids of its parts."""
    whole: list[Line] = []
    parts: dict[int, list[int]] = {}
    ordered = sorted(lines, key=lambda x: x.order)
    for place, line in enumerate(ordered):
        before = whole[-1] if whole else None
        near = [*whole[-2:-1], *ordered[place + 1 : place + 2]]
        if before is not None and _is_script(before, line):
            joined = replace(
                before, right=max(before.right, line.right), text=before.text + line.text
            )
            whole[-1] = joined
            parts[id(joined)] = [*parts.pop(id(before)), id(line)]
            continue
        if (
            before is not None
            and abs(before.bottom - line.bottom) < 0.25 * line.size
            and abs(before.size - line.size) < 0.15 * line.size
            and (gap := (line.left - before.right) / line.size) > -0.2
            and (gap < WORD_GAP or (gap < SENTENCE_GAP and _is_bridged(before, line, near)))
        ):
            glue = "" if STARTS_WIDE.match(line.text) else " "
            joined = Line(
                before.left, min(before.top, line.top), line.right, max(before.bottom, line.bottom),
                before.size, before.text + glue + line.text, before.bold, before.order,
            )  # fmt: skip
            whole[-1] = joined
            parts[id(joined)] = [*parts.pop(id(before)), id(line)]
        else:
            whole.append(line)
            parts[id(line)] = [id(line)]
    return whole, parts


def _is_script(before: Line, line: Line) -> bool:
    """Is it a sub- or superscript that PyMuPDF has cut off the line before it?"""
    shared = min(before.bottom, line.bottom) - max(before.top, line.top)
    return (
        line.size < SCRIPT * before.size
        and len(line.text) <= 12
        and shared > 0.3 * (line.bottom - line.top)
        and -0.9 * before.size < line.left - before.right < 0.25 * before.size
    )


def _is_bridged(before: Line, line: Line, near: list[Line]) -> bool:
    """Does a line of text right above or below reach from the one piece over to the other?"""
    size = line.size
    return any(
        abs(other.size - size) < 0.15 * size
        and max(other.top - line.bottom, line.top - other.bottom) < size
        and other.left < before.left + 2 * size
        and other.right > line.right - size
        and len(other.text) >= 0.6 * other.width / size
        for other in near
    )


def usual_size(pages: list[list[Line]]) -> float:
    """The font size of most of a document's signs, in points."""
    signs: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            signs[round(line.size * 2) / 2] += len(line.text)
    return signs.most_common(1)[0][0] if signs else 0.0


def join_lines(lines: list[str]) -> str:
    """Join a paragraph's lines: Chinese without a space, English with one, hyphenation undone."""
    text = ""
    for line in map(str.strip, lines):
        if not line or not text:
            text += line
        elif text.endswith(("\xad", "\u2010", "\ufffe")) or (
            HYPHENATED.search(text) and line[0].islower()
        ):
            text = text[:-1] + line
        elif ENDS_WIDE.search(text) or STARTS_WIDE.match(line):
            text += line
        else:
            text += " " + line
    return text


def _successors(lines: list[Line]) -> dict[int, Line]:
    """For each line (by id) the one that reads on right below it in its column, if there is one."""
    rows = sorted(lines, key=lambda x: x.top)
    best: dict[int, tuple[float, Line]] = {}  # of a lower line: distance and the line above it
    for place, line in enumerate(rows):
        reach = line.bottom + 0.95 * line.size
        found: tuple[float, Line] | None = None
        for other in rows[place + 1 :]:
            if other.top > reach:
                break
            if other.top < line.top + 0.5 * line.size:
                continue
            overlap = min(line.right, other.right) - max(line.left, other.left)
            narrow = min(line.width, other.width)
            if overlap < 0.6 * narrow or abs(other.size - line.size) > 0.12 * line.size:
                continue
            distance = other.top - line.bottom + 0.05 * abs(other.left - line.left)
            if found is None or distance < found[0]:
                found = (distance, other)
        if found is not None:
            distance, other = found
            known = best.get(id(other))
            if known is None or distance < known[0]:
                best[id(other)] = (distance, line)
    by_id = {id(line): line for line in lines}
    return {id(above): by_id[lower] for lower, (_, above) in best.items()}


def _split(chain: list[Line], body_size: float) -> list[Block]:
    """Cut a column's run of lines into paragraphs."""
    left = min(line.left for line in chain)
    right = max(line.right for line in chain)
    gaps = sorted(after.top - line.bottom for line, after in pairwise(chain))
    usual_gap = gaps[len(gaps) // 2] if gaps else 0.0
    blocks: list[Block] = []
    part: list[Line] = []
    for line in chain:
        if part and _begins(part[-1], line, left, right, usual_gap):
            blocks.append(_block(part, body_size, len(blocks), chain[0].order))
            part = []
        part.append(line)
    blocks.append(_block(part, body_size, len(blocks), chain[0].order))
    return blocks


def _begins(before: Line, line: Line, left: float, right: float, usual_gap: float) -> bool:
    """Does a paragraph begin with this line?"""
    size = line.size
    if LEADERS.search(before.text):
        return True
    if BULLET.match(line.text) and (FINAL.search(before.text) or line.left < before.left + size):
        return not (len(before.text) > 15 and before.right > right - size and line.left < left + 1)
    if line.top - before.bottom > usual_gap + 0.45 * size:
        return True
    if line.bold != before.bold and (before.right < right - 2 * size or before.bold):
        return True
    is_short = before.right < right - 2.5 * size
    if FINAL.search(before.text):
        return is_short or line.left > left + 1.3 * size > before.left
    return is_short and line.left > left + 1.3 * size


def _block(part: list[Line], body_size: float, place: int, order: int) -> Block:
    text = BULLET_SIGN.sub("- ", join_lines([line.text for line in part]))
    first = part[0]
    is_heading = (
        len(text) < 100
        and len(part) <= 3
        and first.size > 1.15 * body_size
        and not text.endswith(("。", "；", "，", ",", ";"))
        and re.search(r"[^\W\d_]{2}", text) is not None
    )
    if is_heading:
        level = "#" if first.size > 1.6 * body_size else "##"
        text = f"{level} {text}"
    # Places behind the point keep the paragraphs of one run together.
    where = order + place / 10_000
    return Block(
        where, text, first.top, min(line.left for line in part), first.size,
        "h" if is_heading else "p", max(line.right for line in part), part[-1].bottom,
    )  # fmt: skip
