"""What is counted when a line or a paragraph ends; which were seen before in the document.

numba's cache watches the file of the outermost kernel only: after an edit here, touch `kernel.py`.
"""

# mypy: disable-error-code="assignment, no-untyped-def, arg-type, index, type-arg"
import numpy as np

from corpus.jit import kernel
from corpus.signals import counters as n

SHORT_LINE = 10  # characters; ChineseWebText asks for lines of ten on average
LARGEST_LINE_TABLE = 1 << 22  # 32 MB; in a longer document only the first 3 million lines are known

_MIX = np.uint64(0x9E3779B97F4A7C15)
_APART = np.uint64(0x5BD1E995)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)


@kernel
def add_line(
    row, length, letters, digits, pipes, links, ended, ellipsis, bullet, heading, value,
    keys, mask, stamp, fill,
):  # fmt: skip
    """Add a line of `length` visible characters and the hash `value` to the counters `row`.

    keys uint64 [mask + 1 or more], stamp and fill int64 [1]: the table of lines, see `_seen`.
    """
    row[n.LINES] += 1
    row[n.LINE_CHARACTERS] += length
    row[n.LINE_SQUARES] += length * length
    row[n.LONGEST_LINE] = max(row[n.LONGEST_LINE], length)
    if length < SHORT_LINE:
        row[n.SHORT_LINES] += 1
        row[n.SHORT_LINE_CHARACTERS] += length
    row[n.LINES_ENDED] += ended
    row[n.ELLIPSIS_LINES] += ellipsis
    row[n.BULLET_LINES] += bullet
    row[n.HEADING_LINES] += heading
    row[n.TABLE_LINES] += pipes >= 2
    row[n.LINK_LINES] += links > 0
    row[n.WORDLESS_LINES] += letters == 0
    row[n.NUMBER_LINES] += digits > letters
    # Table rules and closing braces repeat in good text.
    if letters + digits and _seen(keys, mask, value, stamp, fill):
        row[n.DUPLICATE_LINES] += 1
        row[n.DUPLICATE_LINE_CHARACTERS] += length


@kernel
def add_paragraph(row, length, value, keys, mask, stamp, fill):
    """Add a paragraph of `length` visible characters and the hash `value` to the counters."""
    row[n.PARAGRAPHS] += 1
    # Apart from the lines': a paragraph of one line is no second line.
    if _seen(keys, mask, (value ^ _APART) * _MIX, stamp, fill):
        row[n.DUPLICATE_PARAGRAPHS] += 1
        row[n.DUPLICATE_PARAGRAPH_CHARACTERS] += length


@kernel
def _seen(keys, mask, value, stamp, fill):
    """Whether `value` is in the table of this stamp; puts it there, if not, while there is room."""
    key = (value & _HIGH) | np.uint64(stamp)
    where = np.int64((value * _MIX) >> _HALF) & mask
    while True:
        entry = keys[where]
        if entry == key:
            return True
        if (entry & _LOW) != np.uint64(stamp):
            if 4 * fill[0] <= 3 * mask:
                keys[where] = key
                fill[0] += 1
            return False
        where = (where + 1) & mask
