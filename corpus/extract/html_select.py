"""Which blocks of a page are its main content: the best labelling of its tree, found exactly.

Every block has a value in tokens, for or against, from what it is (length, sentences, links) and
where it stands (the words in its ancestors' class names, their tags, what comes before). Elements
and blocks that lie in one another should agree: a difference between an element and its parent
costs some tokens. The labelling of the whole tree is found by passing bounded messages up the tree
and down again, in time linear in the page: a Potts model on a tree, and its exact solution but for
one bound (`BLOCK_SUPPORT`). So a short line inside an article is kept, a long one inside a sidebar
is not, and no page needs a known container.

The numbers were set by hand, looking at how often blocks of a kind are content on real pages.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract import html_words as words
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_context import Context, find_context
from corpus.extract.html_gaps import fill_gaps
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape
from corpus.extract.html_threads import looks_like_thread
from corpus.extract.html_values import block_value
from corpus.jit import kernel

ELEMENT_COUPLING: Final = 6.0
"""Tokens that it costs when an element and its parent differ."""
BLOCK_COUPLING: Final = 4.0
"""The same for a block and the element around it."""
BLOCK_SUPPORT: Final = 60.0
"""A block's good tokens beyond this say no more for its element."""
FEW_TOKENS: Final = 25
"""A page that yields less is looked at again: as a thread, then believing less of what bad names
say."""
FEW_LINKS: Final = 0.3
"""A page with fewer of its tokens linked, on which nothing was found, is taken whole."""
BARE_SHARE: Final = 0.03
"""A page with less than this share of text in what bad names and tags enclose is all content, as
filings are."""
OUTSIDE_MAIN: Final = 0.8
"""What a token outside of the page's only element `main` costs, where that holds a text."""
LONG_COPY: Final = 60
"""Blocks of so many tokens that stood before elsewhere are copies that scripts show or hide."""

T_P = TAG["p"]
COMMENT, POST, QUOTE, HIDDEN = words.COMMENT, words.POST, words.QUOTE, words.HIDDEN


def select(
    tape: Tape,
    blocks: Blocks,
    bits: npt.NDArray[np.int64],
    code: npt.NDArray[np.bool_],
    tables: npt.NDArray[np.bool_],
    is_thread: bool,
    is_article: bool,
) -> tuple[npt.NDArray[np.bool_], bool]:
    """Return which blocks are main content, and whether they are a thread's.

    `code` and `tables` mark nodes that are code or data tables; `is_thread`: replies belong to the
    content; `is_article`: they surely do not.
    """
    is_thread = is_thread or (not is_article and looks_like_thread(tape, blocks, bits))
    chosen = np.zeros(len(blocks.first), np.bool_)
    for thread, rung in ((is_thread, 0), (True, 0), (is_thread, 1), (is_thread, 2)):
        context = find_context(tape, blocks, bits, tables, thread, is_article, rung)
        values = _values(tape, blocks, context, code, thread, rung)
        chosen = _labels(tape.parent, blocks.owner, values)
        if not thread:
            chosen = fill_gaps(tape, blocks, context, chosen)
        if blocks.tokens[chosen].sum() >= FEW_TOKENS:
            return chosen, is_thread
    every, linked = blocks.tokens.sum(), blocks.link_tokens.sum()
    if not chosen.any() and linked < FEW_LINKS * every:
        return blocks.link_tokens < 0.5 * np.maximum(1, blocks.tokens), is_thread
    return chosen, is_thread


def _values(
    tape: Tape,
    blocks: Blocks,
    context: Context,
    code: npt.NDArray[np.bool_],
    is_thread: bool,
    rung: int,
) -> npt.NDArray[np.float64]:
    """What each block says for being content and, below zero, against it, in tokens."""
    return _block_values(
        tape.tag, tape.parent, tape.last, blocks.first, blocks.last, blocks.owner, blocks.tokens,
        blocks.link_tokens, blocks.stops, blocks.commas, blocks.digits, blocks.hashes,
        context.value, context.words, context.in_body, context.in_heading, context.table,
        context.heading, context.main, context.outside, code, is_thread, rung,
    )  # type: ignore[no-any-return] # fmt: skip


@kernel
def _block_values(  # type: ignore[no-untyped-def]
    tag, parent, last, first, final, owner, tokens, links, stops, commas, digits, hashes,
    context, inherited, in_body, in_heading, table_of, heading, main, outside, code, is_thread,
    rung,
):  # fmt: skip
    nodes, count = len(tag), len(first)
    # ---- tables of numbers, and pages that consist of their text
    table_tokens = np.zeros(nodes)
    table_digits = np.zeros(nodes)
    whole = around_text = 0.0
    for k in range(count):
        inner = parent[first[k]]
        whole += tokens[k] - links[k]
        table_tokens[table_of[inner]] += tokens[k]
        table_digits[table_of[inner]] += digits[k]
        if context[inner] < -1.0 and not inherited[inner] & HIDDEN:
            around_text += tokens[k]
    is_bare = around_text < BARE_SHARE * max(1.0, whole)
    values = np.zeros(count)
    seen = np.zeros(4096, np.uint64)
    seen_in = np.zeros(4096, np.int32)
    for k in range(count):
        around = owner[k]
        n = tokens[k]
        own = block_value(n, links[k], stops[k], commas[k], tag[around])
        inner = parent[first[k]]
        while inner != around and inherited[inner] & HIDDEN and last[inner] < final[k]:
            inner = parent[inner]  # what is hidden at the beginning hides no more than itself
        table = table_of[inner]
        # Code is judged by where it stands, not by the line numbers that it may begin with.
        here = context[around] if code[around] else context[inner]
        if code[around]:
            own = 1.0 * n
        elif table:
            if table_digits[table] >= 0.7 * table_tokens[table]:
                own = 0.3 * n
            elif links[k] < 0.5 * n or is_bare:
                own = max(own, 0.0) + 0.1 * n
        elif is_bare and own < 0 and links[k] < 0.5 * n:
            own *= 0.3
        if in_heading[inner] and not is_thread and not code[around]:
            own = -12.0
        elif (
            not table
            and not code[around]
            and n < 14
            and digits[k] >= (0.6 if is_thread else 2.0 if tag[around] == T_P else 1.0) * n
            and stops[k] == 0
            and links[k] < 0.9 * n
        ):
            own = -1.2 * n - 4.0
            here = min(here, 0.0)
        if is_thread and inherited[inner] & (POST | COMMENT) and -0.5 * n <= own < 0:
            own *= 0.4
        if outside:
            here += 0.2 if in_body[inner] else outside
        elif first[k] < heading and not is_thread:
            here -= 0.3
        if main and not main <= first[k] <= last[main] and rung < 1:
            here -= OUTSIDE_MAIN
        value = own + max(-3.0, min(0.6, here)) * n
        if heading and in_heading[inner] == heading and is_thread:
            value = 8.0
        if n >= 8 and value > 0 and not (is_thread and inherited[inner] & (QUOTE | POST | COMMENT)):
            slot = hashes[k] % np.uint64(4096)
            if n >= LONG_COPY and seen[slot] == hashes[k] and parent[around] != seen_in[slot]:
                value = -2.0 * n
            seen[slot] = hashes[k]
            seen_in[slot] = parent[around]
        values[k] = value
    return values


@kernel
def _labels(parent, owner, values):  # type: ignore[no-untyped-def]
    """The labelling of blocks and elements that is worth most."""
    nodes, count = len(parent), len(owner)
    gain = np.zeros(nodes)  # of being content rather than not, all below included
    for k in range(count):
        gain[owner[k]] += max(-BLOCK_COUPLING, min(BLOCK_SUPPORT, values[k]))
    for node in range(nodes - 1, 0, -1):
        gain[parent[node]] += max(-ELEMENT_COUPLING, min(ELEMENT_COUPLING, gain[node]))
    # ---- down again
    is_content = np.zeros(nodes, np.bool_)
    is_content[0] = gain[0] > 0
    for node in range(1, nodes):
        push = ELEMENT_COUPLING if is_content[parent[node]] else -ELEMENT_COUPLING
        is_content[node] = gain[node] + push > 0
    chosen = np.zeros(count, np.bool_)
    for k in range(count):
        push = BLOCK_COUPLING if is_content[owner[k]] else -BLOCK_COUPLING
        chosen[k] = values[k] + push > 0
    return chosen
