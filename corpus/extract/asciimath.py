"""AsciiMath to LaTeX, by the grammar that its authors publish (asciimath.org).

`S` is a simple expression: a sign, a bracketed expression, or a command with its arguments; `I` is
one with its subscript and superscript; `E` a row of these, where `/` makes a fraction of its two
neighbours. Brackets around an argument of a command, a script or a fraction are not written.
"""

import re
from typing import Final

from corpus.extract.html_names import named

MAX_DEPTH: Final = 60
MAX_LENGTH: Final = 4000

_SAME: Final = named(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega varepsilon vartheta varphi Gamma Delta Theta Lambda Xi Pi Sigma Phi "
    "Psi Omega sum prod int oint times div ltimes rtimes bowtie circ oplus otimes odot wedge vee "
    "cap cup bigwedge bigvee bigcap bigcup ne le ge leq geq lt gt prec succ preceq succeq in notin "
    "subset supset subseteq supseteq equiv cong sim approx propto neg implies iff forall exists "
    "bot top vdash models partial nabla pm mp emptyset infty aleph ldots cdots vdots ddots "
    "therefore because angle triangle prime quad qquad frown diamond square lfloor rfloor lceil "
    "rceil uparrow downarrow rightarrow leftarrow leftrightarrow Rightarrow Leftarrow "
    "Leftrightarrow mapsto to twoheadrightarrow rightarrowtail cdot ast star backslash setminus "
    "langle rangle"
)
SIGNS: Final = {
    **{name: f"\\{name}" for name in _SAME},
    "*": r"\cdot", "**": r"\ast", "***": r"\star", "//": "/", "\\\\": r"\backslash",
    "xx": r"\times", "-:": r"\div", "|><": r"\ltimes", "><|": r"\rtimes", "|><|": r"\bowtie",
    "@": r"\circ", "o+": r"\oplus", "ox": r"\otimes", "o.": r"\odot", "^^": r"\wedge",
    "^^^": r"\bigwedge", "vv": r"\vee", "vvv": r"\bigvee", "nn": r"\cap", "nnn": r"\bigcap",
    "uu": r"\cup", "uuu": r"\bigcup", "!=": r"\ne", ":=": ":=", "<=": r"\le", "lt=": r"\leq",
    ">=": r"\ge", "gt=": r"\geq", "-<": r"\prec", "-lt": r"\prec", ">-": r"\succ",
    "-<=": r"\preceq", ">-=": r"\succeq", "!in": r"\notin", "sub": r"\subset", "sup": r"\supset",
    "sube": r"\subseteq", "supe": r"\supseteq", "-=": r"\equiv", "~=": r"\cong", "~~": r"\approx",
    "~": r"\sim", "prop": r"\propto", "and": r"\text{ and }", "or": r"\text{ or }",
    "if": r"\text{if }", "otherwise": r"\text{otherwise }", "not": r"\neg", "=>": r"\Rightarrow",
    "<=>": r"\Leftrightarrow", "AA": r"\forall", "EE": r"\exists", "_|_": r"\bot", "TT": r"\top",
    "|--": r"\vdash", "|==": r"\models", "del": r"\partial", "grad": r"\nabla", "+-": r"\pm",
    "-+": r"\mp", "O/": r"\emptyset", "oo": r"\infty", "...": r"\ldots", ":.": r"\therefore",
    ":'": r"\because", "/_": r"\angle", "/_\\": r"\triangle", "'": "'", "|__": r"\lfloor",
    "__|": r"\rfloor", "|~": r"\lceil", "~|": r"\rceil", "CC": r"\mathbb{C}", "NN": r"\mathbb{N}",
    "QQ": r"\mathbb{Q}", "RR": r"\mathbb{R}", "ZZ": r"\mathbb{Z}", "uarr": r"\uparrow",
    "darr": r"\downarrow", "rarr": r"\rightarrow", "->": r"\to", ">->": r"\rightarrowtail",
    "->>": r"\twoheadrightarrow", "|->": r"\mapsto", "larr": r"\leftarrow",
    "harr": r"\leftrightarrow", "rArr": r"\Rightarrow", "lArr": r"\Leftarrow",
    "hArr": r"\Leftrightarrow", "\\ ": r"\ ", "dx": "dx", "dy": "dy",
    "dz": "dz", "dt": "dt", "\\": r"\backslash", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$",
}  # fmt: skip
"""Signs and names that stand for themselves."""
FUNCTIONS: Final = {
    **{name: f"\\{name}" for name in named(
        "sin cos tan sec csc cot arcsin arccos arctan sinh cosh tanh coth exp log ln det dim gcd "
        "min max lim ker inf"
    )},
    **{name: rf"\operatorname{{{name}}}" for name in named("sech csch mod lcm lub glb Lim")},
}  # fmt: skip
"""Names that take what follows them along, its brackets kept."""
UNARY: Final = {
    "sqrt": r"\sqrt", "hat": r"\hat", "bar": r"\overline", "overline": r"\overline",
    "vec": r"\vec", "dot": r"\dot", "ddot": r"\ddot", "tilde": r"\tilde", "ul": r"\underline",
    "underline": r"\underline", "ubrace": r"\underbrace", "underbrace": r"\underbrace",
    "obrace": r"\overbrace", "overbrace": r"\overbrace", "cancel": r"\cancel", "bb": r"\mathbf",
    "mathbf": r"\mathbf", "bbb": r"\mathbb", "mathbb": r"\mathbb", "cc": r"\mathcal",
    "mathcal": r"\mathcal", "tt": r"\mathtt", "mathtt": r"\mathtt", "fr": r"\mathfrak",
    "mathfrak": r"\mathfrak", "sf": r"\mathsf", "mathsf": r"\mathsf", "overarc": r"\overparen",
}  # fmt: skip
BETWEEN: Final = {
    "abs": ("|", "|"), "norm": (r"\|", r"\|"), "floor": (r"\lfloor ", r" \rfloor"),
    "ceil": (r"\lceil ", r" \rceil"),
}  # fmt: skip
BINARY: Final = {
    "frac": r"\frac", "root": r"\sqrt", "stackrel": r"\overset", "overset": r"\overset",
    "underset": r"\underset",
}  # fmt: skip
TEXTS: Final = frozenset(("text", "mbox"))
LEFT: Final = {
    "(": "(", "[": "[", "{": r"\{", "(:": r"\langle ", "<<": r"\langle ", "{:": "",
}  # fmt: skip
RIGHT: Final = {
    ")": ")", "]": "]", "}": r"\}", ":)": r" \rangle", ">>": r" \rangle", ":}": "",
}  # fmt: skip
_NAMES: Final = sorted(
    {*SIGNS, *FUNCTIONS, *UNARY, *BETWEEN, *BINARY, *TEXTS, *LEFT, *RIGHT}, key=len, reverse=True
)
TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"[^\"]*\"|(?:text|mbox)\s*\([^()]*\))|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>" + "|".join(map(re.escape, _NAMES)) + r")|(?P<sign>\S))"
)
TALL: Final = re.compile(r"\\(?:frac|sum|prod|int|oint|begin|overset|underset)\b")


def asciimath_to_latex(source: str) -> str:
    """LaTeX of an AsciiMath formula; "" where it is too long or too deep to be one."""
    if len(source) > MAX_LENGTH:
        return ""
    tokens = [(found.lastgroup or "", found[0].strip()) for found in TOKEN.finditer(source)]
    try:
        row = _Parser(tokens).row(0, ())
    except RecursionError:
        return ""
    return re.sub(r"\s+", " ", row).strip()


class _Parser:
    """Reads tokens from left to right; `at` is the next."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0
        self.closes: dict[int, int] = {}
        opened: list[int] = []
        for at, (kind, token) in enumerate(tokens):
            if kind == "text":
                continue
            if token in LEFT:
                opened.append(at)
            elif token in RIGHT and opened:
                self.closes[opened.pop()] = at

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def row(self, depth: int, ends: tuple[str, ...]) -> str:
        """`E`, up to one of `ends` or, inside brackets, to any closing bracket."""
        if depth > MAX_DEPTH:
            raise RecursionError
        parts: list[str] = []
        while self.at < len(self.tokens):
            token = self.peek()
            if token in ends or (depth and token in RIGHT):
                break
            first, shed = self.scripted(depth)
            if self.peek() == "/":
                self.at += 1
                _, below = self.scripted(depth) if self.at < len(self.tokens) else ("", "")
                first = rf"\frac{{{shed}}}{{{below}}}"
            parts.append(first)
        return _joined(parts)

    def scripted(self, depth: int) -> tuple[str, str]:
        """`I`: as it is written, and as an argument, without its brackets."""
        base, shed = self.simple(depth)
        scripts = ""
        for sign in ("_", "^"):
            if self.peek() == sign:
                self.at += 1
                sign_before = self.peek() if self.peek() in ("-", "+") else ""
                self.at += len(sign_before)
                _, script = self.simple(depth)
                script = sign_before + script
                scripts += f"{sign}{{{script}}}"
        if not scripts:
            return base, shed
        return (base + scripts,) * 2

    def simple(self, depth: int) -> tuple[str, str]:
        """`S`: as it is written, and without the brackets around it."""
        if self.at >= len(self.tokens) or depth > MAX_DEPTH:
            if depth > MAX_DEPTH:
                raise RecursionError
            return "", ""
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "text":
            inner = token[1:-1] if token[0] == '"' else token[token.index("(") + 1 : -1]
            inner = re.sub(r"([{}])", r"\\\1", inner)
            return (rf"\text{{{inner}}}",) * 2
        if token in LEFT:
            return self.bracketed(token, depth)
        if token == "|":
            return self.bars(depth)
        if token in UNARY or token in BETWEEN:
            _, argument = self.simple(depth + 1)
            opening, closing = BETWEEN.get(token, (UNARY.get(token, "") + "{", "}"))
            return (opening + argument + closing,) * 2
        if token in BINARY:
            _, one = self.simple(depth + 1)
            _, two = self.simple(depth + 1)
            first = f"[{one}]" if token == "root" else f"{{{one}}}"
            return (f"{BINARY[token]}{first}{{{two}}}",) * 2
        if token in FUNCTIONS:
            if self.peek() in ("", "^", "_", "/", "|", ",") or self.peek() in RIGHT:
                return (FUNCTIONS[token],) * 2
            argument, _ = self.scripted(depth + 1)
            return (_joined([FUNCTIONS[token], argument]),) * 2
        if token in ("f", "g") and self.peek() == "(":
            argument, _ = self.simple(depth + 1)
            return (token + argument,) * 2
        return (SIGNS.get(token) or RIGHT.get(token, token),) * 2

    def bracketed(self, opening: str, depth: int) -> tuple[str, str]:
        start = self.at
        end = self.closes.get(start - 1)
        if end is None:  # never closed: the bracket stands by itself
            return (LEFT[opening],) * 2
        closing = self.tokens[end][1]
        rows = self.rows(start, end)
        if rows:
            self.at = end + 1
            cells = [[_Parser(self.tokens[a:b]).row(depth + 1, ()) for a, b in row] for row in rows]
            return (_matrix(cells, opening, closing),) * 2
        inner = self.row(depth + 1, ())
        self.at = end + 1
        left, right = LEFT[opening], RIGHT[closing]
        if TALL.search(inner):
            left, right = rf"\left{left.strip() or '.'} ", rf"\right{right.strip() or '.'}"
        whole = f"{left}{inner}{right}"
        return whole, inner if opening in "([{" else whole

    def bars(self, depth: int) -> tuple[str, str]:
        """`|x|`, or a bar by itself."""
        at = self.at
        while at < len(self.tokens) and self.tokens[at][1] not in ("|", *RIGHT):
            at = self.closes.get(at, at) + 1
        if at == self.at or at >= len(self.tokens) or self.tokens[at][1] != "|":
            return (r"\mid",) * 2
        inner = self.row(depth + 1, ("|",))
        self.at = at + 1
        tall = TALL.search(inner) is not None
        return (rf"\left|{inner}\right|" if tall else f"|{inner}|",) * 2

    def rows(self, start: int, end: int) -> list[list[tuple[int, int]]]:
        """The cells of a matrix between two tokens, as ranges of tokens; [] where there is none."""
        found: list[list[tuple[int, int]]] = []
        at = start
        while at < end:
            close = self.closes.get(at)
            if self.tokens[at][1] not in ("(", "[") or close is None or close >= end:
                return []
            cells, first, inside = [], at + 1, at + 1
            while inside < close:
                if self.tokens[inside][1] == ",":
                    cells.append((first, inside))
                    first = inside + 1
                inside = self.closes.get(inside, inside) + 1
            found.append([*cells, (first, close)])
            at = close + 1
            if at < end and self.tokens[at][1] != ",":
                return []
            at += 1
        return found if len(found) > 1 and len({len(row) for row in found}) == 1 else []


def _matrix(rows: list[list[str]], opening: str, closing: str) -> str:
    body = r" \\ ".join(" & ".join(row) for row in rows)
    if opening == "{" and closing == ":}":
        return rf"\begin{{cases}}{body}\end{{cases}}"
    names = {("(", ")"): "pmatrix", ("[", "]"): "bmatrix", ("{", "}"): "Bmatrix"}
    name = names.get((opening, closing))
    if name:
        return rf"\begin{{{name}}}{body}\end{{{name}}}"
    left, right = LEFT[opening].strip() or ".", RIGHT[closing].strip() or "."
    return rf"\left{left}\begin{{matrix}}{body}\end{{matrix}}\right{right}"


def _joined(parts: list[str]) -> str:
    """Parts side by side; a command and a letter after it are kept apart."""
    pieces: list[str] = []
    for part in parts:
        if pieces and re.search(r"\\[A-Za-z]+$", pieces[-1]) and part[:1].isalpha():
            pieces.append(" ")
        pieces.append(part)
    return "".join(pieces)
