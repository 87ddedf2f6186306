"""What stands around a page's blocks: their ancestors' names and tags, headings, tables, bodies.

Names and tags of all ancestors add up to a value per token. An element that holds most of a page
is a wrapper: what it is called says nothing bad.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract import html_words as words
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Ints, Tape
from corpus.extract.html_values import TAG_VALUES
from corpus.jit import kernel

WRAPPER_SHARE: Final = 0.5
"""Of the page's unlinked tokens: what an element that holds more is called says nothing bad."""
MOST_CONTEXT: Final = 0.8
"""What good names add up to at most, so that a bad one inside of them still says something."""
MAIN_TOKENS: Final = 100
BLOCKS_BACK: Final = 4
"""So many blocks before a linked headline are looked at."""
BAD_WORDS: Final = (
    (words.NAV, -1.6), (words.SIDE, -1.3), (words.RELATED, -1.5), (words.SHARE, -1.3),
    (words.USER, -1.5), (words.META, -0.7), (words.AD, -1.3), (words.SIGNATURE, -2.5),
    (words.TAGS, -0.9), (words.LINES, -3.0), (words.NOTICE, -1.6), (words.CAPTION, -1.5),
)  # fmt: skip
BAD_BITS: Final = np.array([bit for bit, _ in BAD_WORDS], np.int64)
BAD_VALUES: Final = np.array([value for _, value in BAD_WORDS])
BAD = int(np.bitwise_or.reduce(BAD_BITS)) | words.COMMENT
COMMENT, CONTENT, POST, STRONG = words.COMMENT, words.CONTENT, words.POST, words.STRONG
QUESTION, QUOTE, CODE = words.QUESTION, words.QUOTE, words.CODE
CONSENT, HIDDEN, USER, LINES = words.CONSENT, words.HIDDEN, words.USER, words.LINES
T_HTML, T_BODY, T_ARTICLE, T_MAIN, T_ASIDE = (
    TAG[name] for name in ["html", "body", "article", "main", "aside"]
)
H_FIRST, H_LAST = TAG["h1"], TAG["h6"]


@dataclass(frozen=True)
class Context:
    """What is known of each node of a page from what lies around it; arrays are [nodes]."""

    value: npt.NDArray[np.float64]
    """Per token below, for or against."""
    words: npt.NDArray[np.int64]
    """The bits (`html_words`) of its own names and its ancestors'."""
    in_body: npt.NDArray[np.bool_]
    """It lies in an element that calls itself the body of an article."""
    in_heading: Ints
    """The main heading (h1) around it, or 0."""
    table: Ints
    """The innermost data table around it, or 0."""
    heading: int
    """The first main heading with a good part of the text behind it, or 0."""
    main: int
    """The page's only element `main`, where that holds a text, or 0."""
    outside: float
    """What a token outside of an article's body costs; 0 where no body is sure."""


def find_context(
    tape: Tape,
    blocks: Blocks,
    bits: npt.NDArray[np.int64],
    tables: npt.NDArray[np.bool_],
    is_thread: bool,
    is_article: bool,
    rung: int,
) -> Context:
    """Read the page from its root; from `rung` 1 on, less of what bad names say is believed."""
    return Context(
        *_context(
            tape.tag, tape.parent, tape.last, bits, blocks.first, blocks.owner, blocks.tokens,
            blocks.link_tokens, tables, is_thread, is_article, rung,
        )
    )  # fmt: skip


@kernel
def _teasers(parent, last, tag, first, owner, tokens, links):  # type: ignore[no-untyped-def]
    """Items of lists that lead elsewhere: a linked headline and a text, again and again.

    Returns for each node whether it is such an item.
    """
    nodes, count = len(parent), len(first)
    item = np.zeros(nodes, np.bool_)
    lists = np.zeros(nodes, np.int32)
    for k in range(count - 1):
        is_link = links[k] > 0.9 * tokens[k] and tokens[k] >= 4
        after = k + 1
        while after < count and after <= k + 3 and tokens[after] < 8:
            after += 1
        if not is_link or after >= count:
            continue
        if links[after] > 0.2 * tokens[after] or tokens[after] < 8:
            continue
        # the smallest element that holds both
        around = owner[k]
        while around > 0 and last[around] < first[after]:
            around = parent[around]
        before = k - 1  # a headline stands before the texts of its item
        while before >= max(0, k - BLOCKS_BACK) and tokens[before] - links[before] < 8:
            before -= 1
        if before >= max(0, k - BLOCKS_BACK) and first[before] > around:
            continue
        if around > 0 and not item[around]:
            item[around] = True
            lists[parent[around]] += 1
    for node in range(1, nodes):
        if item[node]:
            # Lists often wrap each item once more.
            up = parent[node]
            similar = lists[up]
            if similar < 3 and up > 0:
                similar = 0
                grand = parent[up]
                at = grand + 1
                while at <= last[grand] and similar < 3:  # children of the grandparent
                    if tag[at] == tag[up] and lists[at] == 1:
                        similar += 1
                    at = last[at] + 1
            item[node] = similar >= 3
    return item


@kernel
def _context(  # type: ignore[no-untyped-def]
    tag, parent, last, bits, first, owner, tokens, links, tables, is_thread, is_article, rung
):
    nodes, count = len(tag), len(first)
    # ---- how much unlinked text each element holds
    text = np.zeros(nodes + 1)
    all_bits = 0
    for k in range(count):
        text[first[k] + 1] += tokens[k] - links[k]
    for node in range(nodes):
        text[node + 1] += text[node]
        all_bits |= bits[node]
    whole = max(1.0, text[nodes])
    # ---- how much of it lies in one element that calls itself the body of an article
    holds = np.zeros(nodes)
    for node in range(nodes - 1, 0, -1):
        own_text = (
            text[last[node] + 1] - text[node]
            if bits[node] & STRONG and not bits[node] & BAD
            else 0.0
        )
        holds[parent[node]] = max(holds[parent[node]], holds[node], own_text)
    item = _teasers(parent, last, tag, first, owner, tokens, links)
    is_qa = (all_bits & QUESTION) != 0
    # ---- what the ancestors say, per token
    context = np.zeros(nodes)
    inherited = np.zeros(nodes, np.int64)
    strong = np.zeros(nodes, np.bool_)
    heading = 0
    in_heading = np.zeros(nodes, np.int32)
    in_article = np.zeros(nodes, np.bool_)
    strong_tokens = 0.0
    strong_roots = 0
    for node in range(1, nodes):
        up = parent[node]
        own = bits[node]
        number = tag[node]
        if number in (T_HTML, T_BODY) or H_FIRST <= number <= H_LAST:
            own = 0
        value = 0.0
        share = (text[last[node] + 1] - text[node]) / whole
        is_wrapper = share > WRAPPER_SHARE or holds[node] > 0.5 * share * whole > 20.0
        fresh = own & ~inherited[up]
        if fresh:
            if rung < 2 and not is_wrapper:
                for k in range(len(BAD_BITS)):
                    bad = BAD_BITS[k]
                    if fresh & bad and (bad != LINES or (own | inherited[up]) & CODE):
                        value += BAD_VALUES[k] * (0.4 if is_thread and bad == USER else 1.0)
            if fresh & CONSENT and share < 0.97:
                value -= 3.0
            if fresh & HIDDEN and (rung < 1 or (rung < 2 and not is_wrapper)) and share < 0.9:
                value -= 1.8
            if fresh & COMMENT:
                if not is_thread:
                    if rung < 1 and share < 0.97:
                        value -= 2.0
                elif is_qa and not is_wrapper:
                    value += 0.0
                else:
                    value += 0.2
            if fresh & POST:
                value += 0.4 if is_thread else 0.1
            if fresh & (CONTENT | STRONG):
                value += 0.15
            if is_thread and fresh & QUOTE:
                value += 1.4 if number == T_ASIDE else 0.3
        if rung < 2 and not (is_wrapper and TAG_VALUES[number] < 0):
            value += TAG_VALUES[number]
        in_article[node] = in_article[up] or tag[up] == T_ARTICLE
        if number == T_ARTICLE and in_article[node] and not is_thread and not is_wrapper:
            value -= 1.2
        if item[node] and not is_thread and rung < 2:
            value -= 1.2
        inherited[node] = inherited[up] | (fresh & CONTENT if is_wrapper else own)
        in_heading[node] = node if number == H_FIRST else in_heading[up]
        context[node] = max(-3.0, min(context[up] + value, MOST_CONTEXT))
        if (
            number == H_FIRST
            and not heading
            and context[node] > -1.0
            and text[nodes] - text[node] > 0.3 * whole
        ):
            heading = node
        strong[node] = strong[up] or (own & STRONG and context[node] > -0.8)
        if strong[node] and not strong[up]:
            strong_tokens += share
            strong_roots += share * whole > 15.0
    main = 0  # the page's only element `main`, where it holds a text
    for node in range(1, nodes):
        if tag[node] == T_MAIN and (main == 0 or node > last[main]):
            main = -1 if main else node
            if main < 0:
                break
    if main <= 0 or text[last[main] + 1] - text[main] < MAIN_TOKENS:
        main = 0
    is_sure = strong_tokens > 0.2 or is_article or strong_roots == 1
    outside = 0.0
    if is_sure and strong_tokens * whole > 50 and rung < 2 and not is_thread:
        outside = -1.2 if is_article or strong_roots == 1 else -0.6
    table = np.zeros(nodes, np.int32)
    for node in range(1, nodes):
        table[node] = node if tables[node] else table[parent[node]]
    return context, inherited, strong, in_heading, table, heading, main, outside
