"""The chosen blocks of a page as Markdown: headings, lists, quotes, tables, code, formulas."""

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import attributes, unescape
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_code import code_language, code_text
from corpus.extract.html_math import Formula, Notation, with_formulas
from corpus.extract.html_names import BLOCK, TAG
from corpus.extract.html_scripts import script_marks
from corpus.extract.html_tables import (
    has_head,
    html_table,
    is_irregular,
    markdown_table,
    table_cells,
    table_rows,
)
from corpus.extract.html_tape import TEXT, Tape
from corpus.extract.settings import HtmlSettings

T_BR, T_A, T_CODE, T_LI, T_UL, T_OL, T_QUOTE = (
    TAG[name] for name in ["br", "a", "code", "li", "ul", "ol", "blockquote"]
)
SCRIPTS = (TAG["sup"], TAG["sub"])
H_FIRST, H_LAST = TAG["h1"], TAG["h6"]
KBD_SAMP = (T_CODE, TAG["kbd"], TAG["samp"], TAG["tt"])
SPACES = re.compile(
    r" ?[\t\r\n\f\v\xa0\u2000-\u200a\u202f\u3000][ \t\r\n\f\v\xa0\u2000-\u200a\u202f\u3000]*| {2,}"
)
"""Runs of spaces that are not one plain space already: most text is passed over at speed."""
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\u200b\u2060\ufeff\xad\ufffe\uffff]"
    "|\u200c(?![\u0600-\u08ff\u0900-\u109f])"
)
"""Signs that show nothing; before an Arabic or Indic letter U+200C parts two parts of a word."""
HAN = re.compile("[\u3400-\u9fff]")
TABLE_SHARE = 0.4
"""A data table is kept whole where this share of its tokens was chosen."""


@dataclass(frozen=True)
class Page:
    """A parsed page and what was found on it."""

    tape: Tape
    bits: npt.NDArray[np.int64]
    blocks: Blocks
    skip: npt.NDArray[np.bool_]
    formulas: dict[int, Formula]
    code: dict[int, int]
    tables: npt.NDArray[np.bool_]
    written: Notation
    """Formulas that the text itself holds."""
    settings: HtmlSettings


def render(page: Page, chosen: npt.NDArray[np.bool_]) -> str:
    """Markdown of the chosen blocks, in the page's order."""
    tape, blocks = page.tape, page.blocks
    table_of = _table_around(tape, blocks, page.tables)
    pieces: list[tuple[str, str]] = []  # kind of piece, text
    done_table = -1
    table_tokens: dict[int, list[int]] = {}
    for k in range(len(blocks.first)):
        if table_of[k]:
            counts = table_tokens.setdefault(int(table_of[k]), [0, 0])
            counts[0] += int(blocks.tokens[k]) + 1
            counts[1] += (int(blocks.tokens[k]) + 1) * int(chosen[k])
    for k in map(int, np.flatnonzero(chosen | (table_of > 0))):
        table = int(table_of[k])
        if table:
            every, some = table_tokens[table]
            if some >= TABLE_SHARE * every:
                if table != done_table:
                    done_table = table
                    pieces.extend(_table(page, table))
                continue
            if not chosen[k]:
                continue
        pieces.append(_block(page, k))
    return _assemble(pieces)


def _table(page: Page, table: int) -> list[tuple[str, str]]:
    grid = table_cells(page.tape, table, lambda first, last: _cell(page, first, last))
    rows = table_rows(grid)
    if not (len(rows) > 1 and (len(rows[0]) > 1 or has_head(page.tape, table))):
        return [("p", " ".join(filter(None, row))) for row in rows]
    if page.settings.irregular_tables == "html" and is_irregular(grid):
        return [("table", html_table(grid))]
    return [("table", markdown_table(rows))]


def _assemble(pieces: list[tuple[str, str]]) -> str:
    while pieces and pieces[-1][0] == "h":  # a heading of something that was left out
        pieces.pop()
    lines: list[str] = []
    before = ""
    for kind, text in pieces:
        if not text.strip():
            continue
        if lines and not (kind == before == "li"):
            lines.append("")
        lines.append(text)
        before = kind
    return INVISIBLE.sub("", "\n".join(lines)).strip("\n")


def _block(page: Page, k: int) -> tuple[str, str]:
    tape, blocks = page.tape, page.blocks
    owner = int(blocks.owner[k])
    if owner in page.code:
        part = page.code[owner]
        text = code_text(tape, page.bits, part)
        han = len(HAN.findall(text))
        if han > 0.4 * max(1, len(re.sub(r"\s", "", text))) and "\n" in text and not _is_code(text):
            return "p", text
        fence = "````" if "```" in text else "```"
        return "code", f"{fence}{code_language(tape, owner, part)}\n{text}\n{fence}"
    first = int(blocks.first[k])
    while int(tape.parent[first]) == first - 1 != owner and not BLOCK[tape.tag[first - 1]]:
        first -= 1  # the inline elements that the block begins in belong to it
    text = inline(page, first, int(blocks.last[k]))
    if not text:
        return "p", ""
    number = int(tape.tag[owner])
    if H_FIRST <= number <= H_LAST:
        return "h", "#" * (number - H_FIRST + 1) + " " + text.replace("\n", " ")
    prefix, kind = "", "p"
    quotes = depth = 0
    marker = ""
    inner, up = owner, owner
    while up > 0:
        number = int(tape.tag[up])
        if number == T_QUOTE:
            quotes += 1
        elif number == T_LI and not marker:
            is_first = _is_first_text(tape, blocks, up, k)
            listed = int(tape.parent[up])
            ordered = tape.tag[listed] == T_OL
            marker = (f"{_position(tape, up)}. " if ordered else "- ") if is_first else "  "
            kind = "li"
        elif number in (T_UL, T_OL) and marker:
            depth += 1
        elif H_FIRST <= number <= H_LAST and inner == owner:
            return "h", "#" * (number - H_FIRST + 1) + " " + text.replace("\n", " ")
        up = int(tape.parent[up])
    if marker:
        prefix = "  " * min(8, max(0, depth - 1)) + marker
        text = text.replace("\n", "\n" + " " * len(prefix))
        text = prefix + text
    elif not quotes and re.fullmatch(r"`[^`\n]{3,}`", text):
        return "code", f"```\n{text[1:-1]}\n```"  # a paragraph that is nothing but code
    if quotes:
        mark = "> " * min(quotes, 5)
        text = mark + text.replace("\n", "\n" + mark)
        kind = "q"
    return kind, text


def plain_text(page: Page, first: int, last: int) -> str:
    """The text of nodes `first` to `last` on one line, without the addresses of its links."""
    plain = replace(page, settings=page.settings.model_copy(update={"links": False}))
    return " ".join(inline(plain, first, last).split())


def inline(page: Page, first: int, last: int, *, is_cell: bool = False) -> str:
    """The text of nodes `first` to `last` on one line, or on several where the page breaks it."""
    tape = page.tape
    pieces: list[str] = []
    at = first
    ends: list[tuple[int, str]] = []
    while at <= last:
        while ends and ends[-1][0] < at:
            pieces.append(ends.pop()[1])
        formula = page.formulas.get(at)
        number = int(tape.tag[at])
        if formula is not None:
            latex = formula.latex
            pieces.append(f"\n$${latex}$$\n" if formula.is_display else f"${latex}$")
            at = int(tape.last[at]) + 1
            continue
        if page.skip[at]:
            at = int(tape.last[at]) + 1
            continue
        if number == TEXT:
            text = SPACES.sub(" ", unescape(tape.source[tape.start[at] : tape.end[at]]))
            if ("\\" in text or "`" in text) and not any(mark == "`" for _, mark in ends):
                text = with_formulas(text, page.written, is_cell=is_cell)
            pieces.append(text)
        elif number == T_BR:
            pieces.append("\n")
        elif number in KBD_SAMP and number == T_CODE:
            if not _has_code_marks(pieces):
                pieces.append("`")
                ends.append((int(tape.last[at]), "`"))
        elif number == T_A and page.settings.links:
            address = attributes(tape, at).get("href", "")
            if address and not address.startswith(("#", "javascript:")):
                pieces.append("[")
                ends.append((int(tape.last[at]), f"]({address.replace(' ', '%20')})"))
        elif number in SCRIPTS:
            if marks := script_marks(tape, at, pieces):
                pieces.append(marks[0])
                ends.append((int(tape.last[at]), marks[1]))
        elif BLOCK[number] and pieces:
            pieces.append("\n")
        at += 1
    while ends:
        pieces.append(ends.pop()[1])
    text = "".join(pieces).replace("``", "")
    if "  " in text:
        text = re.sub(r" {2,}", " ", text)
    if "\n" in text:
        text = "\n".join(filter(None, (line.strip() for line in text.split("\n"))))
    return text.strip()


def _has_code_marks(pieces: list[str]) -> bool:
    return bool(pieces) and pieces[-1] == "`"


def _cell(page: Page, first: int, last: int) -> str:
    return inline(page, first, last, is_cell=True).replace("\n", " ").replace("|", r"\|")


def _table_around(
    tape: Tape, blocks: Blocks, tables: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """For each block the data table that it lies in, or 0."""
    around = np.zeros(len(blocks.first), np.int64)
    for table in np.flatnonzero(tables):
        low, high = np.searchsorted(blocks.first, np.array([table, int(tape.last[table]) + 1]))
        around[low:high] = table
    return around


def _is_first_text(tape: Tape, blocks: Blocks, item: int, k: int) -> bool:
    return k == 0 or int(blocks.first[k - 1]) < item


def _position(tape: Tape, item: int) -> int:
    """An item's number in its ordered list."""
    listed = int(tape.parent[item])
    has = attributes(tape, listed) if tape.end[listed] > tape.start[listed] else {}
    start = has.get("start", "1")
    count = int(start) if re.fullmatch(r"\d{1,6}", start) else 1
    at = listed + 1
    while at < item:
        count += tape.tag[at] == T_LI
        at = int(tape.last[at]) + 1
    return count


def _is_code(text: str) -> bool:
    return len(re.findall(r"[{};=<>]|^\s*(?:#|//|def |import |if |for )", text, re.M)) > 3
