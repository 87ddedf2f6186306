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
from corpus.signals.lexicons import SLOTS
from corpus.signals.repetition import WINDOW, add_window, scratch

# Counters 0..CLASSES-1 are characters by class. All others:
_NAMES = [
    "BYTES",
    "CHARACTERS",
    "TERMINALS",
    "COMMAS",
    "FUNCTION_HAN",
    "MOJIBAKE",
    "LATIN1_DEBRIS",
    "CODE_CHARACTERS",
    "LINES",
    "LINE_CHARACTERS",
    "LINE_SQUARES",
    "LONGEST_LINE",
    "SHORT_LINES",
    "SHORT_LINE_CHARACTERS",
    "LINES_ENDED",
    "BULLET_LINES",
    "ELLIPSIS_LINES",
    "TABLE_LINES",
    "NUMBER_LINES",
    "WORDLESS_LINES",
    "LINK_LINES",
    "HEADING_LINES",
    "DUPLICATE_LINES",
    "DUPLICATE_LINE_CHARACTERS",
    "PARAGRAPHS",
    "DUPLICATE_PARAGRAPHS",
    "DUPLICATE_PARAGRAPH_CHARACTERS",
    "BLANK_LINES",
    "URLS",
    "URL_CHARACTERS",
    "AT_SIGNS",
    "NUMBERS",
    "LONG_NUMBERS",
    "LONGEST_RUN",
    "RUN_CHARACTERS",
    "LONGEST_UNPUNCTUATED",
    "UNPUNCTUATED_CHARACTERS",
    "SPACED_HAN",
    "WORDS",
    "WORD_CHARACTERS",
    "STOP_WORDS",
    "LONG_WORDS",
    "TOKENS",
    "TOKEN_CHARACTERS",
    "DISTINCT_TOKENS",
    "ENTROPY",
    "TOP_2",
    "TOP_3",
    "TOP_4",
    "DUP_5",
    "DUP_6",
    "DUP_7",
    "DUP_8",
    "DUP_9",
    "DUP_10",
]
COUNTERS = {name: c.CLASSES + index for index, name in enumerate(_NAMES)}

BYTES = COUNTERS["BYTES"]
CHARACTERS = COUNTERS["CHARACTERS"]
TERMINALS = COUNTERS["TERMINALS"]
COMMAS = COUNTERS["COMMAS"]
FUNCTION_HAN = COUNTERS["FUNCTION_HAN"]
MOJIBAKE = COUNTERS["MOJIBAKE"]
LATIN1_DEBRIS = COUNTERS["LATIN1_DEBRIS"]
CODE_CHARACTERS = COUNTERS["CODE_CHARACTERS"]
LINES = COUNTERS["LINES"]
LINE_CHARACTERS = COUNTERS["LINE_CHARACTERS"]
LINE_SQUARES = COUNTERS["LINE_SQUARES"]
LONGEST_LINE = COUNTERS["LONGEST_LINE"]
SHORT_LINES = COUNTERS["SHORT_LINES"]
SHORT_LINE_CHARACTERS = COUNTERS["SHORT_LINE_CHARACTERS"]
LINES_ENDED = COUNTERS["LINES_ENDED"]
BULLET_LINES = COUNTERS["BULLET_LINES"]
ELLIPSIS_LINES = COUNTERS["ELLIPSIS_LINES"]
TABLE_LINES = COUNTERS["TABLE_LINES"]
NUMBER_LINES = COUNTERS["NUMBER_LINES"]
WORDLESS_LINES = COUNTERS["WORDLESS_LINES"]
LINK_LINES = COUNTERS["LINK_LINES"]
HEADING_LINES = COUNTERS["HEADING_LINES"]
DUPLICATE_LINES = COUNTERS["DUPLICATE_LINES"]
DUPLICATE_LINE_CHARACTERS = COUNTERS["DUPLICATE_LINE_CHARACTERS"]
PARAGRAPHS = COUNTERS["PARAGRAPHS"]
DUPLICATE_PARAGRAPHS = COUNTERS["DUPLICATE_PARAGRAPHS"]
DUPLICATE_PARAGRAPH_CHARACTERS = COUNTERS["DUPLICATE_PARAGRAPH_CHARACTERS"]
BLANK_LINES = COUNTERS["BLANK_LINES"]
URLS = COUNTERS["URLS"]
URL_CHARACTERS = COUNTERS["URL_CHARACTERS"]
AT_SIGNS = COUNTERS["AT_SIGNS"]
NUMBERS = COUNTERS["NUMBERS"]
LONG_NUMBERS = COUNTERS["LONG_NUMBERS"]
LONGEST_RUN = COUNTERS["LONGEST_RUN"]
RUN_CHARACTERS = COUNTERS["RUN_CHARACTERS"]
LONGEST_UNPUNCTUATED = COUNTERS["LONGEST_UNPUNCTUATED"]
UNPUNCTUATED_CHARACTERS = COUNTERS["UNPUNCTUATED_CHARACTERS"]
SPACED_HAN = COUNTERS["SPACED_HAN"]
WORDS = COUNTERS["WORDS"]
WORD_CHARACTERS = COUNTERS["WORD_CHARACTERS"]
STOP_WORDS = COUNTERS["STOP_WORDS"]
LONG_WORDS = COUNTERS["LONG_WORDS"]
TOKENS = COUNTERS["TOKENS"]
TOKEN_CHARACTERS = COUNTERS["TOKEN_CHARACTERS"]
DISTINCT_TOKENS = COUNTERS["DISTINCT_TOKENS"]
ENTROPY = COUNTERS["ENTROPY"]
LEXICON = c.CLASSES + len(_NAMES)  # one more counter for each list, from here on

SHORT_LINE = 10  # characters; ChineseWebText asks for lines of ten on average
LONG_RUN = 5  # a character this often in a row is a run
LONG_UNPUNCTUATED = 60  # characters between two marks; a Chinese clause has about ten
LONG_NUMBER = 7  # digits: telephone, QQ, account numbers; amounts carry commas
LARGEST_LINE_TABLE = 1 << 22  # 32 MB; in a longer document only the first 3 million lines are known
LONG_WORD = 25  # letters; German compounds and chemistry stay below, garbage does not

_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_WORD = np.uint64(1 << 63)  # tells the token of a word from that of a character
_HIGH = np.uint64(0xFFFFFFFF00000000)

# Gopher (Rae et al. 2021, table A1) asks for two of its eight; the others make the share steadier.
STOP_WORD_LIST = [
    "the",
    "be",
    "to",
    "of",
    "and",
    "that",
    "have",
    "with",
    "a",
    "in",
    "is",
    "for",
    "on",
    "as",
    "are",
    "was",
    "it",
    "by",
    "this",
    "or",
    "an",
    "at",
    "from",
    "not",
    "which",
    "we",
    "you",
    "can",
    "their",
    "has",
    "had",
    "its",
    "will",
    "been",
    "were",
    "they",
    "our",
    "his",
    "her",
    "all",
    "but",
    "if",
    "would",
]


def word_hash(word: str) -> int:
    """The hash that the kernel gives a lower-case ASCII word."""
    value = int(_FNV_BASIS)
    for character in word:
        value = ((value ^ ord(character)) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


STOP_SLOTS = 512


def stop_word_table() -> np.ndarray:
    """uint64 [STOP_SLOTS]: the hashes of `STOP_WORD_LIST`, open addressing, 0 where empty."""
    table = np.zeros(STOP_SLOTS, np.uint64)
    for word in STOP_WORD_LIST:
        value = word_hash(word)
        where = (value >> 20) & (STOP_SLOTS - 1)
        while table[where]:
            where = (where + 1) & (STOP_SLOTS - 1)
        table[where] = value
    return table


@kernel
def _seen(keys, mask, value, stamp, fill):
    """Whether `value` is in the table of this stamp; puts it there, if not, while there is room."""
    key = (value & _HIGH) | np.uint64(stamp)
    where = np.int64((value * _MIX) >> _HALF) & mask
    while True:
        entry = keys[where]
        if entry == key:
            return True
        if (entry & np.uint64(0xFFFFFFFF)) != np.uint64(stamp):
            if 4 * fill[0] <= 3 * mask:
                keys[where] = key
                fill[0] += 1
            return False
        where = (where + 1) & mask


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
                row[LEXICON + list_of[term]] += 1
        term = following[term]


@kernel
def measure(
    data, offsets, table, stop_words, nlogn, slots, following, term_starts, term_data, list_of, out
):
    """Fill `out`, float64 [documents, counters], from uint8 `data` and int `offsets`."""
    tokens = np.empty(WINDOW, np.uint64)
    prefix = np.zeros(WINDOW + 1, np.uint32)
    (ids, times, buckets, hashes, active, depth, grams, words, singles) = scratch()
    stamp = 0
    line_keys = np.zeros(1024, np.uint64)
    line_fill = np.zeros(1, np.int64)
    line_stamp = 0
    tally = np.zeros(c.CLASSES, np.int64)
    for document in range(len(offsets) - 1):
        begin = offsets[document]
        end = offsets[document + 1]
        row = out[document]
        row[BYTES] = end - begin
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
        size = 0
        word_hash_ = _FNV_BASIS
        word_length = 0
        digits_in_number = 0
        word_letters = 0
        previous = 0
        before = 0
        run = 0
        unpunctuated = 0
        url = 0
        # The current line.
        line_length = 0
        line_hash = _FNV_BASIS
        line_letters = 0
        line_digits = 0
        line_pipes = 0
        line_ended = False
        line_ellipsis = False
        line_bullet = False
        line_heading = False
        line_links = 0
        paragraph_hash = _FNV_BASIS
        paragraph_length = 0
        position = begin
        while position <= end:
            # The end of the document closes word, line and paragraph like a line break.
            last = position == end
            # The two commonest cases, ASCII letters and digits and Han characters within a line,
            # take a short way; what it leaves out cannot happen there.
            if not last and line_length:
                byte = np.int64(data[position])
                if byte < 0x80 and c.DIGIT <= table[byte] & c.CLASS_MASK <= c.UPPER:
                    begun = position
                    found_digits = 0
                    while position < end:
                        byte = np.int64(data[position])
                        kind = np.int64(table[byte]) & c.CLASS_MASK
                        if byte >= 0x80 or kind < c.DIGIT or kind > c.UPPER:
                            break
                        tally[kind] += 1
                        found_digits += kind == c.DIGIT
                        word_hash_ = (word_hash_ ^ np.uint64(byte | 32)) * _FNV_PRIME
                        if byte == before:
                            run += 1
                            if run >= LONG_RUN:
                                row[RUN_CHARACTERS] += LONG_RUN if run == LONG_RUN else 1
                            if run > row[LONGEST_RUN]:
                                row[LONGEST_RUN] = run
                        else:
                            run = 1
                        previous = before
                        before = byte
                        position += 1
                    width = position - begun
                    word_length += width
                    word_letters += width - found_digits
                    digits_in_number += found_digits
                    line_length += width
                    line_letters += width - found_digits
                    line_digits += found_digits
                    unpunctuated += width
                    if url:
                        url += width
                    line_ended = False
                    line_ellipsis = False
                    continue
                if (
                    0xE4 <= byte <= 0xE9
                    and word_length == 0
                    and url == 0
                    and size < WINDOW - 1
                    and position + 3 <= end
                ):
                    point = (
                        ((byte & 0x0F) << 12)
                        | ((np.int64(data[position + 1]) & 0x3F) << 6)
                        | (np.int64(data[position + 2]) & 0x3F)
                    )
                    entry = np.int64(table[point])
                    kind = entry & c.CLASS_MASK
                    if c.HAN <= kind <= c.HAN_RARE:
                        tally[kind] += 1
                        tokens[size] = np.uint64(point)
                        prefix[size + 1] = prefix[size] + 1
                        size += 1
                        if entry & (c.FUNCTION | c.MOJIBAKE):
                            if entry & c.FUNCTION:
                                row[FUNCTION_HAN] += 1
                            if entry & c.MOJIBAKE:
                                row[MOJIBAKE] += 1
                        if before >= 0x4E00:
                            if before <= 0x9FFF:
                                term = slots[((before * 0x9E3B) ^ (point * 0x85EB)) & (SLOTS - 1)]
                                if term >= 0:
                                    _count_terms(
                                        data, position - 3, end, term, following, term_starts,
                                        term_data, list_of, row,
                                    )  # fmt: skip
                        elif before == 32 and 0x4E00 <= previous <= 0x9FFF:
                            row[SPACED_HAN] += 1
                        if point == before:
                            run += 1
                            if run >= LONG_RUN:
                                row[RUN_CHARACTERS] += LONG_RUN if run == LONG_RUN else 1
                            if run > row[LONGEST_RUN]:
                                row[LONGEST_RUN] = run
                        else:
                            run = 1
                        unpunctuated += 1
                        line_length += 1
                        line_letters += 1
                        line_hash = (line_hash ^ np.uint64(point)) * _FNV_PRIME
                        line_ended = False
                        line_ellipsis = False
                        previous = before
                        before = point
                        position += 3
                        continue
            width = 1
            if last:
                point = 10
            else:
                byte = np.int64(data[position])
                if byte < 0x80:
                    point = byte
                elif byte < 0xC2:
                    point = 0xFFFD
                elif byte < 0xE0:
                    width = 2
                    point = 0xFFFD
                    if position + 2 <= end:
                        point = ((byte & 0x1F) << 6) | (np.int64(data[position + 1]) & 0x3F)
                elif byte < 0xF0:
                    width = 3
                    point = 0xFFFD
                    if position + 3 <= end:
                        point = (
                            ((byte & 0x0F) << 12)
                            | ((np.int64(data[position + 1]) & 0x3F) << 6)
                            | (np.int64(data[position + 2]) & 0x3F)
                        )
                else:
                    width = 4
                    point = 0xFFFD
                    if position + 4 <= end:
                        point = (
                            ((byte & 0x07) << 18)
                            | ((np.int64(data[position + 1]) & 0x3F) << 12)
                            | ((np.int64(data[position + 2]) & 0x3F) << 6)
                            | (np.int64(data[position + 3]) & 0x3F)
                        )
            if point < 0x10000:
                entry = np.int64(table[point])
            elif 0x20000 <= point < 0x32000:
                entry = c.HAN_RARE
            elif 0x1F000 <= point < 0x1FB00:
                entry = c.EMOJI
            elif point < 0x20000:
                entry = c.OTHER
            else:
                entry = c.PRIVATE
            kind = entry & c.CLASS_MASK
            if not last:
                tally[kind] += 1

            # Words and tokens. A word is a run of letters and digits, a number one of digits.
            letter = kind == c.LOWER or kind == c.UPPER or kind == c.OTHER
            if letter or kind == c.DIGIT:
                folded = point + 32 if 65 <= point <= 90 else point
                word_hash_ = (word_hash_ ^ np.uint64(folded)) * _FNV_PRIME
                word_length += 1
                if letter:
                    word_letters += 1
                else:
                    digits_in_number += 1
            elif word_length:
                if word_letters:
                    row[WORDS] += 1
                    row[WORD_CHARACTERS] += word_length
                    if word_length >= LONG_WORD:
                        row[LONG_WORDS] += 1
                    where = np.int64(word_hash_ >> np.uint64(20)) & (STOP_SLOTS - 1)
                    while stop_words[where] != 0:
                        if stop_words[where] == word_hash_:
                            row[STOP_WORDS] += 1
                            break
                        where = (where + 1) & (STOP_SLOTS - 1)
                else:
                    row[NUMBERS] += 1
                    if digits_in_number >= LONG_NUMBER:
                        row[LONG_NUMBERS] += 1
                tokens[size] = word_hash_ | _WORD
                line_hash = (line_hash ^ word_hash_) * _FNV_PRIME
                prefix[size + 1] = prefix[size] + word_length
                size += 1
                word_hash_ = _FNV_BASIS
                word_length = 0
                word_letters = 0
                digits_in_number = 0
            if size == WINDOW:
                stamp = add_window(
                    tokens, prefix, size, nlogn, stamp, row[DISTINCT_TOKENS:], ids, times, buckets,
                    hashes, active, depth, grams, words, singles,
                )  # fmt: skip
                row[TOKENS] += size
                row[TOKEN_CHARACTERS] += prefix[size]
                size = 0
            if c.HAN <= kind <= c.KANA:
                tokens[size] = np.uint64(point)
                prefix[size + 1] = prefix[size] + 1
                size += 1
                if entry & c.FUNCTION:
                    row[FUNCTION_HAN] += 1
                if entry & c.MOJIBAKE:
                    row[MOJIBAKE] += 1
                if before == 32 and 0x4E00 <= previous <= 0x9FFF:
                    row[SPACED_HAN] += 1
                if 0x4E00 <= before <= 0x9FFF:
                    term = slots[((before * 0x9E3B) ^ (point * 0x85EB)) & (SLOTS - 1)]
                    if term >= 0:
                        _count_terms(
                            data, position - 3, end, term, following, term_starts, term_data,
                            list_of, row,
                        )  # fmt: skip
            if size == WINDOW or (last and size):
                stamp = add_window(
                    tokens, prefix, size, nlogn, stamp, row[DISTINCT_TOKENS:], ids, times, buckets,
                    hashes, active, depth, grams, words, singles,
                )  # fmt: skip
                row[TOKENS] += size
                row[TOKEN_CHARACTERS] += prefix[size]
                size = 0

            # Marks between words, and runs of one character.
            if entry & c.TERMINAL:
                row[TERMINALS] += 1
            if entry & c.COMMA:
                row[COMMAS] += 1
            if entry & c.CODE:
                row[CODE_CHARACTERS] += 1
            if entry & c.LATIN1 and 0xC2 <= before <= 0xF4:
                row[LATIN1_DEBRIS] += 1
            if kind == c.CJK_PUNCTUATION or kind == c.ASCII_PUNCTUATION or kind == c.NEWLINE:
                if unpunctuated > row[LONGEST_UNPUNCTUATED]:
                    row[LONGEST_UNPUNCTUATED] = unpunctuated
                if unpunctuated >= LONG_UNPUNCTUATED:
                    row[UNPUNCTUATED_CHARACTERS] += unpunctuated
                unpunctuated = 0
            else:
                unpunctuated += 1
            if point == before and kind != c.SPACE and kind != c.NEWLINE:
                run += 1
                if run == LONG_RUN:
                    row[RUN_CHARACTERS] += LONG_RUN
                elif run > LONG_RUN:
                    row[RUN_CHARACTERS] += 1
                if run > row[LONGEST_RUN]:
                    row[LONGEST_RUN] = run
            else:
                run = 1

            # Addresses.
            if url:
                if 32 < point < 127 and point != 41 and point != 34 and point != 60 and point != 62:
                    url += 1
                else:
                    row[URL_CHARACTERS] += url
                    url = 0
            elif point == 47 and before == 47 and previous == 58:  # ://
                row[URLS] += 1
                line_links += 1
                url = 8
            elif point == 46 and before == 119 and previous == 119:  # ww.
                row[URLS] += 1
                line_links += 1
                url = 4
            if point == 64:
                row[AT_SIGNS] += 1

            # Lines and paragraphs.
            if kind == c.NEWLINE:
                if line_length:
                    row[LINES] += 1
                    row[LINE_CHARACTERS] += line_length
                    row[LINE_SQUARES] += line_length * line_length
                    row[LONGEST_LINE] = max(row[LONGEST_LINE], line_length)
                    if line_length < SHORT_LINE:
                        row[SHORT_LINES] += 1
                        row[SHORT_LINE_CHARACTERS] += line_length
                    if line_ended:
                        row[LINES_ENDED] += 1
                    if line_ellipsis:
                        row[ELLIPSIS_LINES] += 1
                    if line_bullet:
                        row[BULLET_LINES] += 1
                    if line_heading:
                        row[HEADING_LINES] += 1
                    if line_pipes >= 2:
                        row[TABLE_LINES] += 1
                    if line_links:
                        row[LINK_LINES] += 1
                    if line_letters == 0:
                        row[WORDLESS_LINES] += 1
                    if line_digits > line_letters:
                        row[NUMBER_LINES] += 1
                    # Table rules and closing braces repeat in good text.
                    if line_letters + line_digits and _seen(
                        line_keys, line_mask, line_hash, line_stamp - 1, line_fill
                    ):
                        row[DUPLICATE_LINES] += 1
                        row[DUPLICATE_LINE_CHARACTERS] += line_length
                    paragraph_hash = (paragraph_hash ^ line_hash) * _FNV_PRIME
                    paragraph_length += line_length
                elif not last:
                    row[BLANK_LINES] += 1
                if paragraph_length and (last or line_length == 0):
                    row[PARAGRAPHS] += 1
                    # Apart from the lines': a paragraph of one line is no second line.
                    mixed = (paragraph_hash ^ np.uint64(0x5BD1E995)) * _MIX
                    if _seen(line_keys, line_mask, mixed, line_stamp, line_fill):
                        row[DUPLICATE_PARAGRAPHS] += 1
                        row[DUPLICATE_PARAGRAPH_CHARACTERS] += paragraph_length
                    paragraph_hash = _FNV_BASIS
                    paragraph_length = 0
                line_length = 0
                line_hash = _FNV_BASIS
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
                    line_hash = (line_hash ^ np.uint64(point)) * _FNV_PRIME
                if kind == c.DIGIT:
                    line_digits += 1
                elif letter or (c.HAN <= kind <= c.KANA):
                    line_letters += 1
                elif point == 124:
                    line_pipes += 1
                if not entry & c.CLOSING:
                    line_ended = entry & c.TERMINAL != 0
                    line_ellipsis = point == 0x2026 or (point == 46 and before == 46)
            elif point == 9:
                line_pipes += 1
            previous = before
            before = point
            position += width
        for kind in range(c.CLASSES):
            row[kind] = tally[kind]
            row[CHARACTERS] += tally[kind]
            tally[kind] = 0
