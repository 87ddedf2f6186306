"""Raised and lowered signs in running text: powers and indices, which else run together.

10<sup>-6</sup> is 10^{-6} and not 10-6; a number raised after a word is a note's: word[2].
"""

import re
from collections.abc import Sequence

from corpus.extract.html_attributes import raw_text
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape

T_SUP, T_SUB, T_A = TAG["sup"], TAG["sub"], TAG["a"]
SYMBOL = r"(?<![^\W_])[A-Za-z\u0391-\u03c9]"
POWER_OF = re.compile(rf"(?:{SYMBOL}|(?<![\d.,])\d{{1,2}}|\)|(?<![^\W\d_])(?:[kcm]m|ft|kg|sec))$")
POWER = re.compile(r"[+\u2212-]?\d{1,3}|[a-z]|[+\u2212-][a-z]")
INDEX_OF = re.compile(rf"{SYMBOL}$")
INDEX = re.compile(r"[a-z]{1,3}|\d")
IS_CHEMICAL = re.compile(r"[A-Z]$")


def script_marks(tape: Tape, node: int, before: Sequence[str]) -> tuple[str, str] | None:
    """What to set before and behind a `sup` or a `sub`; None where nothing is wanted.

    `before` are the pieces of text that stand before it.
    """
    number = tape.tag[node]
    base, text = "".join(before[-3:])[-8:], raw_text(tape, node).strip()
    is_linked = T_A in tape.tag[node : tape.last[node] + 1]
    if number == T_SUP:
        if POWER_OF.search(base) and POWER.fullmatch(text) and not is_linked:
            return ("^", "") if len(text) == 1 else ("^{", "}")
        if text.isdecimal() and len(text) <= 3:
            return ("[", "]" if base.strip() else "] ")
        return None
    if is_linked or not INDEX_OF.search(base) or not INDEX.fullmatch(text):
        return None
    if text.isdecimal() and IS_CHEMICAL.search(base):
        return None
    return ("_", "") if len(text) == 1 else ("_{", "}")
