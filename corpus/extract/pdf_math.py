"""Signs at their places to LaTeX: scripts, fractions, roots, limits, accents, rows.

The signs of a formula lie on a plane. What stands above and below a drawn bar becomes a fraction,
from the narrowest bar to the widest, and then is one sign among the others; the same for roots and
for the limits of sums. What is left is read from left to right, smaller signs off the base line as
scripts.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Final

from corpus.extract.mathml import ACCENTS, FUNCTIONS, PLAIN, SIGNS
from corpus.extract.pdf_rules import Rule

SCRIPT = 0.86
"""Signs smaller than this share of the row's size are scripts."""
RELATIONS: Final = frozenset("=<>≤≥≈≠∼≡∝∈→←≺≻⇒⇔⩽⩾≪≫≃≅↔⟶↦")
LARGE: Final = frozenset("∑∏⋃⋂⨁⋁⋀∐")
LIMIT_WORDS: Final = frozenset(
    ["max", "min", "lim", "sup", "inf", "argmax", "argmin", "limsup", "liminf"]
)
EXTENSION: Final = {
    **dict.fromkeys("\x00\x10\x12\x20", "("), **dict.fromkeys("\x01\x11\x13\x21", ")"),
    **dict.fromkeys("\x02\x14\x22h", "["), **dict.fromkeys("\x03\x15\x23i", "]"),
    **dict.fromkeys("\x08\x1a\x28n", "{"), **dict.fromkeys("\x09\x1b\x29o", "}"),
    **dict.fromkeys("PX", "∑"), **dict.fromkeys("QY", "∏"), **dict.fromkeys("RZ", "∫"),
    **dict.fromkeys("pqrs", "√"), "S": "⋃", "T": "⋂", "[": "⋃", "\\": "⋂", "\x0c": "|",
    "b": "̂", "e": "̃", "c": "̂", "f": "̃",
}  # fmt: skip
"""TeX's font of large signs (cmex, The TeXbook appendix F) by code, where the file names none."""

FACES: Final = re.compile(r"(\\(mathbf|boldsymbol)\{\w\})(?:\\\2\{\w\})+")
COMBINING: Final = {"\u0304": "bar", "\u0305": "bar", "\u0302": "hat", "\u0303": "tilde",
                    "\u0307": "dot"}  # fmt: skip
SAME: Final = {"\u2206": "Δ", "\u2126": "Ω", "\xb5": "μ", "\u2044": "/", "\u2225": "‖"}
"""Signs that look as those that are meant."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign, or what has been put together to one; points from the page's top left."""

    left: float
    right: float
    base: float
    size: float
    text: str
    top: float
    bottom: float
    is_math: bool = True
    """Is it set in a mathematical font, or is it a mathematical sign?"""
    is_upright: bool = False
    """Is it a letter of a word?"""
    family: str = ""
    """mathcal | mathbb where the font says so."""
    is_latex: bool = False

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def latex(signs: list[Sign], bars: list[Rule]) -> str:
    """LaTeX of the signs of one formula, without dollars; `bars` are the horizontal lines in it."""
    signs = [sign for sign in signs if sign.text.strip()]
    if not signs:
        return ""
    for bar in sorted(bars, key=lambda b: b.end - b.start):
        signs = _with_bar(signs, bar)
    signs = _with_limits(signs)
    rows = _rows(signs)
    found = [_row(row) for row in rows]
    if len(found) == 1:
        return found[0]
    body = r" \\ ".join(found)
    return rf"\begin{{aligned}} {body} \end{{aligned}}"


def _put_together(parts: list[Sign], text: str, base: float, size: float) -> Sign:
    return Sign(
        min(x.left for x in parts), max(x.right for x in parts), base, size, text,
        min(x.top for x in parts), max(x.bottom for x in parts), is_latex=True,
    )  # fmt: skip


def _with_bar(signs: list[Sign], bar: Rule) -> list[Sign]:
    """The signs, those at a bar made one: a fraction, a root or an overlined term."""
    reach = max((x.size for x in signs if bar.start - 9 < x.middle < bar.end + 9), default=0.0)
    root = next(
        (
            x
            for x in signs
            if x.text == "√" and abs(x.right - bar.start) < 0.4 * reach and x.top < bar.at + reach
        ),
        None,
    )
    within = [x for x in signs if bar.start - 1.5 <= x.middle <= bar.end + 1.5 and x is not root]
    above = [x for x in within if x.bottom <= bar.at + 0.3 * x.size]
    below = [x for x in within if x.top >= bar.at - 0.3 * x.size and x not in above]
    above = _nearest(above, lambda x: bar.at - x.bottom)
    below = _nearest(below, lambda x: x.top - bar.at)
    if not below or (not above and root is None and min(x.top for x in below) - bar.at > 3):
        return signs
    if root is not None:
        parts, text = [root, *below], rf"\sqrt{{{latex(below, [])}}}"
    elif above:
        parts = [*above, *below]
        text = rf"\frac{{{latex(above, [])}}}{{{latex(below, [])}}}"
    else:
        parts, text = below, rf"\overline{{{latex(below, [])}}}"
    size = max(x.size for x in parts)
    base = bar.at + 0.25 * size if above and root is None else max(x.base for x in below)
    rest = [x for x in signs if x not in parts]
    return [*rest, _put_together(parts, text, base, size)]


def _nearest(signs: list[Sign], distance) -> list[Sign]:  # type: ignore[no-untyped-def]
    """The signs of the row that is nearest to a bar, and what clings to it."""
    found: list[Sign] = []
    reach = 0.0
    main = max((x.size for x in signs), default=0.0)
    for sign in sorted(signs, key=distance):
        gap = distance(sign)
        if not found:
            if gap > 1.1 * main:
                return []
            reach = gap + 0.9 * main
            if sign.size < SCRIPT * main:  # limits and scripts are nearer than the row itself
                reach = gap + 1.5 * main
        if gap <= reach:
            found.append(sign)
    return found


def _with_limits(signs: list[Sign]) -> list[Sign]:
    """Sums and the like with what stands right above and below them."""
    signs = _words(signs)
    main = _main_size(signs)
    for operator in [x for x in signs if x.text in LARGE or x.text in LIMIT_WORDS]:
        small = [x for x in signs if x.size < SCRIPT * main and x is not operator]
        low = [x for x in small if 0 <= x.base - operator.bottom + 0.6 * x.size < 1.9 * main
               and x.top > (operator.top + operator.bottom) / 2]  # fmt: skip
        high = [x for x in small if -0.3 * main < operator.top - x.bottom + 0.3 * main < 1.6 * main
                and x.bottom < (operator.top + operator.bottom) / 2]  # fmt: skip
        low, high = _at(low, operator), _at(high, operator)
        if not low and not high:
            continue
        text = _sign(operator)
        text += f"_{{{latex(low, [])}}}" if low else ""
        text += f"^{{{latex(high, [])}}}" if high else ""
        parts = [operator, *low, *high]
        base = operator.base if operator.text in LIMIT_WORDS else _base_near(signs, operator, main)
        made = replace(_put_together(parts, text, base, main), left=operator.left)
        signs = [*(x for x in signs if x not in parts), made]
    return signs


def _words(signs: list[Sign]) -> list[Sign]:
    """The letters of functions' names (log, max) and other upright words made one sign each."""
    found: list[Sign] = []
    for sign in sorted(signs, key=lambda x: (round(x.base), x.left)):
        last = found[-1] if found else None
        if (
            last is not None
            and sign.is_upright
            and last.is_upright
            and abs(sign.base - last.base) < 0.1 * sign.size
            and abs(sign.size - last.size) < 0.1 * sign.size
            and -0.2 * sign.size < sign.left - last.right < 0.12 * sign.size
        ):
            found[-1] = replace(last, right=sign.right, text=last.text + sign.text)
        else:
            found.append(sign)
    return found


def _at(signs: list[Sign], operator: Sign) -> list[Sign]:
    """Those signs of a limit that hang together with one right above or below the operator."""
    reach = 0.35 * operator.size
    chosen = [x for x in signs if operator.left - reach < x.middle < operator.right + reach]
    while True:
        more = [
            x
            for x in signs
            if x not in chosen
            and any(-0.1 < x.left - y.right < 0.45 * x.size for y in chosen) | any(
                -0.1 < y.left - x.right < 0.45 * x.size for y in chosen
            )
        ]  # fmt: skip
        more = [x for x in more if operator.left - 2.5 * operator.size < x.middle
                and x.middle < operator.right + 1.2 * operator.size]  # fmt: skip
        if not more or not chosen:
            return chosen
        chosen += more


def _main_size(signs: list[Sign]) -> float:
    """The size of the row's own signs: the largest that several have."""
    sizes = sorted((x.size for x in signs if x.text not in LARGE), reverse=True)
    return sizes[min(len(sizes) - 1, len(sizes) // 10)] if sizes else signs[0].size


def _base_near(signs: list[Sign], operator: Sign, main: float) -> float:
    """The base line of the row that an operator stands in."""
    middle = (operator.top + operator.bottom) / 2
    bases = [
        x.base
        for x in signs
        if x.size >= SCRIPT * main
        and x.text not in LARGE
        and abs(x.base - 0.25 * main - middle) < main
    ]
    return max(set(bases), key=bases.count) if bases else middle + 0.25 * main


def _rows(signs: list[Sign]) -> list[list[Sign]]:
    """The signs by row of base line, scripts with the row that they cling to."""
    main = _main_size(signs)
    bases: list[float] = []
    for sign in sorted(signs, key=lambda x: x.base):
        is_own = sign.size >= SCRIPT * main and sign.text not in LARGE
        if is_own and (not bases or sign.base - bases[-1] > 0.75 * main):
            bases.append(sign.base)
    if len(bases) < 2:
        return [signs]
    rows: list[list[Sign]] = [[] for _ in bases]
    for sign in signs:
        middle = sign.base if sign.text not in LARGE else (sign.top + sign.bottom) / 2
        rows[min(range(len(bases)), key=lambda k: abs(bases[k] - middle))].append(sign)
    return [row for row in rows if row]


def _row(signs: list[Sign]) -> str:
    """One row from left to right."""
    main = _main_size(signs)
    own = [x.base for x in signs if x.size >= SCRIPT * main and x.text not in LARGE]
    base = max(set(own), key=own.count) if own else signs[0].base
    tokens: list[str] = []
    script: list[Sign] = []
    direction = ""

    def end_script() -> None:
        if script:
            inner = latex(script, [])
            if inner.strip("\\prime ") == "" and direction == "^" and tokens:
                tokens[-1] += "'" * inner.count("prime")
            else:
                if not tokens:
                    tokens.append("{}")
                tokens[-1] += f"{direction}{{{inner}}}"
            script.clear()

    accent = ""
    for sign in sorted(signs, key=lambda x: x.left):
        shift = base - sign.base
        if sign.size < SCRIPT * main and sign.text not in LARGE and abs(shift) > 0.06 * main:
            side = "^" if shift > 0 else "_"
            if side != direction:
                end_script()
            direction = side
            script.append(sign)
            continue
        end_script()
        direction = ""
        if sign.text in ACCENTS and sign.text not in "^~_.→" and not sign.is_latex:
            accent = ACCENTS[sign.text]
            last = tokens[-1] if tokens else ""
            before = [x for x in signs if x.left <= sign.middle <= x.right and x is not sign]
            if before and min(before, key=lambda x: x.left).left < sign.left and last:
                tokens[-1], accent = rf"\{accent}{{{last}}}", ""
            continue
        if sign.text in COMBINING and tokens:
            tokens[-1] = rf"\{COMBINING[sign.text]}{{{tokens[-1]}}}"
            continue
        if sign.text in "′'" and tokens:
            tokens[-1] += "'"
            continue
        text = _sign(sign)
        if accent:
            text, accent = rf"\{accent}{{{text}}}", ""
        if sign.text in RELATIONS or sign.text in "+−±":
            text = f" {text} "
        tokens.append(text)
    end_script()
    joined = ""
    for token in tokens:
        if re.search(r"\\[A-Za-z]+$", joined) and re.match(r"[A-Za-z]", token):
            joined += " "
        joined += token
    joined = joined.replace(r"\cdot\cdot\cdot", r"\cdots")
    joined = FACES.sub(lambda m: rf"\{m[2]}{{{''.join(re.findall(r'{(.)}', m[0]))}}}", joined)
    return re.sub(r"\s+", " ", joined).strip()


def _sign(sign: Sign) -> str:
    """LaTeX of one sign or word."""
    text = sign.text
    if sign.is_latex:
        return text
    if len(text) > 1 and text.isalpha() and text.isascii():
        if text in FUNCTIONS:
            return rf"\{text}"
        if text in LIMIT_WORDS:
            return rf"\operatorname*{{{text}}}"
        return rf"\mathrm{{{text}}}"
    return "".join(_letter(x, sign.family) for x in text)


def _letter(letter: str, family: str) -> str:
    letter = SAME.get(letter, letter)
    plain = unicodedata.normalize("NFKC", letter) if letter > "\u2100" else letter
    if letter in SIGNS:
        return rf"\{SIGNS[letter]}"
    if letter in PLAIN:
        return PLAIN[letter]
    if letter in "_\\":
        return r"\_" if letter == "_" else r"\setminus "
    name = unicodedata.name(letter, "") if letter > "\u2100" else ""
    inner = rf"\{SIGNS[plain]}" if plain in SIGNS else plain
    if "DOUBLE-STRUCK" in name or family == "mathbb":
        return rf"\mathbb{{{inner}}}"
    if ("SCRIPT" in name and plain.isalpha()) or family == "mathcal":
        return rf"\mathcal{{{inner}}}"
    if "MATHEMATICAL BOLD ITALIC" in name:
        return rf"\boldsymbol{{{inner}}}"
    if "MATHEMATICAL BOLD" in name:
        return rf"\mathbf{{{inner}}}"
    return inner
