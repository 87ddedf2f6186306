"""What a page's blocks say for themselves: values in tokens, for or against being content.

numba's cache watches the file of the outermost kernel only: after an edit here, touch
`html_select.py` and `html_threads.py`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract.html_names import TAG, TAGS
from corpus.jit import kernel

H_FIRST, H_LAST, T_P = TAG["h1"], TAG["h6"], TAG["p"]


def _tag_values() -> npt.NDArray[np.float64]:
    values = np.zeros(len(TAGS))
    for names, value in (
        ("nav", -2.5), ("footer", -1.8), ("aside", -1.4), ("header", -0.6), ("form", -0.8),
        ("button label", -1.5), ("article main", 0.1), ("dialog", -1.5),
    ):  # fmt: skip
        for name in names.split():
            values[TAG[name]] = value
    return values


TAG_VALUES: Final = _tag_values()
"""What a tag says of the tokens below it, per token."""


@kernel
def block_value(n, links, stops, commas, tag):  # type: ignore[no-untyped-def]
    """What a block says for itself, in tokens."""
    if n == 0:
        return 0.0
    share = links / n
    if H_FIRST <= tag <= H_LAST and share < 0.5:
        return -0.5
    if share > 0.9:
        return -1.0 * n - 2.0
    if share > 0.5:
        return -0.6 * n - 1.0
    if share > 0.2:
        return 0.2 * n if stops > 0 and n >= 12 else -0.5 * n - 1.0
    is_paragraph = tag == T_P
    marks = stops + 0.3 * commas
    if marks > 0:
        if n < 4:
            return 0.0 if is_paragraph else -1.5
        if n < 8:
            return 0.2 * n if is_paragraph else -0.2 * n
        if n < 12:
            return 0.3 * n if is_paragraph else 0.0
        if n < 18:
            return 0.4 * n if is_paragraph else 0.2 * n
        if n < 30:
            return 0.6 * n if is_paragraph else 0.4 * n
        return 0.8 * n
    if n < 4:
        return -0.5 if is_paragraph else -1.5
    if n < 12:
        return -0.1 * n if is_paragraph else -0.4 * n
    if n < 18:
        return 0.0 if is_paragraph else -0.1 * n
    if n < 30:
        return 0.2 * n if is_paragraph else 0.1 * n
    return 0.4 * n
