"""The class of every character, as a table that the kernel reads once per character.

An entry of the table is 16 bits: the low five are the class, the others are flags. The table is
made from Python's Unicode data and codecs, so nothing in it is written by hand but the short
lists below.
"""

import functools
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Classes. Every character has exactly one.
OTHER = 0  # letters of other scripts, combining marks, what no other class takes
NEWLINE = 1
SPACE = 2
DIGIT = 3
LOWER = 4  # Latin, with accents
UPPER = 5
HAN = 6  # in GB 2312: the 6,763 characters of everyday simplified Chinese
HAN_TRADITIONAL = 7  # in Big5 and not in GB 2312
HAN_RARE = 8  # in neither
KANA = 9  # kana and hangul
CJK_PUNCTUATION = 10
ASCII_PUNCTUATION = 11
SYMBOL = 12  # mathematics, currency, arrows, box drawing, bullets
EMOJI = 13
INVISIBLE = 14  # controls, zero width, format characters
REPLACEMENT = 15  # U+FFFD, and bytes that are not UTF-8
PRIVATE = 16  # private use and unassigned
CLASSES = 17
CLASS_MASK = 31

# Flags.
TERMINAL = 1 << 5  # ends a sentence
CLOSING = 1 << 6  # may follow the end of a sentence: quotes, brackets
FUNCTION = 1 << 7  # a Chinese function character
MOJIBAKE = 1 << 8  # what the first two bytes of a Han character in UTF-8 read as in GBK
BULLET = 1 << 9  # opens a list item
CODE = 1 << 10  # braces, semicolons, operators: what program text is full of
LATIN1 = 1 << 11  # U+0080..U+00FF without the letters of European words, see `_is_latin1_debris`
COMMA = 1 << 12  # separates clauses

# Flags of `han_table`.
OPENS_TERM = 1 << 4  # stands first in a term of the word lists
FOLLOWS_IN_TERM = 1 << 5  # stands second in one

TERMINALS = "。！？；…!?.;"
CLOSINGS = "”’」』）】》〉〗)]\"'》*_"
CLAUSE_SEPARATORS = "，、：,:"
BULLETS = "•·●○■□▪▫◆◇★☆►▶◎※➤➢✓✔-*+–—"
CODE_CHARACTERS = "{}<>=;\\`|&^~_[]$#"
# The most frequent function characters of modern and of classical Chinese: a text that holds
# almost none of them is a list of names, goods or key words.
FUNCTION_CHARACTERS = (
    "的一是不了在有我他这个们来到以说要就会可也你对能而子那得于着自之过后所然么去如都同没"
    "还其些她但因只从想与把此已使又将由很最并向被什等或及比更再则却即且让由为和上下中其"
    "應這個們來說會對過後還沒從與將並無為則讓矣焉兮乎者也夫盖哉何谁吾汝尔若何未非"
)


@functools.cache
def character_table() -> NDArray[np.uint16]:
    """uint16 [65536]: class and flags of each character of the basic plane."""
    table = np.array([_classify(point) for point in range(0x10000)], np.uint16)
    for characters, flag in (
        (TERMINALS, TERMINAL),
        (CLOSINGS, CLOSING),
        (FUNCTION_CHARACTERS, FUNCTION),
        (BULLETS, BULLET),
        (CODE_CHARACTERS, CODE),
        (CLAUSE_SEPARATORS, COMMA),
        (_gbk_debris(), MOJIBAKE),
    ):
        for character in set(characters):
            table[ord(character)] |= flag
    for point in range(0x80, 0x100):
        if _is_latin1_debris(point):
            table[point] |= LATIN1
    table.setflags(write=False)
    return table


def han_table(firsts: Iterable[str], seconds: Iterable[str]) -> NDArray[np.uint8]:
    """uint8 [0x5200]: flags of U+4E00 to U+9FFF, of which a processor's first cache holds most.

    Traditional, rare, function character and mojibake are the bits 0 to 3; `firsts` and `seconds`
    are the characters that get OPENS_TERM and FOLLOWS_IN_TERM.
    """
    entries = character_table()[0x4E00:0xA000]
    kinds = entries & CLASS_MASK
    table = np.zeros(len(entries), np.uint8)
    for bit, members in enumerate(
        (
            kinds == HAN_TRADITIONAL,
            kinds == HAN_RARE,
            entries & FUNCTION != 0,
            entries & MOJIBAKE != 0,
        )
    ):
        table |= members.astype(np.uint8) << np.uint8(bit)
    for characters, flag in ((firsts, OPENS_TERM), (seconds, FOLLOWS_IN_TERM)):
        for point in map(ord, characters):
            if 0x4E00 <= point <= 0x9FFF:
                table[point - 0x4E00] |= flag
    return table


def _classify(point: int) -> int:
    character = chr(point)
    if character == "\n":
        return NEWLINE
    if point == 0xFFFD:
        return REPLACEMENT
    if 0x4E00 <= point <= 0x9FFF or 0x3400 <= point <= 0x4DBF or 0xF900 <= point <= 0xFAFF:
        return _han_class(character)
    if point == 0x3007:  # 〇 is a digit in Chinese and stands among Han characters
        return HAN
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp") or character in "\t\r\f\v":
        return SPACE
    if category in ("Cc", "Cf"):
        return INVISIBLE
    if category in ("Co", "Cn", "Cs"):
        return PRIVATE
    if category == "Nd":
        return DIGIT
    if category[0] == "L" or category == "Nl":
        return _letter_class(character, category)
    if point < 0x80:
        return ASCII_PUNCTUATION
    if 0x2600 <= point <= 0x27BF:
        return EMOJI if category == "So" else SYMBOL
    if category[0] == "P":
        return CJK_PUNCTUATION  # “ ” … — are shared with English and count here
    return SYMBOL if category[0] in "SN" else OTHER


def _han_class(character: str) -> int:
    for codec, label in (("gb2312", HAN), ("big5", HAN_TRADITIONAL)):
        try:
            character.encode(codec)
        except UnicodeEncodeError:
            continue
        return label
    return HAN_RARE


def _letter_class(character: str, category: str) -> int:
    point = ord(character)
    if point < 0x250 or 0x1E00 <= point <= 0x1EFF or 0xFF21 <= point <= 0xFF5A:
        return UPPER if category == "Lu" else LOWER
    if 0x3040 <= point <= 0x30FF or 0x31F0 <= point <= 0x31FF or 0x1100 <= point <= 0x11FF:
        return KANA
    return KANA if 0xAC00 <= point <= 0xD7AF else OTHER


def _gbk_debris() -> str:
    """The 384 characters that UTF-8's Han characters begin with when they are read as GBK."""
    pairs = [bytes([lead, trail]) for lead in range(0xE4, 0xEA) for trail in range(0x80, 0xC0)]
    decoded = [pair.decode("gb18030", "ignore") for pair in pairs]
    # What a reader also meets in good text is told apart by its share, not by its absence.
    return "".join(decoded) + "锛銆鈥"


def _is_latin1_debris(point: int) -> bool:
    """Whether Latin-1 shows this for a byte of a Han character in UTF-8.

    The accented letters of French, German, Spanish and so on lie above U+00BF too; what betrays
    bytes is that they are followed by U+0080..U+00BF, so the kernel asks for both.
    """
    return 0x80 <= point <= 0xBF and point != 0xB7  # · stands in Chinese names
