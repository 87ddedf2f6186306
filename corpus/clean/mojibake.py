"""Text whose UTF-8 was read in another encoding, led back to what it was where that is certain.

Certain means: the characters, written in the wrong encoding again, are bytes that are UTF-8 without
a fault. Latin-1, Windows-1252 and their like are left to ftfy (Speer, 2019); GBK, which ftfy does
not know, is done here: three or more Han characters of good text whose GBK happens to be the UTF-8
of Chinese are not to be met with. Of a text that would stay damaged in part nothing is changed: it
is dropped for its damage by the rules that follow, as a text with holes would be.
"""

import re
from collections import Counter
from collections.abc import Callable

import ftfy

from corpus.clean import prefilter as flag

GBK = "mojibake-gbk"
LATIN1 = "mojibake-latin1"
LONGEST_LINE = 1_000_000  # characters; no page's text has a longer line
FEWEST_PAIRS = 2  # a single é followed by a mark is no proof

RESIDUE = 0.1  # of the pairs, which may be text

_CONFIG = ftfy.TextFixerConfig(unescape_html=False, replace_lossy_sequences=False)
_STRETCH = re.compile(r"[^\x00-\x7f]{3,}")
_CJK = re.compile(r"[\u2010-\u2026\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]{3,}")
# Lead bytes of UTF-8 and what follows them, as Latin-1 or as Windows-1252 shows them.
_PAIR = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")

Mender = Callable[[str], str | None]
"""A line led back to text, or None where nothing in it is certain mojibake."""


def repair(text: str, flags: int, edits: Counter[str]) -> str:
    """`text` repaired, with the characters that were wrong counted in `edits`; or as it is.

    `flags` are `corpus.clean.prefilter.character_flags` of this text.
    """
    if flags & flag.GBK_DEBRIS:
        mended, wrong = _by_lines(text, _from_gbk)
        if wrong and "\ufffd" not in mended and not flag.flags_of(mended) & flag.GBK_DEBRIS:
            text = mended
            edits[GBK] += wrong
    if flags & flag.LATIN1_DEBRIS and (pairs := len(_PAIR.findall(text))) >= FEWEST_PAIRS:
        mended, wrong = _by_lines(text, _from_latin1)
        # é… is what it is, and may stand beside what was wrong.
        if wrong and len(_PAIR.findall(mended)) <= RESIDUE * pairs:
            text = mended
            edits[LATIN1] += wrong
    return text


def _by_lines(text: str, mend: Mender) -> tuple[str, int]:
    """The text with its lines mended, and how many of their characters were wrong."""
    lines = text.split("\n")
    wrong = 0
    for place, line in enumerate(lines):
        if line.isascii() or len(line) > LONGEST_LINE:
            continue
        mended = mend(line)
        if mended is not None:
            lines[place] = mended
            wrong += max(1, len(line) - len(mended))
    return "\n".join(lines), wrong


def _from_gbk(line: str) -> str | None:
    """The line with each stretch beyond ASCII that was UTF-8 read as GBK led back."""
    changed = False

    def lead_back(match: re.Match[str]) -> str:
        nonlocal changed
        try:
            text = match[0].encode("gb18030").decode("utf-8")
        except UnicodeError:
            return match[0]
        if not _CJK.fullmatch(text):
            return match[0]
        changed = True
        return text

    result = _STRETCH.sub(lead_back, line)
    return result if changed else None


def _from_latin1(line: str) -> str | None:
    if not _PAIR.search(line):
        return None
    result = ftfy.fix_encoding(line, _CONFIG)
    return result if result != line else None
