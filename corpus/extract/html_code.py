"""Code on a page: which elements hold it, and its lines as they were written."""

import re

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import attributes, raw_text, unescape
from corpus.extract.html_names import BLOCK, TAG, named
from corpus.extract.html_tape import TEXT, Tape
from corpus.extract.html_words import CODE, LINES

T_PRE, T_CODE, T_TABLE, T_TR, T_TD, T_TH, T_BR, T_LI, T_OL = (
    TAG[name] for name in named("pre code table tr td th br li ol")
)
DROPPED = np.isin(
    np.arange(len(BLOCK)), [TAG[n] for n in ("button", "style", "script", "svg", "textarea")]
)
LANGUAGE = re.compile(
    r"(?:^|[\s\"'])(?:language|lang|highlight-source|brush|sourceCode|highlight)"
    r"[-: ]+([\w+#.-]{1,20})",
    re.I,
)
LANGUAGE_NAMES = re.compile(
    r"\b(python|py|java|javascript|js|typescript|ts|c|cpp|c\+\+|csharp|cs|go|golang|rust|ruby|php|"
    r"bash|shell|sh|sql|html|xml|css|json|yaml|scala|kotlin|swift|perl|lua|matlab|r)\b",
    re.I,
)
NO_LANGUAGE = frozenset(
    named("plain plaintext text none auto default highlight hljs wp block js line")
)
UNSELECTABLE = re.compile(rb"user-select:\s*none|\bselect-none\b")
PLACES_UP = 8


def find_code(tape: Tape, bits: npt.NDArray[np.int64]) -> dict[int, int]:
    """The elements that are code as a whole, and the part of each that is it (by node)."""
    roots: dict[int, int] = {}
    done = -1
    for node in map(int, np.flatnonzero(tape.tag == T_PRE)):
        if node <= done:
            continue
        root = _numbered_table(tape, bits, node)
        roots[root] = _code_cell(tape, bits, root) if root != node else node
        done = int(tape.last[root])
    is_holder = ((bits & CODE) != 0) & (tape.tag == T_TABLE)
    for node in map(int, np.flatnonzero(is_holder)):
        covered = any(r <= node <= tape.last[r] or node <= r <= tape.last[node] for r in roots)
        cell = _code_cell(tape, bits, node)
        if not covered and cell != node:
            roots[node] = cell
    for node in map(int, np.flatnonzero(((bits & CODE) != 0) & (tape.tag == T_TD))):
        # Line numbers in one cell, the code in another.
        around = int(tape.parent[node])
        while around > 0 and tape.tag[around] != T_TABLE:
            around = int(tape.parent[around])
        rows = np.count_nonzero(tape.tag[around : tape.last[around] + 1] == T_TR)
        if around and rows <= 2 and not any(r <= node <= tape.last[r] for r in roots):
            roots[around] = _code_cell(tape, bits, around)
    for node in map(int, np.flatnonzero((bits & CODE) != 0)):
        # SyntaxHighlighter and its like: a table inside an element that bears the name.
        if "syntaxhighlighter" not in attributes(tape, node).get("class", "").lower():
            continue
        inside = range(node + 1, int(tape.last[node]) + 1)
        table = next((k for k in inside if tape.tag[k] == T_TABLE), None)
        if table is not None and not any(r <= table <= tape.last[r] for r in roots):
            roots[node] = _code_cell(tape, bits, table)
    return roots


def code_text(tape: Tape, bits: npt.NDArray[np.int64], node: int) -> str:
    """The lines of a code element; line numbers and buttons left out."""
    pieces: list[str] = []
    in_pre = tape.tag[node] == T_PRE or T_PRE in tape.tag[node : tape.last[node] + 1]
    at, stop = node + 1, int(tape.last[node])
    ends: list[int] = []
    while at <= stop:
        while ends and ends[-1] < at:
            ends.pop()
            _new_line(pieces)
        number = int(tape.tag[at])
        if number == TEXT:
            text = unescape(tape.source[tape.start[at] : tape.end[at]])
            if in_pre or text.strip() or "\n" not in text:
                pieces.append(text if in_pre else re.sub(r"\s*\n\s*", "", text))
        elif number == T_BR:
            pieces.append("\n")
        elif (
            DROPPED[number]
            or (bits[at] & LINES and not _holds_most(tape, node, at))
            or _is_unselectable_number(tape, at)
        ):
            at = int(tape.last[at]) + 1
            continue
        elif BLOCK[number]:
            _new_line(pieces)
            ends.append(int(tape.last[at]))
        at += 1
    text = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    return re.sub(r"[ \t]+$", "", text, flags=re.M).strip("\n")


def code_language(tape: Tape, root: int, part: int) -> str:
    """The language that a code element, or one close around it, names; "" where none does."""
    inner = next(
        (k for k in range(part + 1, min(part + 4, int(tape.last[part]) + 1))
         if tape.tag[k] == T_CODE), part
    )  # fmt: skip
    for node in (inner, part, root, int(tape.parent[root]), int(tape.parent[tape.parent[root]])):
        if node <= 0:
            continue
        has = attributes(tape, node)
        for name in ("data-language", "data-lang", "lang"):
            if re.fullmatch(r"[\w+#.-]{1,20}", has.get(name, "")):
                return has[name].lower()
        names = f"{has.get('class', '')} {has.get('data-enlighter-language', '')}"
        found = LANGUAGE.search(names)
        if found and found[1].lower() not in NO_LANGUAGE:
            return found[1].lower()
        if re.search(r"\b(hljs|prettyprint|syntaxhighlighter|highlight)\b", names):
            known = LANGUAGE_NAMES.search(names)
            if known:
                return known[1].lower()
    return ""


def _new_line(pieces: list[str]) -> None:
    if pieces and not pieces[-1].endswith("\n"):
        pieces.append("\n")


def _numbered_table(tape: Tape, bits: npt.NDArray[np.int64], node: int) -> int:
    """The table around a `pre` that sets line numbers beside it; else the `pre`."""
    up, steps, words = int(tape.parent[node]), 0, int(bits[node])
    while up > 0 and steps < PLACES_UP:
        words |= int(bits[up])
        if tape.tag[up] == T_TABLE:
            rows = int(np.count_nonzero(tape.tag[up : tape.last[up] + 1] == T_TR))
            return up if words & (CODE | LINES) and rows <= 2 else node
        up, steps = int(tape.parent[up]), steps + 1
    return node


def _code_cell(tape: Tape, bits: npt.NDArray[np.int64], table: int) -> int:
    """The cell that holds the code: the one with most text that is no line numbers."""
    cells = [
        k
        for k in range(table + 1, int(tape.last[table]) + 1)
        if tape.tag[k] == T_TD or tape.tag[k] == T_TH
    ]
    if not cells or len(cells) > 8:
        return table

    def size(cell: int) -> int:
        inside = slice(cell, int(tape.last[cell]) + 1)
        is_text = tape.tag[inside] == TEXT
        return int(np.sum((tape.end[inside] - tape.start[inside])[is_text]))

    return max(cells, key=lambda k: (not bits[k] & LINES, size(k)))


def _is_unselectable_number(tape: Tape, node: int) -> bool:
    """Is this a number that readers cannot select, as a line's is?"""
    piece = tape.source[tape.start[node] : tape.end[node]]
    return UNSELECTABLE.search(piece) is not None and raw_text(tape, node).strip().isdigit()


def _holds_most(tape: Tape, node: int, part: int) -> bool:
    whole = int(tape.end[tape.last[node]] - tape.start[node])
    return int(tape.end[tape.last[part]] - tape.start[part]) > 0.6 * whole
