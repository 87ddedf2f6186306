"""Links that a page sets beside its headings, to edit them or to point at them: no text."""

from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract.html_attributes import raw_text
from corpus.extract.html_names import BLOCK, TAG
from corpus.extract.html_tape import TEXT, Tape
from corpus.extract.html_words import ANCHOR

T_A: Final = TAG["a"]
SIGNS: Final = frozenset(sign.encode() for sign in ("#", "¶", "§", "🔗", "&para;", "&#182;"))
MOST_BYTES: Final = 7
LONGEST: Final = 30
"""Signs of such a link, its brackets included."""
MOST_NODES: Final = 100
"""In the tree below what is looked at: a heading has few."""


def heading_links(tape: Tape, bits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which nodes are such links: by their names, or by a text that is one of `SIGNS`."""
    found = np.zeros(len(tape.tag), np.bool_)
    size = tape.last - np.arange(len(tape.tag))
    is_named = ((bits & ANCHOR) != 0) & ~BLOCK[tape.tag] & (size < MOST_NODES)
    for node in map(int, np.flatnonzero(is_named)):
        name = raw_text(tape, node).strip()
        found[node] = len(name) <= LONGEST and not _is_whole_line(tape, node, name)
    for node in map(int, np.flatnonzero((tape.tag == T_A) & (size == 1))):
        if tape.tag[node + 1] == TEXT and tape.end[node + 1] - tape.start[node + 1] <= MOST_BYTES:
            found[node] |= tape.source[tape.start[node + 1] : tape.end[node + 1]].strip() in SIGNS
    return found


def _is_whole_line(tape: Tape, node: int, text: str) -> bool:
    """Is `text` all that the block element around a node says? Some headings are their own link."""
    while node > 0 and not BLOCK[tape.tag[node]]:
        node = int(tape.parent[node])
    return tape.last[node] - node < MOST_NODES and raw_text(tape, node).strip() == text
