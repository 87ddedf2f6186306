"""The hashes of a batch's lines, digits folded, so that 阅读(12) and 阅读(345) are one line."""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import numpy as np

from corpus.jit import kernel

_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


@kernel
def hash_lines(data, offsets, longest):
    """Lines that may be a template's: int64 [lines, 3] of document, start, end; uint64 [lines].

    A line counts with 2 to `longest` visible characters, a letter among them, outside of fenced
    code and of display formulas, and if it does not begin with | or #. White space does not enter
    its hash, and every run of digits enters as one 0.
    """
    found = np.empty((64, 3), np.int64)
    hashes = np.empty(64, np.uint64)
    size = 0
    for document in range(len(offsets) - 1):
        end = offsets[document + 1]
        start = offsets[document]
        fenced = False
        formula = False
        while start < end:
            stop = start
            visible = 0
            letters = 0
            marks = 0
            dollars = 0
            opening = 0
            before = 0
            value = _FNV_BASIS
            while stop < end and data[stop] != 10:
                byte = np.int64(data[stop])
                if byte > 32:
                    if visible == 0:
                        opening = byte
                    if byte < 0x80 or byte >= 0xC0:
                        visible += 1
                    if 48 <= byte <= 57:
                        if not 48 <= before <= 57:
                            value = (value ^ np.uint64(48)) * _FNV_PRIME
                    else:
                        value = (value ^ np.uint64(byte)) * _FNV_PRIME
                    if byte >= 0xC0 or 65 <= byte <= 90 or 97 <= byte <= 122:
                        letters += 1
                    elif byte == 96 or byte == 126:
                        marks += 1
                    elif byte == 36 and before == 36:
                        dollars += 1
                    before = byte
                stop += 1
            if marks >= 3 and (opening == 96 or opening == 126):
                fenced = not fenced
            elif not fenced:
                if dollars & 1:
                    formula = not formula
                elif (
                    not formula
                    and 2 <= visible <= longest
                    and letters
                    and opening != 124
                    and opening != 35
                ):
                    if size == len(found):
                        more, more_hashes = (
                            np.empty((2 * size, 3), np.int64),
                            np.empty(2 * size, np.uint64),
                        )
                        more[:size] = found
                        more_hashes[:size] = hashes
                        found, hashes = more, more_hashes
                    found[size, 0] = document
                    found[size, 1] = start
                    found[size, 2] = stop
                    value ^= value >> np.uint64(33)
                    hashes[size] = value * _MIX
                    size += 1
            start = stop + 1
    return found[:size], hashes[:size]
