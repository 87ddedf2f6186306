"""MathML to LaTeX, for the presentation elements that pages use."""

import re
from typing import Final

from corpus.extract.html_attributes import attributes, raw_text
from corpus.extract.html_names import TAG, TAGS, named
from corpus.extract.html_tape import TEXT, Tape

SIGNS: Final = {
    **dict(zip("αβγδεζηθικλμνξπρστυφχψωϕϵϑϱςϖ", named(
        "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi "
        "rho sigma tau upsilon varphi chi psi omega phi epsilon vartheta varrho "
        "varsigma varpi"
    ),
        strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΥΦΨΩ", named(
        "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
    ),
               strict=True)),
    "≠": "ne", "≤": "le", "≥": "ge", "⩽": "leqslant", "⩾": "geqslant", "≈": "approx", "≡": "equiv",
    "∼": "sim", "≃": "simeq", "≅": "cong", "∝": "propto", "±": "pm", "∓": "mp", "×": "times",
    "÷": "div", "·": "cdot", "⋅": "cdot", "∘": "circ", "∗": "ast", "⋆": "star", "⊕": "oplus",
    "⊗": "otimes", "∈": "in", "∉": "notin", "∋": "ni", "⊂": "subset", "⊃": "supset",
    "⊆": "subseteq", "⊇": "supseteq", "∪": "cup", "∩": "cap", "∅": "emptyset", "∀": "forall",
    "∃": "exists", "¬": "neg", "∧": "wedge", "∨": "vee", "→": "to", "←": "leftarrow",
    "⇒": "Rightarrow", "⇐": "Leftarrow", "⇔": "Leftrightarrow", "↔": "leftrightarrow",
    "↦": "mapsto", "⟶": "longrightarrow", "⟹": "Longrightarrow", "↑": "uparrow", "↓": "downarrow",
    "∞": "infty", "∂": "partial", "∇": "nabla", "∑": "sum", "∏": "prod", "∫": "int", "∬": "iint",
    "∮": "oint", "√": "surd", "…": "dots", "⋯": "cdots", "⋮": "vdots", "⋱": "ddots", "ℏ": "hbar",
    "ℓ": "ell", "ℜ": "Re", "ℑ": "Im", "ℝ": "mathbb{R}", "ℤ": "mathbb{Z}", "ℕ": "mathbb{N}",
    "ℚ": "mathbb{Q}", "ℂ": "mathbb{C}", "′": "prime", "″": "prime\\prime", "⟨": "langle",
    "⟩": "rangle", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "∥": "parallel",
    "∣": "mid", "⊥": "perp", "∠": "angle", "∴": "therefore", "≪": "ll", "≫": "gg", "≺": "prec",
    "≻": "succ", "†": "dagger", "∖": "setminus", "⊢": "vdash", "⊨": "models", "□": "square",
}  # fmt: skip
"""Signs whose LaTeX is a command."""
PLAIN: Final = {"−": "-", "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "\xa0": " ",
                "‖": r"\|", "{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#", "$": r"\$",
                "&": r"\&", "〈": r"\langle ", "〉": r"\rangle "}  # fmt: skip
FUNCTIONS: Final = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "arcsin",
        "arccos",
        "arctan",
        "log",
        "ln",
        "exp",
        "lim",
        "max",
        "min",
        "sup",
        "inf",
        "det",
        "dim",
        "ker",
        "deg",
        "gcd",
        "arg",
        "Pr",
        "limsup",
        "liminf",
    ]
)
ACCENTS: Final = {"^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "¯": "bar", "‾": "overline",
                  "_": "underline", "→": "vec", "⃗": "vec", "˙": "dot", ".": "dot", "¨": "ddot",
                  "⏞": "overbrace", "⏟": "underbrace", "ˇ": "check", "̂": "hat"}  # fmt: skip
VARIANTS: Final = {
    "bold": "mathbf", "double-struck": "mathbb", "script": "mathcal", "fraktur": "mathfrak",
    "sans-serif": "mathsf", "bold-italic": "boldsymbol", "monospace": "mathtt",
    "normal": "mathrm",
}  # fmt: skip
PAIRS: Final = {"(": ")", "[": "]", r"\{": r"\}", "|": "|"}
FENCES: Final = frozenset({*PAIRS, *PAIRS.values()})
MATRICES: Final = {"(": "pmatrix", "[": "bmatrix", "|": "vmatrix", r"\{": "Bmatrix"}
TALL: Final = re.compile(r"\\(?:frac|sum|prod|int|oint|begin|underset|overset|lim|max|min)\b")
LIMITS: Final = frozenset("∑∏∫⋃⋂⨁⨂∐")
MAX_DEPTH: Final = 200
BARELESS: Final = r"\genfrac{}{}{0pt}{}"
SKIPPED: Final = frozenset(
    TAG[n] for n in ("annotation", "annotation-xml", "mphantom", "none", "mprescripts")
)


def mathml_to_latex(tape: Tape, node: int) -> str:
    """LaTeX for the element at `node` and all it holds; "" where there is nothing."""
    return re.sub(r"\s+", " ", _convert(tape, node, 0)).strip()


def _children(tape: Tape, node: int) -> list[int]:
    found, at = [], node + 1
    while at <= tape.last[node]:
        number = tape.tag[at]
        if number not in SKIPPED and (
            number != TEXT or tape.source[tape.start[at] : tape.end[at]].strip()
        ):
            found.append(at)
        at = int(tape.last[at]) + 1
    return found


def _convert(tape: Tape, node: int, depth: int) -> str:
    if tape.tag[node] == TEXT:
        return _signs(raw_text(tape, node))
    if depth > MAX_DEPTH:
        return _signs(raw_text(tape, node))
    name = TAGS[tape.tag[node]]
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        return _token(tape, node, name)
    if name == "mspace":
        return " "
    children = _children(tape, node)
    parts = [_convert(tape, child, depth + 1) for child in children]

    def part(index: int) -> str:
        return parts[index].strip() if index < len(parts) else ""

    if name == "mfrac":
        if attributes(tape, node).get("linethickness", "").strip() in ("0", "0pt", "0px", "0em"):
            return rf"{BARELESS}{{{part(0)}}}{{{part(1)}}}"
        return rf"\frac{{{part(0)}}}{{{part(1)}}}"
    if name == "msqrt":
        return rf"\sqrt{{{''.join(parts).strip()}}}"
    if name == "mroot":
        return rf"\sqrt[{part(1)}]{{{part(0)}}}"
    if name in ("msub", "msup", "msubsup", "munder", "mover", "munderover"):
        return _scripted(name, part(0), part(1), part(2))
    if name == "mtable":
        rows = " \\\\ ".join(p.strip() for p in parts)
        columns = _columns(attributes(tape, node).get("columnalign", ""), rows)
        if columns:
            return rf"\begin{{array}}{{{columns}}}{rows}\end{{array}}"
        return rf"\begin{{matrix}}{rows}\end{{matrix}}"
    if name in ("mtr", "mlabeledtr"):
        return " & ".join(p.strip() for p in parts)
    if name == "mfenced":
        has = attributes(tape, node)
        separators = (has.get("separators", ",") or "").replace(" ", "")
        inner = (separators[:1] or " ").join(p.strip() for p in parts)
        opening, closing = _signs(has.get("open", "(")), _signs(has.get("close", ")"))
        return rf"\left{opening or '.'}{inner}\right{closing or '.'}"
    if name == "mmultiscripts":
        return _scripted("msubsup", part(0), part(1), part(2))
    if name == "menclose" and attributes(tape, node).get("notation", "") in ("top", "bottom"):
        side = "over" if attributes(tape, node)["notation"] == "top" else "under"
        return rf"\{side}line{{{''.join(parts).strip()}}}"
    return _with_binomials(_with_fences(tape, children, parts))


def _with_fences(tape: Tape, children: list[int], parts: list[str]) -> list[str]:
    """The parts of a row, brackets around what is tall growing with it, as MathML's do."""
    fenced = list(parts)
    opened: list[int] = []
    for k, part in enumerate(parts):
        mark = part.strip()
        if TAGS[tape.tag[children[k]]] != "mo" or mark not in FENCES:
            continue
        if mark in PAIRS and not (mark == "|" and opened and parts[opened[-1]].strip() == "|"):
            opened.append(k)
        elif opened and PAIRS[parts[opened[-1]].strip()] == mark:
            low = opened.pop()
            inner = "".join(parts[low + 1 : k]).strip()
            kind = MATRICES.get(parts[low].strip(), "")
            is_table = inner.startswith(r"\begin{matrix}") and inner.count(r"\begin{") == 1
            if is_table and kind and inner.endswith(r"\end{matrix}"):
                fenced[low] = fenced[k] = ""
                fenced[low + 1] = fenced[low + 1].replace("{matrix}", f"{{{kind}}}")
            elif TALL.search(inner) and all(_stretches(tape, children[at]) for at in (low, k)):
                fenced[low] = rf"\left{parts[low].strip()}"
                fenced[k] = rf"\right{mark}"
    return fenced


def _stretches(tape: Tape, node: int) -> bool:
    return attributes(tape, node).get("stretchy", "") != "false"


def _columns(alignment: str, rows: str) -> str:
    """An array's columns where a table says how they are set; "" where all are centred."""
    names = [name[0] for name in alignment.lower().split() if name in ("left", "right", "center")]
    if not names or set(names) == {"c"}:
        return ""
    count = max(row.count(" & ") for row in rows.split(" \\\\ ")) + 1
    return "".join(names[min(k, len(names) - 1)] for k in range(count))


def _with_binomials(parts: list[str]) -> str:
    """The parts of a row; a fraction without a bar between round brackets is a binomial."""
    joined = "".join(parts)
    if BARELESS in joined:
        pair = r"(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})"
        found = re.compile(r"\(\s*" + re.escape(BARELESS) + pair + pair + r"\s*\)")
        joined = found.sub(r"\\binom\1\2", joined)
    return joined


def _token(tape: Tape, node: int, name: str) -> str:
    text = raw_text(tape, node)
    if name in ("mtext", "ms"):
        text = re.sub(r"\s+", " ", text.strip(" \t\r\n\f").replace("\xa0", " "))
        return rf"\text{{{text}}}" if text.strip() else " "
    text = text.strip()
    if text in FUNCTIONS:
        return rf"\{text} "
    latex = _signs(text)
    variant = VARIANTS.get(attributes(tape, node).get("mathvariant", ""))
    if name == "mi" and len(text) > 1 and text.isalpha() and not variant:
        return rf"\operatorname{{{text}}}" if text.isascii() else latex
    if variant and text and (variant != "mathrm" or (len(text) == 1 and text.isalpha())):
        return rf"\{variant}{{{latex.strip()}}}"
    return latex


def _scripted(name: str, base: str, first: str, second: str) -> str:
    bare = base.strip()
    if name in ("munder", "mover") and first in {**ACCENTS, **{f"\\{c}": "" for c in ("to",)}}:
        accent = ACCENTS.get(first, "vec")
        return rf"\{accent}{{{bare}}}"
    is_operator = bare in {f"\\{SIGNS[s]}" for s in LIMITS & SIGNS.keys()} or bare.startswith(
        (r"\lim", r"\max", r"\min", r"\sup", r"\inf", r"\underbrace", r"\overbrace")
    )
    if name == "munder" and not is_operator:
        return rf"\underset{{{first}}}{{{bare}}}"
    if name == "mover" and not is_operator:
        return rf"\overset{{{first}}}{{{bare}}}"
    wrapped = bare if len(bare) <= 1 or re.fullmatch(r"\\[a-zA-Z]+", bare) else f"{{{bare}}}"
    if name in ("msub", "munder"):
        return f"{wrapped}_{{{first}}}"
    if name in ("msup", "mover"):
        return f"{wrapped}^{{{first}}}"
    lower = f"_{{{first}}}" if first else ""
    return f"{wrapped}{lower}^{{{second}}}" if second else f"{wrapped}{lower}"


def _signs(text: str) -> str:
    return "".join(f"\\{SIGNS[sign]} " if sign in SIGNS else PLAIN.get(sign, sign) for sign in text)
