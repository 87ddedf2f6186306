"""Counting words by script: what tells Chinese, Japanese, Korean and Latin texts apart.

Every Han character, kana and hangul syllable counts as a word, and every run of letters of another
script: so the code and the addresses in a Chinese document do not outweigh its Chinese.
"""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from classifiers.fold import PLANE, is_han, traditional_to_simplified
from corpus.jit import kernel

HAN, HANS, HANT, KANA, HANGUL, LATIN, OTHER, ENGLISH, FOREIGN = range(9)
"""Columns of the counts: HAN is all Han characters, HANS and HANT those written only in the
simplified or only in the traditional script. ENGLISH and FOREIGN are those of the LATIN words that
only English uses much, and those that only other languages do or that have an accent."""
COLUMNS = 9
NO_LETTER, HAN_BOTH = 255, 254
WORD_SLOTS, WORD_FACTOR = 512, 0x9E3779B97F4A7C15
MOST_LETTERS = 7  # of a frequent word: their bytes and a bit fit into 64

# The most frequent words of each, less those that two of the languages share (of, for, die, to).
_ENGLISH_WORDS = """the and that this with are which from has been you your they their would should
there these those when what where can could not but our more other than who how its were into also
only because such through between about"""
_FOREIGN_WORDS = """der das und ist nicht mit den von zu ein eine auf dem im sich des de la le les
du et est une un que pour dans au par sur qui il el los las del por con una para se su es en lo al
che di non per della sono het een van niet op zijn och att som det og er ikke til av nie na jest sie
bir ve bu yang dan untuk dengan ini itu os em ao uma ng sa ang ja ei je nu pe care za da"""


@functools.cache
def script_table() -> npt.NDArray[np.uint8]:
    """uint8 [65536]: the column of each code point; HAN_BOTH for Han of both scripts.

    A character is only traditional if OpenCC simplifies it and GB 2312 lacks it, and only
    simplified if OpenCC simplifies another to it and Big5 lacks it.
    """
    table = np.full(PLANE, NO_LETTER, np.uint8)
    for code in range(PLANE):
        character = chr(code)
        category = unicodedata.category(character)
        if is_han(code):
            table[code] = HAN_BOTH
        elif 0x3041 <= code <= 0x30FF or 0x31F0 <= code <= 0x31FF or 0xFF66 <= code <= 0xFF9D:
            table[code] = KANA if category[0] == "L" else NO_LETTER
        elif 0xAC00 <= code <= 0xD7A3 or 0x1100 <= code <= 0x11FF or 0x3130 <= code <= 0x318F:
            table[code] = HANGUL
        elif category[0] in "LM":
            latin = code < 0x250 or 0x1E00 <= code <= 0x1EFF or 0x300 <= code <= 0x36F
            table[code] = LATIN if latin or 0xFF21 <= code <= 0xFF5A else OTHER
    for traditional, simplified in traditional_to_simplified().items():
        if not _encodable(traditional, "gb2312"):
            table[ord(traditional)] = HANT
        if not _encodable(simplified, "big5"):
            table[ord(simplified)] = HANS
    table[ord("ー")] = KANA
    return table


@functools.cache
def word_table() -> npt.NDArray[np.uint64]:
    """uint64 [512]: a hash table of the frequent words, each its ASCII bytes and a lowest bit that
    says foreign; 0 is empty."""
    table = np.zeros(WORD_SLOTS, np.uint64)
    for words, foreign in ((_ENGLISH_WORDS, 0), (_FOREIGN_WORDS, 1)):
        for word in words.split():
            key = int.from_bytes(word.encode(), "big")
            slot = key * WORD_FACTOR % 2**64 >> 55
            while table[slot] and int(table[slot]) >> 1 != key:
                slot = (slot + 1) % WORD_SLOTS
            table[slot] = key << 1 | foreign
    return table


def count_scripts(
    offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """int64 [texts, 9]: words by script; offsets: int64 [texts + 1], data: uint8, UTF-8."""
    return _count(offsets, data, table, word_table())  # type: ignore[no-any-return]


@kernel
def _count(offsets, data, table, words):  # type: ignore[no-untyped-def]
    counts = np.zeros((len(offsets) - 1, COLUMNS), np.int64)
    for text in range(len(offsets) - 1):
        place, stop = offsets[text], offsets[text + 1]
        run = NO_LETTER  # the script of the run of letters that the last character belongs to
        while place < stop:
            byte = np.uint32(data[place])
            lower = byte | 0x20
            if lower >= 0x61 and lower <= 0x7A:
                counts[text, LATIN] += run != LATIN
                word = np.uint64(0)
                letters = 0
                while lower >= 0x61 and lower <= 0x7A:
                    word = (word << np.uint64(8)) | np.uint64(lower)
                    letters += 1
                    place += 1
                    if place == stop:
                        break
                    lower = np.uint32(data[place]) | 0x20
                if run != LATIN and letters <= MOST_LETTERS:
                    slot = (word * np.uint64(WORD_FACTOR)) >> np.uint64(55)
                    while words[slot] != 0:
                        if words[slot] >> np.uint64(1) == word:
                            counts[text, FOREIGN if words[slot] & np.uint64(1) else ENGLISH] += 1
                            break
                        slot = (slot + np.uint64(1)) & np.uint64(WORD_SLOTS - 1)
                run = LATIN
                continue
            if byte < 0x80:
                run = NO_LETTER
                place += 1
                continue
            if byte < 0xE0:
                code = ((byte & 0x1F) << 6) | (data[place + 1] & 0x3F)
                place += 2
            elif byte < 0xF0:
                code = ((byte & 0x0F) << 12) | ((data[place + 1] & 0x3F) << 6)
                code |= data[place + 2] & 0x3F
                place += 3
            else:  # beyond the plane: rare Han; the rest are mostly symbols
                if byte == 0xF0 and data[place + 1] >= 0xA0 and data[place + 1] <= 0xB2:
                    counts[text, HAN] += 1
                place += 4
                run = NO_LETTER
                continue
            column = table[code]
            if column in (HAN_BOTH, HANS, HANT):
                counts[text, HAN] += 1
                if column != HAN_BOTH:
                    counts[text, column] += 1
            elif column in (LATIN, OTHER):
                counts[text, column] += run != column
                counts[text, FOREIGN] += column == LATIN and byte < 0xE2  # not full width
            elif column != NO_LETTER:
                counts[text, column] += 1
            run = column
    return counts


@kernel
def latin_sample(data, table, result):  # type: ignore[no-untyped-def]
    """Fill `result` (uint8) with Latin words of `data` (UTF-8), one space between them.

    Words are taken from the whole text where it is longer than the result; returns their bytes.
    """
    size, place, gap = 0, 0, True
    skip = 0
    if len(data) > 2 * len(result):
        skip = (len(data) - len(result)) // 4  # four stretches, evenly spread
    quarter = len(result) // 4
    next_skip = quarter
    while place < len(data) and size + 5 < len(result):
        if skip and size >= next_skip and gap:
            place += max(0, skip - quarter)
            while place < len(data) and data[place] & 0xC0 == 0x80:
                place += 1
            next_skip += quarter
            if place >= len(data):
                break
        byte = np.uint32(data[place])
        if byte < 0x80:
            lower = byte | 0x20
            if lower >= 0x61 and lower <= 0x7A:
                result[size] = byte
                size += 1
                gap = False
            elif not gap:
                result[size] = 0x20
                size += 1
                gap = True
            place += 1
            continue
        length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        latin = False
        if length == 2:
            latin = table[((byte & 0x1F) << 6) | (data[place + 1] & 0x3F)] == LATIN
        elif length == 3:
            code = ((byte & 0x0F) << 12) | ((data[place + 1] & 0x3F) << 6)
            code |= data[place + 2] & 0x3F
            latin = table[code] == LATIN
        if latin:
            for k in range(length):
                result[size + k] = data[place + k]
            size += length
            gap = False
        elif not gap:
            result[size] = 0x20
            size += 1
            gap = True
        place += length
    return size


def _encodable(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
