"""One spelling for characters that mean the same: the tables by which every classifier reads text.

Full-width forms become ASCII, capitals small, traditional characters simplified, and each
character gets a kind that says how tokens are cut (`classifiers.tokens`). The tables cover the
Basic Multilingual Plane; a character beyond it (emoji, rare Han) is read as it is.
"""

import functools
import importlib.resources
import unicodedata

import numpy as np
import numpy.typing as npt

SKIPPED, SINGLE, LETTER, DIGIT, HAN, NOISE = range(6)
"""Kinds of characters: SKIPPED (controls, spaces, invisible ones) end a token and are none;
SINGLE is a token by itself; LETTER and DIGIT make runs; HAN is a token by itself; NOISE (spaces
and symbols that evade word lists when put between Han characters) is dropped there."""

BLANK = (0x20, 0x09, 0x3000, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD)
"""Spaces and invisible characters that are NOISE and never a token."""

PLANE = 1 << 16  # code points of the Basic Multilingual Plane

# What sense puts between Chinese characters; any other punctuation or symbol there is NOISE.
_CHINESE_PUNCTUATION = set("，。！？；：、（）《》【】“”‘’…—·,!?;:()[]<>\"'%")


@functools.cache
def folded() -> npt.NDArray[np.uint16]:
    """uint16 [65536]: each code point's folded form. Surrogates map to themselves."""
    table = np.arange(PLANE, dtype=np.uint16)
    simplified = traditional_to_simplified()
    for code in range(PLANE):
        if 0xD800 <= code <= 0xDFFF:
            continue
        character = unicodedata.normalize("NFKC", chr(code))
        character = character if len(character) == 1 else chr(code)
        lower = character.lower()
        character = lower if len(lower) == 1 else character
        character = simplified.get(character, character)
        if ord(character) < PLANE:
            table[code] = ord(character)
    return table


@functools.cache
def kinds() -> npt.NDArray[np.uint8]:
    """uint8 [65536]: the kind of each *folded* code point."""
    table = np.full(PLANE, SINGLE, np.uint8)
    for code in range(PLANE):
        character = chr(code)
        category = unicodedata.category(character)
        if is_han(code):
            table[code] = HAN
        elif character in " \t_" or (category[0] in "PS" and character not in _CHINESE_PUNCTUATION):
            table[code] = NOISE
        elif category[0] in "CZ" or 0xFE00 <= code <= 0xFE0F:
            table[code] = SKIPPED
        elif category == "Nd":
            table[code] = DIGIT
        elif category in ("Lu", "Ll", "Lt", "Mn", "Mc") or (
            category in ("Lo", "Lm") and code < 0x3040
        ):
            table[code] = LETTER
    table[list(BLANK)] = NOISE
    return table


def is_han(code: int) -> bool:
    """True for the unified ideographs of the Basic Multilingual Plane, their compatibility forms,
    and the iteration mark 々 and zero 〇."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or code in (0x3005, 0x3007)
    )


@functools.cache
def traditional_to_simplified() -> dict[str, str]:
    """OpenCC's table of traditional characters (see the head of traditional.txt)."""
    text = importlib.resources.files("classifiers").joinpath("traditional.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {pair[0]: pair[1] for line in lines for pair in line.split()}


def fold(text: str) -> str:
    """`text` with every character folded; nothing is dropped, so offsets in characters hold."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    inside = codes < PLANE
    result = codes.copy()
    result[inside] = folded()[codes[inside]]
    return result.tobytes().decode("utf-32-le", "surrogatepass")
