"""numba kernels over the bytes of a batch that say where the patterns are worth trying.

`character_flags` says which documents hold a character that may need mending or digits that may be
personal data; `find_lines` lists the lines that hold a trigger of a line rule, look like a page
number, or were seen before in their document.
"""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import unicodedata
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from corpus.clean.lines import LONGEST_LINE, triggers
from corpus.jit import kernel

# Flags of a document: which rules of `corpus.clean.characters` have something to look at.
BREAK = 1
CONTROL = 2
SPACE = 4
INVISIBLE = 8
PRIVATE = 16
REPLACEMENT = 32
COMPATIBLE = 64
COMPOSITION = 128
FULL_WIDTH = 256
ENTITY = 512
RUN = 1024
SPACED_HAN = 2048
EDGES = 4096  # white space at the end of a line or of the text, four line breaks in a row
MEND = 8191  # any of these
# Digits with at most two separators between two of them, which may be personal data:
CODE_DIGITS = 8192  # seven or more, a capital letter or an x after them
PHONE_DIGITS = 16384  # ten or more
CARD_DIGITS = 32768  # fifteen or more
# What `corpus.clean.mojibake` may lead back to text:
LATIN1_DEBRIS = 65536  # the lead byte of a UTF-8 character and what may follow, as in Latin-1
GBK_DEBRIS = 131072  # Han characters that UTF-8 read as GBK begins with, close together
DEBRIS = LATIN1_DEBRIS | GBK_DEBRIS
_GBK_MARK = 262144  # of the table only: such a character

# Text with a space at so many of its Han characters has been segmented or letter-spaced: segmented
# text has one at every second character, verse at every sixth.
SPACED_SHARE = 0.3

# Columns of a candidate line.
DOCUMENT, START, END, VISIBLE, FLAGS, TIMES, RULES, INDEX = range(8)

# Flags of a line.
TRIGGER = 1
NUMBER = 2  # at most 24 characters, digits among them, few letters
REPEATED = 4
PLAIN = 8  # prose: no markup, no program text; only such lines count as repeated

TRIGGER_SLOTS = 1 << 16
# A character of debris adds three to the score and any other Han character takes one: in UTF-8 read
# as GBK every third one at least is debris, in good text one in thirty.
_DEBRIS_SCORE = 12
_COPYRIGHT_SIGN = 0xA9
_LONGEST_NUMBER = 24
LONGEST_REPEATED = 80  # visible characters of a running header

_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def _pair_slot(first: int, second: int) -> int:
    return ((first * 0x9E3B1) ^ (second * 0x85EB7)) & (TRIGGER_SLOTS - 1)


def _triple_slot(first: int, second: int, third: int) -> int:
    mixed = (first * 0x9E3B1) ^ (second * 0x85EB7) ^ (third * 0xC2B2D)
    return mixed & (TRIGGER_SLOTS - 1)


@cache
def trigger_table() -> NDArray[np.uint32]:
    """uint32 [2, TRIGGER_SLOTS]: the rules that have a trigger with this pair, or ASCII triple."""
    table = np.zeros((2, TRIGGER_SLOTS), np.uint32)
    for trigger, rules in triggers().items():
        points = [ord(character) for character in trigger]
        if points == [_COPYRIGHT_SIGN]:
            table[0, 0] |= rules  # the kernel looks for it by itself
            continue
        for first, second in pairwise(points):
            if max(first, second) >= 0x80:  # as the kernel does: ASCII comes in threes
                table[0, _pair_slot(first, second)] |= rules
                break
        else:
            table[1, _triple_slot(*points[:3])] |= rules
    return table


@cache
def mend_table() -> NDArray[np.uint32]:
    """uint32 [65536]: the flags that a character raises by itself."""
    from corpus.clean import characters as rules  # its patterns are the definition

    table = np.zeros(0x10000, np.uint32)
    everything = "".join(map(chr, range(0x10000)))
    for pattern, flag in (
        (rules._BREAK, BREAK),
        (rules._CONTROL, CONTROL),
        (rules._SPACE, SPACE),
        (rules._PRIVATE, PRIVATE),
        (rules._REPLACEMENT, REPLACEMENT),
        (rules._COMPATIBLE, COMPATIBLE),
    ):
        for match in pattern.finditer(everything):
            table[ord(match[0][0])] |= flag
    for point in map(ord, rules.invisible_characters()):
        table[point] |= INVISIBLE
    table[[*rules.FULL_WIDTH, 0xFF0E, 0xFF0D]] |= FULL_WIDTH
    # What composition may change: combining marks, and all that is not its own composed form.
    for point in range(0x300, 0x10000):
        character = chr(point)
        if unicodedata.combining(character) or unicodedata.normalize("NFC", character) != character:
            table[point] |= COMPOSITION
    table[0x1160:0x1200] |= COMPOSITION  # vowels and finals of hangul
    for pair in (bytes([lead, trail]) for lead in range(0xE4, 0xEA) for trail in range(0x80, 0xC0)):
        for character in pair.decode("gb18030", "ignore"):
            table[ord(character)] |= _GBK_MARK
    return table


def flags_of(text: str) -> int:
    """`character_flags` of one text."""
    flags = np.zeros(1, np.uint32)
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    character_flags(data, np.array([0, len(data)], np.int64), mend_table(), flags)
    return int(flags[0])


@kernel
def character_flags(data, offsets, mend, flags):
    """Fill `flags`, uint32 [documents]."""
    for document in range(len(offsets) - 1):
        begin = offsets[document]
        end = offsets[document + 1]
        found = 0
        digits = 0
        gap = 0
        han = 0
        spaced = 0
        alternating = 0
        debris = 0
        run = 0
        before = 0
        previous = 0
        position = begin
        while position < end:
            byte = np.int64(data[position])
            width = 1
            point = byte
            if byte >= 0x80:
                point = 0xFFFD
                if 0xC2 <= byte < 0xE0 and position + 2 <= end:
                    width = 2
                    point = ((byte & 0x1F) << 6) | (np.int64(data[position + 1]) & 0x3F)
                elif 0xE0 <= byte < 0xF0 and position + 3 <= end:
                    width = 3
                    point = (
                        ((byte & 0x0F) << 12)
                        | ((np.int64(data[position + 1]) & 0x3F) << 6)
                        | (np.int64(data[position + 2]) & 0x3F)
                    )
                elif byte >= 0xF0 and position + 4 <= end:
                    width = 4
                    point = 0x10000
                    if byte >= 0xF3 or (byte == 0xF0 and data[position + 1] == 0xAF):
                        found |= PRIVATE | COMPATIBLE | COMPOSITION
            if point < 0x10000:
                found |= np.int64(mend[point]) & ~_GBK_MARK
            if point == before:
                run += 1
                if run >= 4:
                    if point == 10:
                        found |= EDGES
                    elif point == 33 or point == 63 or point >= 0x2000 or run >= 20:
                        found |= RUN
            else:
                run = 1
            if point == 38:
                ahead = data[position + 1] if position + 1 < end else 0
                if ahead == 35 or (65 <= ahead <= 90) or (97 <= ahead <= 122):
                    found |= ENTITY
            elif point == 10 and (before == 32 or before == 9):
                found |= EDGES
            elif point >= 0x80 and 0xC2 <= before <= 0xF4 and (
                point < 0xC0 or 0x152 <= point <= 0x2DC or 0x2013 <= point <= 0x2122
            ):  # fmt: skip
                found |= LATIN1_DEBRIS
            if point >= 0x3400 and point < 0xA000:
                han += 1
                debris = max(0, debris + (3 if mend[point] & _GBK_MARK else -1))
                if debris >= _DEBRIS_SCORE:
                    found |= GBK_DEBRIS
                if before == 32 and 0x3400 <= previous < 0xA000:
                    spaced += 1
                    alternating += 1
                    if alternating >= 2:
                        found |= SPACED_HAN  # 招 股 意
                else:
                    alternating = 0
            if 48 <= point <= 57:
                digits += 1
                gap = 0
                if digits >= 10:
                    found |= PHONE_DIGITS
                    if digits >= 15:
                        found |= CARD_DIGITS
            elif digits and gap < 2 and (
                point == 32 or point == 45 or point == 46 or point == 41
                or point == 0xFF09 or point == 0xFF0D or point == 0x2014
            ):  # fmt: skip
                gap += 1
            else:
                if digits >= 7 and (65 <= point <= 90 or point == 120):
                    found |= CODE_DIGITS
                digits = 0
                gap = 0
            if point != 32 or before != 32:
                previous = before
            before = point
            position += width
        if spaced >= 3 and spaced > SPACED_SHARE * han:
            found |= SPACED_HAN
        if end > begin and (
            data[begin] == 10 or data[end - 1] == 10 or data[end - 1] == 32 or data[end - 1] == 9
        ):
            found |= EDGES
        flags[document] = found


@kernel
def _count(keys, counts, mask, value, stamp, fill):
    """How often `value` was seen under this stamp, this time included (1 if there is no room)."""
    key = (value & np.uint64(0xFFFFFFFF00000000)) | np.uint64(stamp)
    where = np.int64((value * _MIX) >> np.uint64(32)) & mask
    while True:
        entry = keys[where]
        if entry == key:
            counts[where] += 1
            return counts[where]
        if (entry & np.uint64(0xFFFFFFFF)) != np.uint64(stamp):
            if 4 * fill[0] <= 3 * mask:
                keys[where] = key
                counts[where] = 1
                fill[0] += 1
            return 1
        where = (where + 1) & mask


LARGEST_LINE_TABLE = 1 << 22


@kernel
def find_lines(data, offsets, table):
    """Candidate lines: int64 [candidates, 8], see the constants DOCUMENT to INDEX.

    START and END are byte positions in `data`, the line break not included; INDEX is the place
    among the document's lines that hold something visible. Lines in fenced code or between `$$`,
    and lines that begin with |, are left out.
    """
    found = np.empty((64, 8), np.int64)
    size = 0
    keys = np.zeros(1024, np.uint64)
    counts = np.zeros(1024, np.int32)
    fill = np.zeros(1, np.int64)
    stamp = 0
    for document in range(len(offsets) - 1):
        begin = offsets[document]
        end = offsets[document + 1]
        breaks = 1
        for i in range(begin, end):
            if data[i] == 10:
                breaks += 1
        wanted = 1024
        while wanted < 2 * breaks and wanted < LARGEST_LINE_TABLE:
            wanted *= 2
        if len(keys) < wanted:
            keys = np.zeros(wanted, np.uint64)
            counts = np.zeros(wanted, np.int32)
            stamp = 0
        mask = wanted - 1
        fill[0] = 0
        stamp += 1
        fenced = False
        formula = False
        index = -1
        start = begin
        while start < end:
            stop = start
            visible = 0
            letters = 0
            digits = 0
            marks = 0
            dollars = 0
            markup = False
            rules = 0
            opening = 0
            before = 0
            previous = 0
            value = _FNV_BASIS
            while stop < end and data[stop] != 10:
                byte = np.int64(data[stop])
                width = 1
                point = byte
                if byte >= 0x80:
                    point = 0xFFFD
                    if 0xC2 <= byte < 0xE0 and stop + 2 <= end:
                        width = 2
                        point = ((byte & 0x1F) << 6) | (np.int64(data[stop + 1]) & 0x3F)
                    elif 0xE0 <= byte < 0xF0 and stop + 3 <= end:
                        width = 3
                        point = (
                            ((byte & 0x0F) << 12)
                            | ((np.int64(data[stop + 1]) & 0x3F) << 6)
                            | (np.int64(data[stop + 2]) & 0x3F)
                        )
                    elif byte >= 0xF0 and stop + 4 <= end:
                        width = 4
                        point = 0x10000
                if 65 <= point <= 90:
                    point += 32
                if point > 32:
                    if visible == 0:
                        opening = point
                    visible += 1
                    value = (value ^ np.uint64(point)) * _FNV_PRIME
                    if 48 <= point <= 57:
                        digits += 1
                    elif (97 <= point <= 122) or point >= 0x3400:
                        letters += 1
                    elif point == 96 or point == 126:
                        marks += 1
                    elif point == 36 and before == 36:
                        dollars += 1
                    if (
                        point == 92 or point == 123 or point == 125 or point == 36 or point == 61
                        or point == 59 or point == 124 or point == 60 or point == 62 or point == 96
                    ):  # fmt: skip
                        markup = True
                # Furniture is short: beyond its longest line there is nothing to look for.
                if visible <= LONGEST_LINE:
                    if point >= 0x80 or before >= 0x80:
                        slot = ((before * 0x9E3B1) ^ (point * 0x85EB7)) & (TRIGGER_SLOTS - 1)
                        rules |= np.int64(table[0, slot])
                        if point == _COPYRIGHT_SIGN:
                            rules |= np.int64(table[0, 0])
                    else:
                        slot = (
                            (previous * 0x9E3B1) ^ (before * 0x85EB7) ^ (point * 0xC2B2D)
                        ) & (TRIGGER_SLOTS - 1)  # fmt: skip
                        rules |= np.int64(table[1, slot])
                previous = before
                before = point
                stop += width
            if stop > end:
                stop = end
            if visible:
                index += 1
            if marks >= 3 and (opening == 96 or opening == 126):
                fenced = not fenced
            elif not fenced:
                if dollars & 1:
                    formula = not formula
                elif visible and not formula and opening != 124:
                    flags = 0
                    times = 1
                    if rules and visible <= LONGEST_LINE:
                        flags |= TRIGGER
                    if visible <= _LONGEST_NUMBER and digits and letters <= 8:
                        flags |= NUMBER
                    if (
                        visible <= LONGEST_REPEATED
                        and letters >= 2
                        and not markup
                        and opening != 35
                    ):
                        flags |= PLAIN
                        times = _count(keys, counts, mask, value, stamp, fill)
                        if times > 1:
                            flags |= REPEATED
                    if flags & (TRIGGER | NUMBER | REPEATED):
                        if size == len(found):
                            larger = np.empty((2 * size, 8), np.int64)
                            larger[:size] = found
                            found = larger
                        found[size, 0] = document
                        found[size, 1] = start
                        found[size, 2] = stop
                        found[size, 3] = visible
                        found[size, 4] = flags
                        found[size, 5] = times
                        found[size, 6] = rules
                        found[size, 7] = index
                        size += 1
            start = stop + 1
    return found[:size]
