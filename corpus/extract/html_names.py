"""Names that HTML gives things: tags with their parsing rules, and words in class and id names."""

from typing import Final

import numpy as np
import numpy.typing as npt

FNV_OFFSET: Final = 0xCBF29CE484222325
FNV_PRIME: Final = 0x100000001B3

TAGS: Final = (
    "", "#text", "html", "head", "body", "title", "meta", "link", "base", "script", "style",
    "noscript", "template", "iframe", "object", "embed", "param", "canvas", "svg", "math", "div",
    "p", "section", "article", "main", "header", "footer", "nav", "aside", "address", "h1", "h2",
    "h3", "h4", "h5", "h6", "hgroup", "ul", "ol", "li", "dl", "dt", "dd", "menu", "dir",
    "blockquote", "q", "pre", "code", "samp", "kbd", "tt", "var", "xmp", "listing", "plaintext",
    "table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "td", "th", "form",
    "fieldset", "legend", "label", "input", "button", "select", "option", "optgroup", "textarea",
    "datalist", "output", "progress", "meter", "details", "summary", "dialog", "figure",
    "figcaption", "picture", "source", "img", "image", "audio", "video", "track", "map", "area",
    "a", "abbr", "acronym", "b", "strong", "i", "em", "u", "s", "strike", "del", "ins", "mark",
    "small", "big", "sub", "sup", "span", "font", "cite", "dfn", "time", "data", "bdi", "bdo",
    "ruby", "rt", "rp", "rb", "wbr", "br", "hr", "center", "nobr", "marquee", "applet",
    "frame", "frameset", "noframes", "noembed", "slot", "search", "annotation",
    "annotation-xml", "semantics", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac",
    "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts",
    "mprescripts", "none", "mtable", "mtr", "mlabeledtr", "mtd", "mfenced", "menclose", "mstyle",
    "mpadded", "mphantom", "merror", "mjx-container", "mjx-assistive-mml", "mjx-math", "#comment",
)  # fmt: skip
"""Tag numbers are indices into this; 0 is any other element."""

TAG: Final = {name: number for number, name in enumerate(TAGS)}


def named(names: str) -> list[str]:
    """Names written with spaces between them."""
    return names.split()


def _set(*names: str) -> npt.NDArray[np.bool_]:
    flags = np.zeros(len(TAGS), np.bool_)
    flags[[TAG[name] for name in " ".join(names).split()]] = True
    return flags


VOID: Final = _set(
    "meta link base param embed input source img image track area col wbr br hr frame mprescripts"
)
RAW_TEXT: Final = _set("script style title textarea xmp iframe noframes noembed plaintext")
"""Elements whose content is text up to their end tag, whatever it holds."""
BLOCK: Final = _set(
    "html body div p section article main header footer nav aside address h1 h2 h3 h4 h5 h6 hgroup",
    "ul ol li dl dt dd menu dir blockquote pre xmp listing plaintext table caption thead tbody",
    "tfoot tr td th form fieldset legend details summary dialog figure figcaption hr center",
    "marquee frameset search optgroup option select textarea template noscript head iframe object",
    "title script style",
)
"""Elements that begin and end a line."""
CLOSES_P: Final = _set(
    "div p section article main header footer nav aside address h1 h2 h3 h4 h5 h6 hgroup ul ol dl",
    "menu dir blockquote pre xmp listing plaintext table form fieldset details summary dialog",
    "figure figcaption hr center search li dt dd",
)
SCOPE: Final = _set(
    "html table td th caption template object applet marquee mi mo mn ms mtext annotation-xml"
)
"""An element outside one of these is not closed from inside it."""
FOREIGN: Final = _set(
    "svg math annotation annotation-xml semantics mrow mi mn mo ms mtext mspace mfrac msqrt mroot",
    "msub msup msubsup munder mover munderover mmultiscripts none mtable mtr mlabeledtr mtd",
    "mfenced menclose mstyle mpadded mphantom merror",
)
"""Elements that `/>` closes; in HTML proper it does not."""


def fnv(name: str) -> int:
    """The 64-bit FNV-1a hash of a lower-case name, as the tokenizer computes it."""
    value = FNV_OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def hashed(names: dict[str, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Names and their numbers as two arrays, in order of the names' hashes."""
    pairs = sorted((fnv(name), number) for name, number in names.items())
    return (
        np.array([pair[0] for pair in pairs], np.uint64),
        np.array([pair[1] for pair in pairs], np.int64),
    )


TAG_HASHES, TAG_NUMBERS = hashed(
    {name: number for name, number in TAG.items() if name and name[0] != "#"}
)
