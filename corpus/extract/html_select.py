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
from numba import njit

from corpus.extract import html_words as words
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_names import TAG, TAGS
from corpus.extract.html_tape import Tape

ELEMENT_COUPLING: Final = 6.0
"""Tokens that it costs when an element and its parent differ."""
BLOCK_COUPLING: Final = 4.0
"""The same for a block and the element around it."""
BLOCK_SUPPORT: Final = 60.0
"""A block's good tokens beyond this say no more for its element."""
WRAPPER_SHARE: Final = 0.5
"""Of the page's unlinked tokens: what an element that holds more is called says nothing bad."""
FEW_TOKENS: Final = 25
"""A page that yields less is looked at again: as a thread, then believing less of what bad names
say."""
FEW_LINKS: Final = 0.3
"""A page with fewer of its tokens linked, on which nothing was found, is taken whole."""
BARE_SHARE: Final = 0.03
"""A page with less than this share of text in what bad names and tags enclose is all content, as
filings are."""
MOST_CONTEXT: Final = 0.8
"""What good names add up to at most, so that a bad one inside of them still says something."""
OUTSIDE_MAIN: Final = 0.8
"""What a token outside of the page's only element `main` costs, where that holds a text."""
MAIN_TOKENS: Final = 100
MIN_POSTS: Final = 3
LONG_COPY: Final = 60
"""Blocks of so many tokens that stood before elsewhere are copies that scripts show or hide."""

BAD_WORDS: Final = (
    (words.NAV, -1.6), (words.SIDE, -1.3), (words.RELATED, -1.5), (words.SHARE, -1.3),
    (words.USER, -1.5), (words.META, -0.7), (words.AD, -1.3), (words.SIGNATURE, -2.5),
    (words.TAGS, -0.9), (words.LINES, -3.0), (words.NOTICE, -1.6), (words.CAPTION, -1.5),
)  # fmt: skip
T_QUOTE, T_ASIDE = TAG["blockquote"], TAG["aside"]


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
BAD_BITS: Final = np.array([bit for bit, _ in BAD_WORDS], np.int64)
BAD_VALUES: Final = np.array([value for _, value in BAD_WORDS])
T_PRE, T_HTML, T_BODY, T_P = TAG["pre"], TAG["html"], TAG["body"], TAG["p"]
T_ARTICLE, T_MAIN = TAG["article"], TAG["main"]
H_FIRST, H_LAST = TAG["h1"], TAG["h6"]
NOT_TEXT = words.NAV | words.SIDE | words.RELATED | words.AD | words.CONSENT
BAD = int(np.bitwise_or.reduce(BAD_BITS)) | words.COMMENT
COMMENT, CONTENT, POST, STRONG = words.COMMENT, words.CONTENT, words.POST, words.STRONG
QUESTION, FORUM, QUOTE = words.QUESTION, words.FORUM, words.QUOTE
CODE = words.CODE
CONSENT, HIDDEN, USER, LINES = words.CONSENT, words.HIDDEN, words.USER, words.LINES


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
    if not is_thread and not is_article:
        is_thread = _is_mostly_replies(
            tape.tag, tape.parent, tape.last, bits, blocks.first, blocks.owner, blocks.tokens,
            blocks.link_tokens, blocks.stops, blocks.commas,
        ) or _has_posts(
            tape.tag, tape.parent, tape.last, bits, blocks.first, blocks.owner, blocks.tokens,
            blocks.link_tokens,
        )  # fmt: skip
    chosen = np.zeros(len(blocks.first), np.bool_)
    for thread, rung in ((is_thread, 0), (True, 0), (is_thread, 1), (is_thread, 2)):
        chosen = _select(
            tape.tag, tape.parent, tape.last, bits, blocks.first, blocks.last, blocks.owner,
            blocks.tokens, blocks.link_tokens, blocks.stops, blocks.commas, blocks.hashes, thread,
            is_article, rung, TAG_VALUES, BAD_BITS, BAD_VALUES, blocks.digits, code, tables,
        )  # fmt: skip
        if blocks.tokens[chosen].sum() >= FEW_TOKENS:
            return chosen, is_thread
    every, linked = blocks.tokens.sum(), blocks.link_tokens.sum()
    if not chosen.any() and linked < FEW_LINKS * every:
        return blocks.link_tokens < 0.5 * np.maximum(1, blocks.tokens), is_thread
    return chosen, is_thread


@njit(cache=True)
def _block_value(n, links, stops, commas, tag):  # type: ignore[no-untyped-def]
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


@njit(cache=True)
def _is_mostly_replies(tag, parent, last, bits, first, owner, tokens, links, stops, commas):  # type: ignore[no-untyped-def]
    """Is there more good text in comments, of which there are several, than outside of them?"""
    nodes, count = len(tag), len(first)
    inside = np.zeros(nodes, np.int32)  # the outermost comment element around
    bad = np.zeros(nodes, np.bool_)
    for node in range(1, nodes):
        up = parent[node]
        number = tag[node]
        own = 0 if number in (T_HTML, T_BODY) else bits[node]
        inside[node] = inside[up] if inside[up] else (node if own & COMMENT else 0)
        bad[node] = bad[up] or (own & NOT_TEXT) != 0 or TAG_VALUES[number] < -1.0
    within = without = 0.0
    all_bits = 0
    for node in range(1, nodes):
        if tag[node] != T_BODY and tag[node] != T_HTML:
            all_bits |= bits[node]
    enough = 0.3 if all_bits & (QUESTION | FORUM) else 1.2
    pieces = 0
    for k in range(count):
        inner = parent[first[k]]
        value = _block_value(tokens[k], links[k], stops[k], commas[k], tag[owner[k]])
        if value <= 0 and not (inside[inner] and links[k] == 0 and tokens[k] >= 4):
            continue
        if inside[inner]:
            within += tokens[k]
            pieces += 1
        elif not bad[inner]:
            without += tokens[k]
    return pieces >= 2 and within > enough * without


@njit(cache=True)
def _has_posts(tag, parent, last, bits, first, owner, tokens, links):  # type: ignore[no-untyped-def]
    """Are there posts side by side, each with its author and none headed by a link, as a list of
    articles' beginnings would be?"""
    nodes, count = len(tag), len(first)
    text = np.zeros(nodes)
    is_list = np.zeros(nodes, np.bool_)
    has_author = np.zeros(nodes, np.bool_)
    posts = np.zeros(nodes, np.int32)
    for k in range(count):
        around = owner[k]
        text[around] += tokens[k] - links[k]
        is_headline = links[k] > 0.5 * tokens[k] and tokens[k] >= 4
        if is_headline and H_FIRST <= tag[around] <= H_LAST:
            is_list[around] = True
    for node in range(nodes - 1, 0, -1):
        up = parent[node]
        text[up] += text[node]
        is_list[up] |= is_list[node]
        has_author[node] |= (bits[node] & USER) != 0
        has_author[up] |= has_author[node]
        is_post = (bits[node] & POST) != 0 and text[node] >= 3 and has_author[node]
        if is_post and not is_list[node] and tag[node] != T_BODY:
            posts[up] += 1
            if posts[up] >= MIN_POSTS:
                return True
    return False


@njit(cache=True)
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


@njit(cache=True)
def _select(  # type: ignore[no-untyped-def]
    tag, parent, last, bits, first, final, owner, tokens, links, stops, commas, hashes, is_thread,
    is_article, rung, tag_values, bad, bad_values, digits, code, tables,
):  # fmt: skip
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
    heading = 0  # the first main heading, with a good part of the text behind it
    in_heading = np.zeros(nodes, np.int32)
    in_article = np.zeros(nodes, np.bool_)
    in_table = np.zeros(nodes, np.bool_)
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
                for k in range(len(bad)):
                    if fresh & bad[k] and (bad[k] != LINES or (own | inherited[up]) & CODE):
                        value += bad_values[k] * (0.4 if is_thread and bad[k] == USER else 1.0)
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
        if rung < 2 and not (is_wrapper and tag_values[number] < 0):
            value += tag_values[number]
        in_table[node] = in_table[up] or tables[node]
        in_article[node] = in_article[up] or tag[up] == T_ARTICLE
        if number == T_ARTICLE and in_article[node] and not is_thread and not is_wrapper:
            value -= 1.2
        if item[node] and not is_thread and rung < 2:
            value -= 1.2
        inherited[node] = inherited[up] | (fresh & CONTENT if is_wrapper else own)
        in_heading[node] = node if number == H_FIRST else in_heading[up]
        context[node] = context[up] + value
        context[node] = min(context[node], MOST_CONTEXT)
        if context[node] < -3.0:
            context[node] = -3.0
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
    use_strong = is_sure and strong_tokens * whole > 50 and rung < 2 and not is_thread
    outside = -1.2 if is_article or strong_roots == 1 else -0.6
    # ---- tables of numbers, and pages that consist of their text
    table_of = np.zeros(nodes, np.int32)
    table_tokens = np.zeros(nodes)
    table_digits = np.zeros(nodes)
    around_text = 0.0
    for node in range(1, nodes):
        table_of[node] = node if tables[node] else table_of[parent[node]]
    for k in range(count):
        inner = parent[first[k]]
        table_tokens[table_of[inner]] += tokens[k]
        table_digits[table_of[inner]] += digits[k]
        if context[inner] < -1.0 and not inherited[inner] & HIDDEN:
            around_text += tokens[k]
    is_bare = around_text < BARE_SHARE * whole
    # ---- values of blocks, then up the tree
    gain = np.zeros(nodes)  # of being content rather than not, all below included
    block_value = np.zeros(count)
    seen = np.zeros(4096, np.uint64)
    seen_in = np.zeros(4096, np.int32)
    for k in range(count):
        around = owner[k]
        n = tokens[k]
        own = _block_value(n, links[k], stops[k], commas[k], tag[around])
        inner = parent[first[k]]
        while inner != around and inherited[inner] & HIDDEN and last[inner] < final[k]:
            inner = parent[inner]  # what is hidden at the beginning hides no more than itself
        # Code is judged by where it stands, not by the line numbers that it may begin with.
        here = context[around] if code[around] else context[inner]
        if code[around]:
            own = 1.0 * n
        elif in_table[inner]:
            table = table_of[inner]
            if table_digits[table] >= 0.7 * table_tokens[table]:
                own = 0.3 * n
            elif links[k] < 0.5 * n or is_bare:
                own = max(own, 0.0) + 0.1 * n
        elif is_bare and own < 0 and links[k] < 0.5 * n:
            own *= 0.3
        if in_heading[inner] and not is_thread and not code[around]:
            own = -12.0
        elif (
            not in_table[inner]
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
        if use_strong:
            here += 0.2 if strong[inner] else outside
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
        block_value[k] = value
        gain[around] += max(-BLOCK_COUPLING, min(BLOCK_SUPPORT, value))
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
        chosen[k] = block_value[k] + push > 0
    return chosen
