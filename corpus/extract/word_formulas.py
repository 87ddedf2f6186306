"""Word's formulas (Office Math, ECMA-376 part 1, 22.1) as LaTeX in the text around them.

mammoth passes them over, so they are written into the document as text before it reads it.
"""

import io
import zipfile
from collections.abc import Callable
from typing import Any

M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
PART = "word/document.xml"
NARY = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "⋃": r"\bigcup", "⋂": r"\bigcap", "": r"\int"}
ACCENTS = {
    "\u0302": r"\hat", "\u0303": r"\tilde", "\u0305": r"\bar", "\u20d7": r"\vec", "\u0307": r"\dot",
}  # fmt: skip
DEEPEST = 60


def with_formulas(archive: zipfile.ZipFile) -> io.BytesIO:
    """The archive with each formula of its body as a run of text, `$…$` or `$$…$$`."""
    from lxml import etree

    body = archive.read(PART)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as copy:
        for name in dict.fromkeys(archive.namelist()):
            if name.endswith((".xml", ".rels")) and name != PART:
                copy.writestr(name, archive.read(name))
        if b"oMath" in body:
            parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
            root = etree.fromstring(body, parser)
            for formula in [*root.iter(f"{M}oMathPara"), *root.iter(f"{M}oMath")]:
                if formula.getparent() is not None:
                    _replace(formula)
            body = etree.tostring(root, encoding="utf-8", xml_declaration=True)
        copy.writestr(PART, body)
    result.seek(0)
    return result


def _replace(formula: Any) -> None:
    displayed = formula.tag == f"{M}oMathPara"
    latex = " ".join(_latex(formula).split())
    parent = formula.getparent()
    if not latex or parent.tag == f"{M}oMathPara":
        return
    run = formula.makeelement(f"{W}r")
    text = run.makeelement(f"{W}t")
    text.text = f"$${latex}$$" if displayed else f"${latex}$"
    run.append(text)
    run.tail = formula.tail
    parent.replace(formula, run)


def _latex(node: Any, depth: int = 0) -> str:
    if depth > DEEPEST:
        return "".join(node.itertext())
    write = _WRITERS.get(str(node.tag).removeprefix(M))
    if write is not None:
        return write(node, depth)
    if node.tag == f"{M}t":
        return node.text or ""
    return "".join(_latex(child, depth + 1) for child in node)


def _part(node: Any, name: str, depth: int) -> str:
    found = node.find(f"{M}{name}")
    return _latex(found, depth + 1).strip() if found is not None else ""


def _property(node: Any, name: str, otherwise: str) -> str:
    found = node.find(f"{M}{str(node.tag).removeprefix(M)}Pr/{M}{name}")
    return otherwise if found is None else str(found.get(f"{M}val") or "")


def _fraction(node: Any, depth: int) -> str:
    return rf"\frac{{{_part(node, 'num', depth)}}}{{{_part(node, 'den', depth)}}}"


def _scripts(node: Any, depth: int) -> str:
    sub, sup = _part(node, "sub", depth), _part(node, "sup", depth)
    below = f"_{{{sub}}}" if sub else ""
    above = f"^{{{sup}}}" if sup else ""
    return f"{_part(node, 'e', depth)}{below}{above}"


def _root(node: Any, depth: int) -> str:
    degree = _part(node, "deg", depth)
    return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_part(node, 'e', depth)}}}"


def _nary(node: Any, depth: int) -> str:
    sign = _property(node, "chr", "∫")
    limits = _scripts(node, depth).removeprefix(_part(node, "e", depth))
    return f"{NARY.get(sign, sign)}{limits} {_part(node, 'e', depth)}"


def _delimited(node: Any, depth: int) -> str:
    parts = [_latex(child, depth + 1).strip() for child in node.findall(f"{M}e")]
    left, right = _property(node, "begChr", "("), _property(node, "endChr", ")")
    inner = _property(node, "sepChr", "|").join(parts)
    return rf"\left{_escaped(left)} {inner} \right{_escaped(right)}"


def _escaped(delimiter: str) -> str:
    return {"": ".", "{": r"\{", "}": r"\}"}.get(delimiter, delimiter)


def _accent(node: Any, depth: int) -> str:
    accent = ACCENTS.get(_property(node, "chr", "\u0302"), r"\hat")
    return f"{accent}{{{_part(node, 'e', depth)}}}"


def _rows(node: Any, depth: int) -> str:
    rows = node.findall(f"{M}mr") or node.findall(f"{M}e")
    lines = [
        " & ".join(_latex(cell, depth + 1).strip() for cell in row.findall(f"{M}e") or [row])
        for row in rows
    ]
    name = "matrix" if node.tag == f"{M}m" else "aligned"
    return rf"\begin{{{name}}} " + r" \\ ".join(lines) + rf" \end{{{name}}}"


def _nothing(node: Any, depth: int) -> str:
    return ""


def _function(node: Any, depth: int) -> str:
    name = _part(node, "fName", depth)
    slash = "\\" if name.isascii() and name.isalpha() else ""
    return f"{slash}{name} {_part(node, 'e', depth)}"


def _limit(node: Any, depth: int) -> str:
    mark = "_" if node.tag == f"{M}limLow" else "^"
    return f"{_part(node, 'e', depth)}{mark}{{{_part(node, 'lim', depth)}}}"


_WRITERS: dict[str, Callable[[Any, int], str]] = {
    "f": _fraction, "sSup": _scripts, "sSub": _scripts, "sSubSup": _scripts, "rad": _root,
    "nary": _nary, "d": _delimited, "acc": _accent, "m": _rows, "eqArr": _rows, "func": _function,
    "limLow": _limit, "limUpp": _limit,
    **dict.fromkeys(("rPr", "ctrlPr", "fPr", "sSupPr", "sSubPr", "naryPr", "dPr"), _nothing),
}  # fmt: skip
