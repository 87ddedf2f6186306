"""The signs of a page's lines, each with its place, and whether it is set as mathematics."""

import re
from typing import Any

from corpus.extract.mathml import ACCENTS, SIGNS
from corpus.extract.pdf_math import COMBINING, EXTENSION, LARGE, SAME, Sign

MATH_FONT = re.compile(
    r"CMMI|CMSY|CMEX|CMBSY|CMMIB|MSAM|MSBM|EU[FRS][MB]|RSFS|MTSY|MTMI|MTEX|MTMI|Math|Symbol|"
    r"STIX|XITS|BBM|DSROM|LMSY|LMEX|TXMI|TXSY|PXMI|PXSY|esint",
    re.I,
)
EXTENSION_FONT = re.compile(r"CMEX|MTEX|LMEX|MathExt", re.I)
ROMAN_FONT = re.compile(r"^CMR\d|^LMRoman|^SFRM|^CMSS\d", re.I)
BULLETS = frozenset("•●▪■◆◇○►➢✓※∗*·\uf06c\uf0b7\uf06e\uf0d8\uf0a7\u2022")
NEUTRAL = re.compile(r"[·∗\\\d\s.,;:()\[\]{}|/+\-−–=<>!'′’*%‖∥]")
MATH_LETTER = re.compile("[\u0370-\u03ff\u2100-\u214f\U0001d400-\U0001d7ff]")


def has_mathematics(content: dict[str, Any]) -> bool:
    """Is anything on the page (PyMuPDF's dict) set in a mathematical font, or a Greek letter?"""
    return any(
        MATH_FONT.search(span["font"]) is not None or MATH_LETTER.search(span["text"]) is not None
        for block in content["blocks"]
        for line in block.get("lines", ())
        for span in line["spans"]
    )


def read_signs(content: dict[str, Any]) -> dict[tuple[int, int], list[Sign]]:
    """The signs of the lines that hold mathematics, by block and line, from a page's rawdict."""
    fonts: dict[str, int] = {}
    for block in content["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                fonts[span["font"]] = fonts.get(span["font"], 0) + len(span["chars"])
    total = sum(fonts.values())
    formal = {
        font
        for font, count in fonts.items()
        if MATH_FONT.search(font) or (ROMAN_FONT.search(font) and count < 0.2 * total)
    }
    found: dict[tuple[int, int], list[Sign]] = {}
    for number, block in enumerate(content["blocks"]):
        for place, line in enumerate(block.get("lines", ())):
            signs = [
                _sign(char, span, span["font"] in formal)
                for span in line["spans"]
                for char in span["chars"]
            ]
            if signs and abs(line["dir"][0]) > 0.99:
                found[number, place] = signs
    return found if any(sign.is_math for signs in found.values() for sign in signs) else {}


def _sign(char: dict[str, Any], span: dict[str, Any], is_formal: bool) -> Sign:
    """PyMuPDF's character as a sign; large ones of TeX's extension font at the row's base line."""
    text, font, size = char["c"], span["font"], span["size"]
    x0, _, x1, _ = char["bbox"]
    y = char["origin"][1]
    top, bottom = y - 0.72 * size, y + 0.05 * size
    is_extension = EXTENSION_FONT.search(font) is not None
    if is_extension and text in EXTENSION:
        code = ord(text)
        high = 1.2 if code < 16 else 1.8 if code < 18 else 2.4 if code < 32 else 3.0
        if code >= 80:
            high = 1.4 if text in "XYZ[\\" else 1.0
        text = EXTENSION[text]
        top, bottom = y, y + high * size
        y = (top + bottom) / 2 + 0.25 * size
    elif text in LARGE:
        top, bottom = y - size, y + 0.35 * size
        if is_extension:
            top, bottom, y = y, y + 1.4 * size, y + 0.95 * size
    is_bullet = text in BULLETS
    is_known = text in {*SIGNS, *SAME, *ACCENTS, *COMBINING} or (text.isalpha() and text.isascii())
    is_math = (is_formal and is_known and not is_bullet and NEUTRAL.match(text) is None) or (
        text in LARGE or text in "√∂∇∞∈≤≥≠≈\u0305" or MATH_LETTER.match(text) is not None
    )
    family = ""
    if text.isupper() and re.search("CMSY|MTSY|LMSY|EUSM|RSFS", font, re.I):
        family = "mathcal"
    elif text.isupper() and re.search("MSBM|BBM|DSROM", font, re.I):
        family = "mathbb"
    is_italic = bool(span["flags"] & 2) or re.search("CMMI|MTMI|LMMathI|Ital", font) is not None
    is_upright = text.isascii() and text.isalpha() and not is_italic and not family
    return Sign(x0, x1, y, size, text, top, bottom, is_math, is_upright, family)
