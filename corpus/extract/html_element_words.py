"""What the class, id and role of each element of a page say of it, by the words of `html_words`."""

import numpy as np
import numpy.typing as npt

from corpus.extract import html_words as words
from corpus.extract.html_names import BLOCK, TAG, fnv, named
from corpus.extract.html_tape import TEXT, Tape, _find, _is_letter, _is_space, _lower
from corpus.extract.html_words import FOUND, NEXT_STATE
from corpus.jit import kernel

CLASS, ID, ROLE, ITEMPROP, STYLE, HIDDEN_NAME, ARIA_HIDDEN, ITEMTYPE, DATA_TESTID = (
    np.uint64(fnv(name))
    for name in [
        "class",
        "id",
        "role",
        "itemprop",
        "style",
        "hidden",
        "aria-hidden",
        "itemtype",
        "data-testid",
    ]
)
BIT_HIDDEN, BIT_SIGNATURE = words.HIDDEN, words.SIGNATURE
T_DT = TAG["dt"]
NAMED_BY_TEXT = np.isin(np.arange(len(BLOCK)), [TAG[n] for n in named("dt h1 h2 h3 h4 h5 h6")])


def element_words(tape: Tape) -> npt.NDArray[np.int64]:
    """For each node, the bits (`html_words`) that its own class, id and role say of it."""
    data = np.frombuffer(tape.source or b"\0", np.uint8)
    return _element_words(data, tape.tag, tape.start, tape.end, NEXT_STATE, FOUND)


@kernel
def _scan(data, start, end, following, found):  # type: ignore[no-untyped-def]
    """The bits of all patterns in a list of names."""
    state = following[following[0, 27], 26]
    bits = found[state]
    was_lower = False
    for at in range(start, end):
        byte = data[at]
        if 65 <= byte <= 90 and was_lower:
            state = following[state, 26]
            bits |= found[state]
        lower = _lower(byte)
        if _is_space(byte):  # the end of a name: `-`, space, `-`
            state = following[state, 26]
            bits |= found[state]
            state = following[state, 27]
            bits |= found[state]
        symbol = lower - 97 if 97 <= lower <= 122 else 26
        was_lower = 97 <= byte <= 122
        state = following[state, symbol]
        bits |= found[state]
    state = following[state, 26]
    bits |= found[state]
    return bits | found[following[state, 27]]


@kernel
def _says_none(data, start, end):  # type: ignore[no-untyped-def]
    """Does a style say display:none or visibility:hidden?"""
    for at in range(start, end - 3):
        if data[at] == 58:  # a colon
            k = at + 1
            while k < end and _is_space(data[k]):
                k += 1
            if (
                k + 4 <= end
                and data[k] == 110
                and data[k + 1] == 111
                and data[k + 2] == 110
                and data[k + 3] == 101
                and at >= 7
                and data[at - 1] == 121
            ):
                return True
            if (
                k + 6 <= end
                and data[k] == 104
                and data[k + 1] == 105
                and data[k + 2] == 100
                and data[k + 3] == 100
            ):
                return data[at - 1] == 121
    return False


@kernel
def _random_from(data, low: int, high: int) -> int:  # type: ignore[no-untyped-def]
    """Where letters and digits begin to take turns as in a UUID or a hash, which names nothing;
    `high` where they do not."""
    turns = 0
    first = high
    for at in range(low + 1, high):
        is_digit, was_digit = 48 <= data[at] <= 57, 48 <= data[at - 1] <= 57
        if (is_digit and _is_letter(data[at - 1])) or (was_digit and _is_letter(data[at])):
            first = min(first, at)
            turns += 1
    return first if turns >= 6 else high


@kernel
def _element_words(data, tag, start, end, following, found):  # type: ignore[no-untyped-def]
    bits = np.zeros(len(tag), np.int64)
    for node in range(1, len(tag)):
        if tag[node] == TEXT or end[node] - start[node] < 4:
            continue
        at, stop = start[node], min(end[node], start[node] + 4000)
        while at < stop:
            while at < stop and (_is_space(data[at]) or data[at] == 47):
                at += 1
            name = at
            value = np.uint64(0xCBF29CE484222325)
            while at < stop and data[at] != 61 and not _is_space(data[at]) and data[at] != 62:
                value = (value ^ np.uint64(_lower(data[at]))) * np.uint64(0x100000001B3)
                at += 1
            if at == name:
                at += 1
                continue
            k = at
            while k < stop and _is_space(data[k]):
                k += 1
            low, high = k, k
            if k < stop and data[k] == 61:
                k += 1
                while k < stop and _is_space(data[k]):
                    k += 1
                if k < stop and (data[k] == 34 or data[k] == 39):
                    low = k + 1
                    high = min(_find(data, low, stop, data[k]), stop)
                    at = high + 1
                else:
                    low = k
                    while k < stop and not _is_space(data[k]):
                        k += 1
                    high = k
                    at = k
            if value in (CLASS, ID, ROLE, ITEMPROP, ITEMTYPE, DATA_TESTID):
                # Longer lists of classes are a page's settings, not its names.
                if high - low > 160:
                    high = low + 80
                if value == ID:  # of a heading or term, what it says itself
                    high = low if NAMED_BY_TEXT[tag[node]] else _random_from(data, low, high)
                bits[node] |= _scan(data, low, high, following, found)
            elif (
                value == HIDDEN_NAME
                or (value == STYLE and _says_none(data, low, high))
                or (value == ARIA_HIDDEN and high > low and data[low] == 116)
            ):
                bits[node] |= BIT_HIDDEN
        if tag[node] == T_DT or not BLOCK[tag[node]]:
            bits[node] &= ~BIT_SIGNATURE  # the signature of a function, in documentation
    return bits
