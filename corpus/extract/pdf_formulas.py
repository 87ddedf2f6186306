"""Formulas among a page's lines: which signs are mathematics, inline and set off as blocks.

Mathematical fonts, Greek letters and mathematical signs make a formula, and take the digits,
brackets and scripts beside them along. A line that is hardly anything else, stands off its
neighbours and states a relation is set off, with what hangs above and below it.
"""

import re

from corpus.extract.mathml import FUNCTIONS
from corpus.extract.pdf_lines import HAN, Line, PageLines, clean
from corpus.extract.pdf_math import LARGE, RELATIONS, SCRIPT, Sign, latex
from corpus.extract.pdf_paragraphs import Block
from corpus.extract.pdf_rules import Rule
from corpus.extract.pdf_signs import NEUTRAL

TAG = re.compile(r"\s*[(（]([A-Z]?\d{1,3}(?:[.\-–]\d{1,3})?[a-z]?)[)）]\s*")
BEHIND = re.compile(r"\s*[=<>≤≥≈≠∼×+\-−/·]\s*[-−]?\d[\d.,]*(?<![.,])%?|\s*[(\[][-−\d\s.,+∞]+[)\]]")
BEFORE = re.compile(r"(?:\d[\d.]*\s*[=<>≤≥≈×+\-−/·]\s*|\d+)$")
UNREADABLE = re.compile("[\x00-\x1f\ue000-\uf8ff\ufffd]")
MOST_SIGNS = 600
"""Signs: what has more is no formula."""


def take_formulas(page: PageLines, bars: list[Rule]) -> list[Block]:
    """Take the formulas that are set off out of a page, and write the others as LaTeX in its lines.

    `bars` are the page's horizontal lines.
    """
    blocks = _set_off(page, bars)
    _glue(page)
    for line in page.lines:
        signs = page.signs.get(line.key)
        if signs is not None and any(sign.is_math for sign in signs):
            text = inline(signs)
            if text is not None:
                line.text = clean(text)
    return blocks


def _glue(page: PageLines) -> None:
    """Make lines whole that PyMuPDF cuts where a script follows another one."""
    lines: list[Line] = []
    for line in page.lines:
        last = lines[-1] if lines else None
        if last is not None and last.key in page.signs and line.key in page.signs:
            before = [x for x in page.signs[last.key] if x.text.strip()]
            after = [x for x in page.signs[line.key] if x.text.strip()]
            if before and after and _clings(before, after):
                page.signs[last.key] = [*page.signs[last.key], *page.signs[line.key]]
                last.text += line.text
                last.right = max(last.right, line.right)
                if max(x.size for x in after) > last.size:
                    last.top, last.bottom, last.size = line.top, line.bottom, line.size
                continue
        lines.append(line)
    page.lines = lines


def _clings(before: list[Sign], after: list[Sign]) -> bool:
    """Does a line begin where another ends, one of them with a script of the other's size?"""
    size = max(before[-1].size, after[0].size, *(x.size for x in before), *(x.size for x in after))
    gap = after[0].left - before[-1].right
    is_script = min(before[-1].size, after[0].size) < SCRIPT * size
    bases = [x.base for x in before if x.size >= SCRIPT * size] or [before[-1].base]
    return (
        is_script
        and -0.9 * size < gap < 0.3 * size
        and abs(after[0].base - bases[-1]) < 0.65 * size
        and any(x.is_math for x in (*before[-3:], *after[:2]))
    )


def inline(signs: list[Sign]) -> str | None:
    """A line's text with its formulas in dollars; None where it has none."""
    tags = _tags(signs)
    pieces: list[str] = []
    place, changed = 0, False
    while place < len(signs):
        end = place
        while end < len(signs) and tags[end] != "t":
            end += 1
        run = _formula(signs, tags, place, end) if end > place else None
        if run is None:
            stop = max(end, place + 1)
            pieces += [sign.text for sign in signs[place:stop]]
            place = stop
            continue
        first, last = run
        written = latex(signs[first:last], [])
        if "aligned" in written:
            pieces += [sign.text for sign in signs[place:end]]
            place = end
            continue
        pieces += [sign.text for sign in signs[place:first]]
        pieces.append(f"${written}$")
        pieces += [sign.text for sign in signs[last:end]]
        place, changed = end, True
    return "".join(pieces) if changed else None


def _tags(signs: list[Sign]) -> list[str]:
    """Of each sign: m mathematics, s a script of it, n neutral, t text."""
    seen = [x for x in signs if x.text.strip()] or signs
    sizes = sorted((x.size for x in seen), reverse=True)
    size = max(sizes[len(sizes) // 4], 1.0)
    bases = [round(x.base, 1) for x in seen if x.size >= SCRIPT * size and x.text not in LARGE]
    base = max(set(bases), key=bases.count) if bases else seen[0].base
    tags: list[str] = []
    before = ""
    for sign in signs:
        is_script = sign.size < SCRIPT * size and abs(sign.base - base) > 0.06 * size
        if not sign.text.strip():
            tag = "n"
        elif is_script and (before in ("m", "s") or sign.is_math):
            tag = "s"
        elif is_script:
            tag = "t"
        elif sign.is_math:
            tag = "m"
        elif NEUTRAL.match(sign.text):
            tag = "n"
        else:
            tag = "t"
        tags.append(tag)
        if sign.text.strip():
            before = tag if not (tag == "n" and sign.text in ")]}|" and "m" in tags) else "m"
    # The name of a function between mathematical signs belongs to them.
    text = "".join(x.text if len(x.text) == 1 else "\0" for x in signs)
    for found in re.finditer(r"[A-Za-z]+", text):
        near = [*tags[max(0, found.start() - 2) : found.start()],
                *tags[found.end() : found.end() + 3]]  # fmt: skip
        if found[0] in FUNCTIONS and ("m" in near or "s" in near):
            tags[found.start() : found.end()] = "m" * len(found[0])
    return tags


def _formula(signs: list[Sign], tags: list[str], start: int, end: int) -> tuple[int, int] | None:
    """Where the formula lies within a run of signs that are no text."""
    own = [n for n in range(start, end) if tags[n] in "ms"]
    if not any(tags[n] == "m" for n in own):
        return None
    inner = [signs[n] for n in own]
    is_worth = any(tags[n] == "s" for n in own) or any(
        x.text in LARGE or x.text in "√∂∇∞" or x.text.isalpha() for x in inner
    )
    if not is_worth or all(x.is_upright for x in inner):
        return None
    first, last = own[0], own[-1] + 1
    text = "".join(x.text for x in signs[first:last])
    if all(len(x.text) == 1 for x in signs[last:end]):
        behind = "".join(x.text for x in signs[last:end])
        for step in (_closing, _behind, _closing):
            count = step(text, behind)
            last, text, behind = last + count, text + behind[:count], behind[count:]
    ahead = "".join(x.text for x in signs[start:first])
    if (found := BEFORE.search(ahead)) is not None and len(ahead) == first - start:
        first -= len(found[0])
        ahead = ahead[: found.start()]
    for opening, closing in ("()", "[]", "{}"):
        if text.count(closing) > text.count(opening) and ahead.endswith(opening):
            first, ahead = first - 1, ahead[:-1]
    return first, last


def _closing(text: str, behind: str) -> int:
    """How many signs behind a formula are the brackets that close its own."""
    count = 0
    while found := re.match(r"\s*([)\]}])", behind[count:]):
        opening = "([{"[")]}".index(found[1])]
        if text.count(opening) <= text.count(found[1]):
            break
        text += found[0]
        count += found.end()
    return count


def _behind(_: str, behind: str) -> int:
    """How many signs behind a formula are the number or the interval that it is compared with."""
    found = BEHIND.match(behind)
    return found.end() if found else 0


# ---------------------------------------------------------------- set off


def _set_off(page: PageLines, bars: list[Rule]) -> list[Block]:
    candidates = [line for line in page.lines if _is_formal(page, line)]
    blocks: list[Block] = []
    taken: set[int] = set()
    for seed in candidates:
        if id(seed) in taken:
            continue
        cluster = _cluster(page, seed, candidates, taken)
        tag = next((line for line in cluster if TAG.fullmatch(line.text)), None)
        signs = [
            sign for line in cluster if line is not tag for sign in page.signs.get(line.key, ())
        ]
        signs, number = _without_tag(signs)
        if tag is not None:
            number = TAG.fullmatch(tag.text)[1]  # type: ignore[index]
        if not 3 <= len(signs) <= MOST_SIGNS or not _stands_off(page, cluster):
            continue
        left, right = min(x.left for x in signs), max(x.right for x in signs)
        top, bottom = min(x.top for x in signs), max(x.bottom for x in signs)
        own = [b for b in bars if left - 4 < b.start and b.end < right + 4 and top < b.at < bottom]
        text = latex(signs, own)
        states = any(x.text in RELATIONS for x in signs) or r"\frac" in text
        if not (states and _is_balanced(text)) or UNREADABLE.search(text):
            continue
        if number:
            text += rf" \tag{{{number}}}"
        first = min(cluster, key=lambda x: x.order)
        taken.update(id(line) for line in cluster)
        blocks.append(
            Block(first.order, f"$$\n{text}\n$$", first.top, first.left, first.size, "formula")
        )
    page.lines = [line for line in page.lines if id(line) not in taken]
    return blocks


def _is_balanced(text: str) -> bool:
    """Has each bracket its other? What has not was cut, or put together wrongly."""
    return all(
        text.count(opening) == text.count(closing)
        for opening, closing in (("(", ")"), ("[", "]"), (r"\{", r"\}"))
    )


def _is_formal(page: PageLines, line: Line) -> bool:
    """Is a line hardly anything but mathematics?"""
    signs = page.signs.get(line.key)
    if signs is None or re.search(f"[{HAN}]", line.text):
        return False
    seen = [x for x in signs if x.text.strip()]
    formal = sum(x.is_math for x in seen)
    neutral = sum(not x.is_math and NEUTRAL.match(x.text) is not None for x in seen)
    words = [w for w in re.findall(r"[A-Za-z]{3,}", line.text) if w not in FUNCTIONS]
    return formal >= 1 and formal + neutral >= 0.6 * len(seen) and len(words) <= 2


def _cluster(page: PageLines, seed: Line, candidates: list[Line], taken: set[int]) -> list[Line]:
    """The lines of one formula: what is mathematics or short, and close to what is in it."""
    cluster = [seed]
    formal = {id(line) for line in candidates}
    box = _box(page, seed)
    size = seed.size
    while True:
        left, top, right, bottom = box
        more = []
        for line in page.lines:
            if id(line) in taken or line.key not in page.signs or line.top > bottom + 2 * size:
                continue
            if any(line is x for x in cluster):
                continue
            x0, y0, x1, y1 = _box(page, line)
            apart = max(x0 - right, left - x1)
            distance = max(y0 - bottom, top - y1)
            if TAG.fullmatch(line.text):
                fits = distance < -0.3 * line.size and 0 < x0 - right < 300
            elif id(line) in formal:
                fits = (distance < -0.2 * line.size and apart < 4 * size) or (
                    distance < 0.35 * size and apart < size
                )
            else:
                short = len(line.text) <= 14 and not re.search(f"[A-Za-z]{{4}}|[{HAN}]", line.text)
                fits = short and distance < 0.3 * size and apart < 1.2 * size
            if fits:
                more.append(line)
                box = (min(box[0], x0), min(box[1], y0), max(box[2], x1), max(box[3], y1))
                size = max(size, line.size)
        if not more:
            return cluster
        cluster += more


def _box(page: PageLines, line: Line) -> tuple[float, float, float, float]:
    """left, top, right and bottom of a line's signs, tighter than its own."""
    signs = [x for x in page.signs[line.key] if x.text.strip()]
    if not signs:
        return line.left, line.top, line.right, line.bottom
    return (
        min(x.left for x in signs), min(x.top for x in signs),
        max(x.right for x in signs), max(x.bottom for x in signs),
    )  # fmt: skip


def _without_tag(signs: list[Sign]) -> tuple[list[Sign], str]:
    """The signs without an equation's number at their right, and that number."""
    seen = sorted((x for x in signs if x.text.strip()), key=lambda x: x.left)
    for count in range(3, min(9, len(seen) - 2)):
        end = seen[-count:]
        found = TAG.fullmatch("".join(x.text for x in end))
        if found and end[0].left - seen[-count - 1].right > 1.5 * end[0].size:
            return [x for x in signs if not any(x is y for y in end)], found[1]
    return signs, ""


def _stands_off(page: PageLines, cluster: list[Line]) -> bool:
    """Does no text stand beside the lines, and are they not the tail of a paragraph?"""
    left, right = min(x.left for x in cluster), max(x.right for x in cluster)
    top, bottom = min(x.top for x in cluster), max(x.bottom for x in cluster)
    size = max(x.size for x in cluster)
    for line in page.lines:
        if any(line is x for x in cluster):
            continue
        shared = min(bottom, line.bottom) - max(top, line.top)
        apart = max(line.left - right, left - line.right)
        if shared > 0.5 * (line.bottom - line.top) and apart < 2.2 * size:
            return False
        is_above = 0 <= top - line.bottom + 0.3 * size < 0.7 * size
        if is_above and abs(line.left - left) < size and line.right > right and len(line.text) > 30:
            return False
    return True
