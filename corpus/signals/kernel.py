"""One pass over the UTF-8 bytes of a batch: every count from which the signals are computed.

`measure` reads Arrow's offsets and bytes and fills a matrix of counters, one row a document. It
allocates nothing per document; what grows with a document is only the table of its lines.
Repetition is counted in windows of `WINDOW` tokens: a token is one Han or kana character or one
word, so memory stays bounded, the tables stay in the processor's cache, and a book is not judged
more repetitive than a page only because it is longer.
"""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import numpy as np

from corpus.jit import kernel
from corpus.signals import characters as c
from corpus.signals import counters as n
from corpus.signals.lexicons import SLOTS
from corpus.signals.lines import LARGEST_LINE_TABLE, add_line, add_paragraph
from corpus.signals.repetition import (
    LARGEST_STAMP,
    WINDOW,
    add_window,
    name_word,
    scratch,
)
from corpus.signals.stop_words import FNV_BASIS, FNV_PRIME, LONGEST_STOP_WORD, STOP_SLOTS

LONG_RUN = 5  # a character this often in a row is a run
LONG_UNPUNCTUATED = 60  # characters between two marks; a Chinese clause has about ten
LONG_NUMBER = 7  # digits: telephone, QQ, account numbers; amounts carry commas
LONG_WORD = 25  # letters; German compounds and chemistry stay below, garbage does not

_BASIS = np.uint64(FNV_BASIS)
_PRIME = np.uint64(FNV_PRIME)
_LANES = np.uint64(0xFFFF)


@kernel
def _count_terms(data, start, end, term, following, term_starts, term_data, list_of, row):
    """Count the terms of one slot that stand in `data` at `start`."""
    while term >= 0:
        a = term_starts[term]
        b = term_starts[term + 1]
        if start + b - a <= end:
            same = True
            for k in range(b - a):
                if data[start + k] != term_data[a + k]:
                    same = False
                    break
            if same:
                row[n.LEXICON + list_of[term]] += 1
        term = following[term]


@kernel
def _count_word(row, value, length, digits, stop_words):
    """Count one word or number: a run of letters and digits, or of digits alone."""
    if length > digits:
        row[n.WORDS] += 1
        row[n.WORD_CHARACTERS] += length
        if length >= LONG_WORD:
            row[n.LONG_WORDS] += 1
        if length <= LONGEST_STOP_WORD:
            where = np.int64(value >> np.uint64(20)) & (STOP_SLOTS - 1)
            while stop_words[where] != 0:
                if stop_words[where] == value:
                    row[n.STOP_WORDS] += 1
                    break
                where = (where + 1) & (STOP_SLOTS - 1)
    else:
        row[n.NUMBERS] += 1
        if digits >= LONG_NUMBER:
            row[n.LONG_NUMBERS] += 1


@kernel
def _lanes():
    """uint64 [16]: by the low four flags of `han_table`, 1 in each flag's 16 bits."""
    lanes = np.zeros(16, np.uint64)
    for flags in range(16):
        for bit in range(4):
            if flags >> bit & 1:
                lanes[flags] |= np.uint64(1) << np.uint64(16 * bit)
    return lanes


@kernel
def _code_point(data, position, end):
    """The character at `position` and its width in bytes; U+FFFD for what is no UTF-8."""
    byte = np.int64(data[np.uint64(position)])
    if byte < 0x80:
        return byte, 1
    if byte < 0xC2:
        return 0xFFFD, 1
    width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if position + width > end:
        return 0xFFFD, width
    point = byte & (0x7F >> width)
    for k in range(1, width):
        point = (point << 6) | (np.int64(data[np.uint64(position + k)]) & 0x3F)
    return point, width


@kernel
def _entry_of(point, table):
    """Class and flags of a character of any plane."""
    if point < 0x10000:
        return np.int64(table[np.uint64(point)])
    if 0x20000 <= point < 0x32000:
        return c.HAN_RARE
    if 0x1F000 <= point < 0x1FB00:
        return c.EMOJI
    return c.OTHER if point < 0x20000 else c.PRIVATE


@kernel
def measure(
    data, offsets, table, han, names, stop_words, nlogn,
    slots, following, term_starts, term_data, list_of, out,
):  # fmt: skip
    """Fill `out`, float64 [documents, counters], from uint8 `data` and int `offsets`."""
    ids = np.zeros(WINDOW + 64, np.uint16)
    prefix = np.zeros(WINDOW + 65, np.uint32)
    work = scratch()
    found = np.zeros(11)
    words = np.zeros(2 * WINDOW, np.uint64)
    word_stamp = 0
    line_keys = np.zeros(1024, np.uint64)
    line_fill = np.zeros(1, np.int64)
    line_stamp = 0
    lanes = _lanes()
    row = np.zeros(n.ALL, np.int64)
    for document in range(len(offsets) - 1):
        begin = offsets[document]
        end = offsets[document + 1]
        row[:] = 0
        found[:] = 0
        breaks = 1
        for i in range(begin, end):
            if data[i] == 10:
                breaks += 1
        # Lines and paragraphs share the table: at most two entries a line.
        wanted = 1024
        while wanted < 3 * breaks and wanted < LARGEST_LINE_TABLE:
            wanted *= 2
        if len(line_keys) < wanted:
            line_keys = np.zeros(wanted, np.uint64)
            line_stamp = 0
        line_mask = wanted - 1
        line_fill[0] = 0
        line_stamp += 2
        # A document holds at most a word for every two bytes.
        word_mask = 255
        while word_mask < end - begin and word_mask < 2 * WINDOW - 1:
            word_mask = 2 * word_mask + 1
        named = 0
        word_stamp += 1
        if word_stamp > LARGEST_STAMP:
            words[:] = 0
            word_stamp = 1
        size = 0
        width_before = 0  # of the tokens in the window
        word = _BASIS
        word_length = 0
        word_digits = 0
        previous = 0
        before = 0
        run = 0
        longest_run = 0
        unpunctuated = 0
        url = 0
        # The current line.
        line_length = 0
        line_hash = _BASIS
        line_letters = 0
        line_digits = 0
        line_pipes = 0
        line_ended = False
        line_ellipsis = False
        line_bullet = False
        line_heading = False
        line_links = 0
        paragraph_hash = _BASIS
        paragraph_length = 0
        position = begin
        while position <= end:
            # The end of the document closes word, line and paragraph like a line break.
            last = position == end
            byte = 10 if last else np.int64(data[np.uint64(position)])
            kind = np.int64(table[np.uint64(byte)]) & c.CLASS_MASK
            ends_word = byte < 0x80 and not c.DIGIT <= kind <= c.UPPER
            ends_word |= 0xE4 <= byte <= 0xE9  # Han and hexagrams
            if ends_word and word_length:
                _count_word(row, word, word_length, word_digits, stop_words)
                ids[np.uint64(size)], named = name_word(
                    word, names, named, words, word_mask, word_stamp
                )
                width_before += word_length
                size += 1
                prefix[np.uint64(size)] = width_before
                line_hash = (line_hash ^ word) * _PRIME
                word = _BASIS
                word_length = 0
                word_digits = 0
            if size == WINDOW or (last and size):
                add_window(ids, prefix, size, nlogn, found, *work)
                row[n.TOKENS] += size
                row[n.TOKEN_CHARACTERS] += width_before
                size = 0
                width_before = 0
                named = 0
                word_stamp += 1
                if word_stamp > LARGEST_STAMP:
                    words[:] = 0
                    word_stamp = 1

            # The commonest cases take a short way; what it leaves out cannot happen there. Letters
            # and digits of ASCII:
            if byte < 0x80 and c.DIGIT <= kind <= c.UPPER:
                begun = position
                digits = 0
                upper = 0
                while True:
                    digits += kind == c.DIGIT
                    upper += kind == c.UPPER
                    word = (word ^ np.uint64(byte | 32)) * _PRIME
                    if byte == before:
                        run += 1
                        longest_run = max(longest_run, run)
                        if run >= LONG_RUN:
                            row[n.RUN_CHARACTERS] += LONG_RUN if run == LONG_RUN else 1
                    else:
                        run = 1
                    previous = before
                    before = byte
                    position += 1
                    if position == end:
                        break
                    byte = np.int64(data[np.uint64(position)])
                    if byte >= 0x80:
                        break
                    kind = np.int64(table[np.uint64(byte)]) & c.CLASS_MASK
                    if kind < c.DIGIT or kind > c.UPPER:
                        break
                width = position - begun
                row[c.DIGIT] += digits
                row[c.UPPER] += upper
                row[c.LOWER] += width - digits - upper
                word_length += width
                word_digits += digits
                line_length += width
                line_letters += width - digits
                line_digits += digits
                unpunctuated += width
                if url:
                    url += width
                line_ended = False
                line_ellipsis = False
                continue
            # Han:
            if 0xE4 <= byte <= 0xE9 and position + 3 <= end:
                begun = position
                limit = min(end - 2, position + 3 * (WINDOW - size))
                sums = np.uint64(0)
                flags_before = 0
                if 0x4E00 <= before <= 0x9FFF:
                    flags_before = np.int64(han[np.uint64(before - 0x4E00)])
                from_space = before == 32 and 0x4E00 <= previous <= 0x9FFF
                while position < limit:
                    point = (
                        (np.int64(data[np.uint64(position)]) << 12)
                        | ((np.int64(data[np.uint64(position + 1)]) & 0x3F) << 6)
                        | (np.int64(data[np.uint64(position + 2)]) & 0x3F)
                    )
                    place = np.uint64(point - 0xE4E00)  # with the lead byte's upper half
                    if place >= len(han):
                        break
                    point -= 0xE0000
                    flags = np.int64(han[place])
                    sums += lanes[np.uint64(flags & 15)]
                    ids[np.uint64(size)] = point
                    size += 1
                    width_before += 1
                    prefix[np.uint64(size)] = width_before
                    if flags_before & c.OPENS_TERM and flags & c.FOLLOWS_IN_TERM:
                        term = slots[((before * 0x9E3B) ^ (point * 0x85EB)) & (SLOTS - 1)]
                        if term >= 0:
                            _count_terms(
                                data, position - 3, end, term, following, term_starts,
                                term_data, list_of, row,
                            )  # fmt: skip
                    if point == before:
                        run += 1
                        longest_run = max(longest_run, run)
                        if run >= LONG_RUN:
                            row[n.RUN_CHARACTERS] += LONG_RUN if run == LONG_RUN else 1
                    else:
                        run = 1
                    line_hash = (line_hash ^ np.uint64(point)) * _PRIME
                    flags_before = flags
                    previous = before
                    before = point
                    position += 3
                count = (position - begun) // 3
                if count:
                    traditional = np.int64(sums & _LANES)
                    rare = np.int64((sums >> np.uint64(16)) & _LANES)
                    row[c.HAN] += count - traditional - rare
                    row[c.HAN_TRADITIONAL] += traditional
                    row[c.HAN_RARE] += rare
                    row[n.FUNCTION_HAN] += np.int64((sums >> np.uint64(32)) & _LANES)
                    row[n.MOJIBAKE] += np.int64(sums >> np.uint64(48))
                    row[n.SPACED_HAN] += from_space
                    row[n.URL_CHARACTERS] += url
                    url = 0
                    unpunctuated += count
                    line_length += count
                    line_letters += count
                    line_ended = False
                    line_ellipsis = False
                    continue

            width = 1
            point = 10
            if not last:
                point, width = _code_point(data, position, end)
            entry = _entry_of(point, table)
            kind = entry & c.CLASS_MASK
            if not last:
                row[kind] += 1

            # Words and tokens. A word is a run of letters and digits, a number one of digits.
            letter = kind == c.LOWER or kind == c.UPPER or kind == c.OTHER
            if letter or kind == c.DIGIT:
                folded = point + 32 if 65 <= point <= 90 else point
                word = (word ^ np.uint64(folded)) * _PRIME
                word_length += 1
                word_digits += not letter
            elif word_length:
                _count_word(row, word, word_length, word_digits, stop_words)
                ids[np.uint64(size)], named = name_word(
                    word, names, named, words, word_mask, word_stamp
                )
                width_before += word_length
                size += 1
                prefix[np.uint64(size)] = width_before
                line_hash = (line_hash ^ word) * _PRIME
                word = _BASIS
                word_length = 0
                word_digits = 0
                if size == WINDOW:  # what follows may be a token too
                    if not last:
                        row[kind] -= 1
                    continue
            is_han = c.HAN <= kind <= c.KANA
            if is_han:
                if point < 0x10000:
                    ids[np.uint64(size)] = point
                else:
                    ids[np.uint64(size)], named = name_word(
                        np.uint64(point), names, named, words, word_mask, word_stamp
                    )
                width_before += 1
                size += 1
                prefix[np.uint64(size)] = width_before
                row[n.FUNCTION_HAN] += entry & c.FUNCTION != 0
                row[n.MOJIBAKE] += entry & c.MOJIBAKE != 0
                row[n.SPACED_HAN] += before == 32 and 0x4E00 <= previous <= 0x9FFF

            # Marks between words, and runs of one character.
            row[n.TERMINALS] += entry & c.TERMINAL != 0
            row[n.COMMAS] += entry & c.COMMA != 0
            row[n.CODE_CHARACTERS] += entry & c.CODE != 0
            if entry & c.LATIN1 and 0xC2 <= before <= 0xF4:
                row[n.LATIN1_DEBRIS] += 1
            if kind == c.CJK_PUNCTUATION or kind == c.ASCII_PUNCTUATION or kind == c.NEWLINE:
                row[n.LONGEST_UNPUNCTUATED] = max(row[n.LONGEST_UNPUNCTUATED], unpunctuated)
                if unpunctuated >= LONG_UNPUNCTUATED:
                    row[n.UNPUNCTUATED_CHARACTERS] += unpunctuated
                unpunctuated = 0
            else:
                unpunctuated += 1
            if point == before and kind != c.SPACE and kind != c.NEWLINE:
                run += 1
                longest_run = max(longest_run, run)
                if run >= LONG_RUN:
                    row[n.RUN_CHARACTERS] += LONG_RUN if run == LONG_RUN else 1
            else:
                run = 1

            # Addresses.
            if url:
                if 32 < point < 127 and point != 41 and point != 34 and point != 60 and point != 62:
                    url += 1
                else:
                    row[n.URL_CHARACTERS] += url
                    url = 0
            elif point == 47 and before == 47 and previous == 58:  # ://
                row[n.URLS] += 1
                line_links += 1
                url = 8
            elif point == 46 and before == 119 and previous == 119:  # ww.
                row[n.URLS] += 1
                line_links += 1
                url = 4
            row[n.AT_SIGNS] += point == 64

            # Lines and paragraphs.
            if kind == c.NEWLINE:
                if line_length:
                    add_line(
                        row, line_length, line_letters, line_digits, line_pipes, line_links,
                        line_ended, line_ellipsis, line_bullet, line_heading, line_hash,
                        line_keys, line_mask, line_stamp - 1, line_fill,
                    )  # fmt: skip
                    paragraph_hash = (paragraph_hash ^ line_hash) * _PRIME
                    paragraph_length += line_length
                elif not last:
                    row[n.BLANK_LINES] += 1
                if paragraph_length and (last or line_length == 0):
                    add_paragraph(
                        row, paragraph_length, paragraph_hash,
                        line_keys, line_mask, line_stamp, line_fill,
                    )  # fmt: skip
                    paragraph_hash = _BASIS
                    paragraph_length = 0
                line_length = 0
                line_hash = _BASIS
                line_letters = 0
                line_digits = 0
                line_pipes = 0
                line_ended = False
                line_ellipsis = False
                line_bullet = False
                line_heading = False
                line_links = 0
            elif kind != c.SPACE and kind != c.INVISIBLE:
                if line_length == 0:
                    line_heading = point == 35
                    if entry & c.BULLET:
                        # A hyphen, asterisk or plus sign opens an item only before a space.
                        ahead = position + width
                        line_bullet = width > 1 or (ahead < end and data[ahead] == 32)
                line_length += 1
                if not letter and kind != c.DIGIT:  # words enter the hash when they end
                    line_hash = (line_hash ^ np.uint64(point)) * _PRIME
                line_digits += kind == c.DIGIT
                line_letters += letter or is_han
                line_pipes += point == 124
                if not entry & c.CLOSING:
                    line_ended = entry & c.TERMINAL != 0
                    line_ellipsis = point == 0x2026 or (point == 46 and before == 46)
            elif point == 9:
                line_pipes += 1
            previous = before
            before = point
            position += width
        row[n.BYTES] = end - begin
        row[n.LONGEST_RUN] = longest_run
        for kind in range(c.CLASSES):
            row[n.CHARACTERS] += row[kind]
        for counter in range(n.ALL):
            out[document, counter] = row[counter]
        for k in range(len(found)):
            out[document, n.DISTINCT_TOKENS + k] = found[k]
