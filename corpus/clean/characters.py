"""Character-level cleaning: one spelling for one character, and nothing that is not text.

Chinese punctuation stays as it is (，。：；？！（）“” and so on); full-width letters, digits and a
few symbols become half-width. Fenced code keeps its spelling. Each rule names itself in the edits
and says how many characters it removed or changed.
"""

import functools
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from corpus.clean import prefilter as flag

HAN = "\u3400-\u4dbf\u4e00-\u9fff\u3007"

# U+FF01.. to ASCII, for what is not Chinese punctuation. （）！，：；？～ and 【】 stay.
FULL_WIDTH = {
    code: code - 0xFEE0
    for code in range(0xFF01, 0xFF5F)
    if chr(code - 0xFEE0).isalnum() or chr(code - 0xFEE0) in "#$%&+/=@"
}
# The bullets that Wingdings and Symbol put into the private-use area.
PRIVATE_BULLETS = dict.fromkeys(
    (0xF06C, 0xF06E, 0xF0A7, 0xF0A8, 0xF0B7, 0xF0D8, 0xF0FC, 0xF075, 0xF09F), "•"
)
LINE_BREAKS = ("\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029")
SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# Left-to-right marks and the like; the joiners U+200C and U+200D shape Persian, Hindi and emoji
# and stay between characters beyond Han and ASCII.
INVISIBLE = (
    "\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
)
CONTROLS = "\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff"
PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd\ufdd0-\ufdef\ufffe\uffff"

_BREAK = re.compile("|".join(map(re.escape, LINE_BREAKS)))
_SPACE = re.compile(f"[{SPACES}]")
_INVISIBLE = re.compile(
    f"[{INVISIBLE}]|[\u200c\u200d]{{2,}}|(?<![^\x00-\x7f{HAN}])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f{HAN}])"
)
_INVISIBLE_SET = re.compile(f"[{INVISIBLE}\u200c\u200d]")
_FULL_WIDTH = re.compile("[" + "".join(map(chr, FULL_WIDTH)) + "]")
_CONTROL = re.compile(f"[{CONTROLS}]")
_PRIVATE = re.compile(f"[{PRIVATE}]")
_REPLACEMENT = re.compile("\ufffd")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# PDFs give radicals and ligatures where the characters themselves are meant.
_COMPATIBLE = re.compile("[\u2e80-\u2fdf\uf900-\ufaff\ufb00-\ufb06]|[\U0002f800-\U0002fa1f]")
# Look-behinds follow the character that they are about: a pattern that begins with one is tried
# at every place of the text, slowly.
_FULL_WIDTH_STOP = re.compile(r"．(?<=[0-9]．)|－(?<=[0-9A-Za-z]－)(?=[0-9A-Za-z])")
_RUN = re.compile(r"([！？。，、；：!?~～])\1{3,}|([.·…—＿_*=#-])\2{19,}")
# 招 股 意 向 书: single characters, each between spaces.
_LETTER_SPACED = re.compile(f"[{HAN}](?<![{HAN}].)(?: +[{HAN}](?![{HAN}])){{2,}}")
_SPACED_PAIR = re.compile(f" (?<=[{HAN}] ) *(?=[{HAN}])")
_HAN_RUN = re.compile(f"[{HAN}]+")
# The look-behind keeps a run of spaces from being tried at each of its places.
_TRAILING = re.compile(r"[ \t](?<![ \t].)[ \t]*(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{4,}")
_FENCE = re.compile(r"^(?:```|~~~).*?(?:^(?:```|~~~)[ \t]*$|\Z)", re.M | re.S)

Edits = Counter[str]


def clean_characters(text: str, flags: int, edits: Edits) -> str:
    """`text` with its characters mended; adds to `edits` what each rule changed.

    `flags` (`corpus.clean.prefilter.character_flags` of this text) say which rules to try. What
    one rule uncovers for another is found when the caller comes again with new flags.
    """
    if flags & flag.BREAK:
        text = _replace(_BREAK, "\n", text, edits, "line-breaks")
    if flags & flag.CONTROL:
        text = _replace(_CONTROL, "", text, edits, "control-characters")
    if "```" in text or "~~~" in text:
        parts, position = [], 0
        for fence in _FENCE.finditer(text):
            parts.append(_mend(text[position : fence.start()], flags, edits))
            parts.append(_visible(fence[0], flags, edits))
            position = fence.end()
        parts.append(_mend(text[position:], flags, edits))
        text = "".join(parts)
    else:
        text = _mend(text, flags, edits)
    return _tidy(text, edits) if flags & flag.EDGES else text


def _mend(text: str, flags: int, edits: Edits) -> str:
    if flags & flag.ENTITY:
        text = _replace(_ENTITY, _unescape, text, edits, "html-entities")
    text = _visible(text, flags, edits)
    if flags & flag.SPACE:
        text = _replace(_SPACE, " ", text, edits, "spaces")
    if flags & flag.FULL_WIDTH:
        text = _replace(_FULL_WIDTH, _half_width, text, edits, "full-width")
        text = _replace(_FULL_WIDTH_STOP, _half_width, text, edits, "full-width")
    if flags & flag.COMPATIBLE:
        text = _replace(_COMPATIBLE, _compatible, text, edits, "compatibility-forms")
    if flags & flag.COMPOSITION and not unicodedata.is_normalized("NFC", text):
        composed = unicodedata.normalize("NFC", text)
        edits["composition"] += max(1, len(text) - len(composed))
        text = composed
    if flags & flag.RUN:
        text = _replace(_RUN, _shorten, text, edits, "punctuation-runs")
    return _close_spaces(text, edits) if flags & flag.SPACED_HAN else text


def _visible(text: str, flags: int, edits: Edits) -> str:
    if flags & flag.INVISIBLE:
        text = _replace(_INVISIBLE, "", text, edits, "invisible-characters")
    if flags & flag.PRIVATE:
        text = _replace(_PRIVATE, _bullet, text, edits, "private-characters")
    if flags & flag.REPLACEMENT:
        text = _replace(_REPLACEMENT, "", text, edits, "replacement-characters")
    return text


def invisible_characters() -> str:
    """Every character that the rule of that name may remove."""
    everything = "".join(map(chr, range(0x10000)))
    return "".join(_INVISIBLE_SET.findall(everything))


def _tidy(text: str, edits: Edits) -> str:
    text = _replace(_TRAILING, "", text, edits, "trailing-spaces")
    text = _replace(_BLANK_LINES, "\n\n\n", text, edits, "blank-lines")
    stripped = text.strip("\n")
    if len(stripped) != len(text):
        edits["blank-lines"] += len(text) - len(stripped)
    return stripped


def _replace(
    pattern: re.Pattern[str],
    by: str | Callable[[re.Match[str]], str],
    text: str,
    edits: Edits,
    rule: str,
) -> str:
    changed = 0

    def substitute(match: re.Match[str]) -> str:
        nonlocal changed
        found = match[0]
        new = by if isinstance(by, str) else by(match)
        if new != found:
            changed += max(len(found) - len(new), 1)
        return new

    result = pattern.sub(substitute, text)
    if changed:
        edits[rule] += changed
    return result


def _unescape(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _half_width(match: re.Match[str]) -> str:
    return chr(ord(match[0]) - 0xFEE0)


def _bullet(match: re.Match[str]) -> str:
    return PRIVATE_BULLETS.get(ord(match[0]), "")


@functools.lru_cache(4096)
def _compatibility_form(character: str) -> str:
    return unicodedata.normalize("NFKC", character)


def _compatible(match: re.Match[str]) -> str:
    return _compatibility_form(match[0])


def _shorten(match: re.Match[str]) -> str:
    return match[0][: 3 if match[1] else 19]


def _close_spaces(text: str, edits: Edits) -> str:
    pairs = len(_SPACED_PAIR.findall(text))
    if not pairs:
        return text
    if pairs >= 3 and pairs > flag.SPACED_SHARE * sum(map(len, _HAN_RUN.findall(text))):
        return _replace(_SPACED_PAIR, "", text, edits, "spaces-between-han")
    return _replace(
        _LETTER_SPACED, lambda match: match[0].replace(" ", ""), text, edits, "spaces-between-han"
    )
