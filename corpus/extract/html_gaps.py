"""Short blocks that stand inside of the main content: headings, items, answers, labels.

A block of three words says little for itself, and a list of them is outweighed by nothing. What
lies between two chosen blocks, in an element whose text was chosen and under no name that says
otherwise, belongs to them, if it is not linked; so does a heading right before what was chosen.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract.html_blocks import Blocks
from corpus.extract.html_context import Context
from corpus.extract.html_names import TAG, TAGS
from corpus.extract.html_tape import Tape
from corpus.jit import kernel

CHOSEN_SHARE: Final = 0.5
"""Of the unlinked tokens of the smallest element around a gap."""
MOST_TOKENS: Final = 80
"""In a gap; a longer one is something of its own."""
MOST_LINKED: Final = 3
"""Linked tokens in a gap, such as a heading's link to its editor."""
SLACK: Final = 0.05
"""So much worse, per token, may the names around a block be than those around the gap."""
IS_ITEM = np.isin(np.arange(len(TAGS)), [TAG[name] for name in ("li", "dd", "dt", "td", "th")])
IS_FIGURE = np.isin(np.arange(len(TAGS)), [TAG["figure"], TAG["figcaption"]])


def fill_gaps(
    tape: Tape,
    blocks: Blocks,
    context: Context,
    chosen: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """The chosen blocks, and with them those of the gaps between them."""
    return _filled(
        tape.tag, tape.parent, tape.last, blocks.first, blocks.owner, blocks.tokens,
        blocks.link_tokens, blocks.digits, context.value, context.in_heading, context.heading,
        chosen,
    )  # type: ignore[no-any-return] # fmt: skip


@kernel
def _filled(  # type: ignore[no-untyped-def]
    tag, parent, last, first, owner, tokens, links, digits, context, in_heading, heading, chosen
):
    nodes, count = len(parent), len(first)
    every = np.zeros(nodes + 1)
    some = np.zeros(nodes + 1)
    for k in range(count):
        every[first[k] + 1] += tokens[k] - links[k]
        some[first[k] + 1] += (tokens[k] - links[k]) * chosen[k]
    in_figure = np.zeros(nodes, np.bool_)
    for node in range(nodes):
        every[node + 1] += every[node]
        some[node + 1] += some[node]
        in_figure[node] = IS_FIGURE[tag[node]] or in_figure[parent[node]]
    filled = chosen.copy()
    before = count  # the last chosen block
    for after in range(count):
        if not chosen[after]:
            continue
        around = owner[after]
        linked = free = 0
        for k in range(before + 1, after):
            if 2 * links[k] > tokens[k]:
                linked += tokens[k]
            else:
                free += tokens[k]
        if 0 < free <= MOST_TOKENS and linked <= MOST_LINKED:
            while around > 0 and around > first[before]:
                around = parent[around]
            size = every[last[around] + 1] - every[around]
            share = (some[last[around] + 1] - some[around]) / max(1.0, size)
            for k in range(before + 1, after):
                up = owner[k]
                is_free = tokens[k] > 0 and 2 * links[k] <= tokens[k]
                is_title = in_heading[first[k]] and in_heading[first[k]] == heading
                # Numbers are values in an item, and a date or a counter elsewhere.
                is_number = 2 * digits[k] >= tokens[k] and not IS_ITEM[tag[up]]
                if (
                    is_free
                    and share >= CHOSEN_SHARE
                    and context[up] >= context[around] - SLACK
                    and not (is_title or is_number or in_figure[up])
                ):
                    filled[k] = True
        before = after
    return filled
