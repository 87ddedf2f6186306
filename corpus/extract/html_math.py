"""Formulas on a page, as LaTeX: from MathJax, KaTeX, MathML, images and their attributes."""

import html
import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt

from corpus.extract.asciimath import asciimath_to_latex
from corpus.extract.html_attributes import attributes, raw_text
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape, parse
from corpus.extract.html_words import MATH
from corpus.extract.mathml import mathml_to_latex

T_MATH, T_SCRIPT, T_IMG, T_MJX = (TAG[name] for name in ("math", "script", "img", "mjx-container"))
T_ANNOTATION = TAG["annotation"]
LATEX_ATTRIBUTES = ("data-latex", "data-tex", "data-formula", "data-math", "data-expr", "data-eq")
LATEX_PATHS = re.compile(
    r"latex\.php|codecogs\.com|/latex[/?.]|equation\?tex=|mimetex|mathtex|/tex\?|chart\.apis?\.google|"
    r"render\.githubusercontent\.com/render/math|/math/render/|texpng|tex2png|/cgi-bin/math|"
    r"quicklatex|latex\.png",
    re.I,
)
LIKELY = re.compile(rb"latex|tex|math|formula|equation|eeimg|data-expr|ql-img|chl=|cgi-bin", re.I)
LATEX_SIGN = re.compile(r"\\[a-zA-Z]+|[_^]\{?|[=<>+]")


TEX_NAMES = (b"MathJax", b"mathjax", b"katex", b"KaTeX")
ASCIIMATH_NAMES = (b"sciimath", b"sciiMath", b"SCIIMath", b"AM_CHTML", b"AM_HTMLorMML", b"AM_SVG")
TEX_INLINE = re.compile(r"\\\(\s*([^$]+?)\s*\\\)", re.S)
TEX_DISPLAY = re.compile(r"\\\[\s*([^$]+?)\s*\\\]", re.S)
FENCES = re.compile(r"\$\\(?:begin|end)group\$ ?")
ASCIIMATH = re.compile(r"`([^`]{1,1000})`")


@dataclass(frozen=True)
class Formula:
    """A formula that stands in the place of an element."""

    latex: str
    is_display: bool


def find_formulas(
    tape: Tape, bits: npt.NDArray[np.int64]
) -> tuple[dict[int, Formula], npt.NDArray[np.bool_]]:
    """The formulas by node, and which nodes they make superfluous (previews, fallback images)."""
    formulas: dict[int, Formula] = {}
    replaced = np.zeros(len(tape.tag), np.bool_)
    candidates = np.flatnonzero(
        (tape.tag == T_MATH)
        | (tape.tag == T_MJX)
        | ((tape.tag == T_SCRIPT) & (tape.end - tape.start > 10))
        | (tape.tag == T_IMG)
        | ((bits & MATH) != 0)
    )
    done = -1
    for node in map(int, candidates):
        if node <= done:
            continue
        formula = _formula(tape, node)
        if formula is None:
            continue
        formulas[node] = formula
        if tape.tag[node] == T_SCRIPT:
            _replace_previews(tape, bits, node, formulas, replaced)
        else:
            done = int(tape.last[node])
            replaced[node] = False
    return formulas, replaced


class Notation:
    """How a page writes formulas into its text for a script to set, told by that script's name.

    Looked for when a text is met that might hold one: most pages have none, and are large.
    """

    def __init__(self, source: bytes) -> None:
        self._source = source

    @cached_property
    def tex(self) -> bool:
        r"""Between `\(` and `\)`, `\[` and `\]`."""
        return any(name in self._source for name in (*TEX_NAMES, *ASCIIMATH_NAMES))

    @cached_property
    def asciimath(self) -> bool:
        """Between backticks."""
        return any(name in self._source for name in ASCIIMATH_NAMES)


def with_formulas(text: str, written: Notation, *, is_cell: bool) -> str:
    """Text with the formulas that it holds as LaTeX between dollars.

    TeX between brackets stays so in a table's cell, where a dollar is money.
    """
    if "group$" in text:  # what Stack Exchange fences its posts with
        text = FENCES.sub("", text)
    if "\\" in text and not is_cell and written.tex:
        text = TEX_DISPLAY.sub(lambda found: f"\n$${clean_latex(found[1])}$$\n", text)
        text = TEX_INLINE.sub(lambda found: f"${clean_latex(found[1])}$", text)
    if "`" in text and written.asciimath:
        text = ASCIIMATH.sub(_asciimath, text)
    return text


def _asciimath(found: re.Match[str]) -> str:
    latex = asciimath_to_latex(found[1])
    return f"${latex}$" if latex else found[0]


def clean_latex(latex: str) -> str:
    """LaTeX without the wrapping that only renderers need."""
    latex = re.sub(r"^\s*\\(?:displaystyle|textstyle)\b\s*", "", latex.strip())
    latex = re.sub(r"^\$+|\$+$", "", latex).strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if latex.startswith(opening) and latex.endswith(closing):
            latex = latex[2:-2]
    found = re.fullmatch(r"\{\\(?:displaystyle|textstyle)\s*(.*)\}", latex, re.S)
    if found:
        latex = found[1]
    return re.sub(r"\s*\n\s*", " ", latex).strip()


def _formula(tape: Tape, node: int) -> Formula | None:
    number = tape.tag[node]
    if number in (T_IMG, T_SCRIPT) and not LIKELY.search(
        tape.source[tape.start[node] : min(tape.end[node], tape.start[node] + 2000)]
    ):
        return None
    has = attributes(tape, node)
    if number == T_SCRIPT:
        kind = has.get("type", "").lower()
        if not kind.startswith("math/"):
            return None
        content = html.unescape(raw_text(tape, node))
        content = re.sub(r"^\s*(?:%\s*)?<!\[CDATA\[|\]\]>\s*$", "", content)
        if kind.startswith("math/mml"):
            inner = parse(content.encode())
            latex = next((_mathml(inner, int(k)) for k in np.flatnonzero(inner.tag == T_MATH)), "")
        elif kind.startswith("math/asciimath"):
            latex = asciimath_to_latex(content)
        else:
            latex = clean_latex(content)
        return Formula(latex, "mode=display" in kind.replace(" ", "")) if latex else None
    if number == T_IMG:
        return _image(has)
    if number == T_MATH:
        latex = clean_latex(_mathml(tape, node))
        return Formula(latex, "block" in (has.get("display"), has.get("mode"))) if latex else None
    # A renderer's element: what it was made from is an attribute, an annotation or MathML inside.
    is_display = (
        has.get("display") in ("true", "block") or "display" in has.get("class", "").lower()
    )
    if "data-mathml" in has:
        inner = parse(has["data-mathml"].encode())
        latex = next((_mathml(inner, int(k)) for k in np.flatnonzero(inner.tag == T_MATH)), "")
        if latex:
            return Formula(clean_latex(latex), is_display)
    for name in LATEX_ATTRIBUTES:
        if has.get(name, "").strip():
            return Formula(clean_latex(has[name]), is_display)
    inside = slice(node, int(tape.last[node]) + 1)
    for sought in (T_ANNOTATION, T_MATH, T_IMG):
        for k in (node + int(offset) for offset in np.flatnonzero(tape.tag[inside] == sought)):
            if sought == T_ANNOTATION:
                if "tex" not in attributes(tape, k).get("encoding", "").lower():
                    continue
                latex = clean_latex(raw_text(tape, k))
                math = attributes(tape, _math_around(tape, k))
                is_display = is_display or math.get("display") == "block"
            elif sought == T_MATH:
                latex = clean_latex(_mathml(tape, k))
                is_display = is_display or attributes(tape, k).get("display") == "block"
            else:
                image = _image(attributes(tape, k))
                latex = image.latex if image else ""
            # A container that also holds text is no formula: its parts are.
            if latex and _is_whole(tape, node, k, sought):
                return Formula(latex, is_display)
            if latex:
                return None
    return None


def _is_whole(tape: Tape, node: int, part: int, kind: int) -> bool:
    """Is the part all that an element holds, but for a renderer's own signs?"""
    count = int(np.count_nonzero(tape.tag[node : int(tape.last[node]) + 1] == kind))
    if count > (2 if kind == T_ANNOTATION else 1):
        return False
    words = re.findall(r"[^\W\d_]{5,}", raw_text(tape, node)[:4000])
    latex = raw_text(tape, part) + "displaystyle"
    return sum(word not in latex for word in words) <= 3


def _math_around(tape: Tape, node: int) -> int:
    while node > 0 and tape.tag[node] != T_MATH:
        node = int(tape.parent[node])
    return node


def _mathml(tape: Tape, node: int) -> str:
    """LaTeX of a math element: what it was made from, where it says so, else converted."""
    inside = slice(node, int(tape.last[node]) + 1)
    for offset in np.flatnonzero(tape.tag[inside] == T_ANNOTATION):
        if "tex" in attributes(tape, node + int(offset)).get("encoding", "").lower():
            return raw_text(tape, node + int(offset))
    alternative = attributes(tape, node).get("alttext", "")
    if "\\" in alternative or re.search(r"[_^]", alternative):
        return alternative
    return mathml_to_latex(tape, node) or alternative


def _image(has: dict[str, str]) -> Formula | None:
    source = has.get("data-lazy-src") or has.get("src", "")
    names = has.get("class", "").lower()
    for name in LATEX_ATTRIBUTES:
        if has.get(name, "").strip():
            return Formula(clean_latex(has[name]), False)
    is_formula_path = LATEX_PATHS.search(source) is not None
    is_named = re.search(r"\b(latex|tex|math|equation|formula|mwe-math|eeimg|ql-img)", names)
    if not is_formula_path and not is_named and "eeimg" not in has:
        return None
    is_display = "display" in names or "block" in names or has.get("eeimg") == "2"
    texts = [has.get("alt", ""), has.get("title", "")]
    if is_formula_path and not (texts[0] and LATEX_SIGN.search(texts[0])):
        texts.insert(0, _latex_of_address(has.get("src", "")))
    for text in texts:
        text = text.strip()
        if text and (is_formula_path or LATEX_SIGN.search(text)) and len(text) < 2000:
            if re.search(r"\.(?:png|gif|jpe?g|svg)$", text):
                continue
            return Formula(clean_latex(text), is_display or "\\displaystyle" in text[:20])
    return None


def _latex_of_address(address: str) -> str:
    parts = urlsplit(address)
    query = parse_qs(parts.query.replace("+", "%2B"))
    for name in ("latex", "tex", "math", "chl", "equation", "eq"):
        if query.get(name):
            return query[name][0]
    text = unquote(parts.query)
    text = re.sub(r"&space;|\\space\b", " ", text)
    return text if LATEX_SIGN.search(text) else ""


def _replace_previews(
    tape: Tape,
    bits: npt.NDArray[np.int64],
    node: int,
    formulas: dict[int, Formula],
    replaced: npt.NDArray[np.bool_],
) -> None:
    """MathJax leaves what it rendered right before the script that holds the source."""
    up = int(tape.parent[node])
    before = node - 1
    while before > up:
        while int(tape.parent[before]) != up:
            before = int(tape.parent[before])
            if before <= up:
                return
        if bits[before] & MATH and tape.tag[before] != T_SCRIPT:
            replaced[before] = True
            for k in range(before, int(tape.last[before]) + 1):
                formulas.pop(k, None)
        elif tape.source[tape.start[before] : tape.end[before]].strip():
            return
        before -= 1
