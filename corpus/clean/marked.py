"""What extraction has marked as closing disclaimers, cut off before the lines are looked at."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from corpus.extract.pdf_disclaimers import BEGINS

MARK = "disclaimer_from"


def cut_marked(texts: Sequence[str | None], extra: pa.MapArray) -> dict[int, tuple[str, int]]:
    """By row: the text that is left, and how many characters went.

    A mark counts only where disclaimers begin at its place: another stage may have moved the text.
    """
    marks = pc.map_lookup(extra, pa.scalar(MARK), "first")
    cut = {}
    for row in pc.indices_nonzero(marks.is_valid()).to_pylist():
        text, place = texts[row] or "", int(marks[row].as_py())
        if BEGINS.match(text, place):
            cut[row] = (text[:place].rstrip(), len(text[place:].strip()))
    return cut
