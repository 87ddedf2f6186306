"""Whether a page is a thread although nothing on it says so: replies and posts, by their names."""

from typing import Final

import numpy as np
import numpy.typing as npt

from corpus.extract import html_words as words
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape
from corpus.extract.html_values import TAG_VALUES, block_value
from corpus.jit import kernel

MIN_POSTS: Final = 3
NOT_TEXT = words.NAV | words.SIDE | words.RELATED | words.AD | words.CONSENT
COMMENT, POST, QUESTION, FORUM, USER = (
    words.COMMENT, words.POST, words.QUESTION, words.FORUM, words.USER,
)  # fmt: skip
T_HTML, T_BODY = TAG["html"], TAG["body"]
H_FIRST, H_LAST = TAG["h1"], TAG["h6"]


def looks_like_thread(tape: Tape, blocks: Blocks, bits: npt.NDArray[np.int64]) -> bool:
    """Are there mostly replies on the page, or posts side by side?"""
    return bool(
        _is_mostly_replies(
            tape.tag, tape.parent, bits, blocks.first, blocks.owner, blocks.tokens,
            blocks.link_tokens, blocks.stops, blocks.commas,
        )
        or _has_posts(
            tape.tag, tape.parent, bits, blocks.owner, blocks.tokens, blocks.link_tokens,
        )
    )  # fmt: skip


@kernel
def _is_mostly_replies(tag, parent, bits, first, owner, tokens, links, stops, commas):  # type: ignore[no-untyped-def]
    """Is there more good text in comments, of which there are several, than outside of them?"""
    nodes, count = len(tag), len(owner)
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
        value = block_value(tokens[k], links[k], stops[k], commas[k], tag[owner[k]])
        if value <= 0 and not (inside[inner] and links[k] == 0 and tokens[k] >= 4):
            continue
        if inside[inner]:
            within += tokens[k]
            pieces += 1
        elif not bad[inner]:
            without += tokens[k]
    return pieces >= 2 and within > enough * without


@kernel
def _has_posts(tag, parent, bits, owner, tokens, links):  # type: ignore[no-untyped-def]
    """Are there posts side by side, each with its author and none headed by a link, as a list of
    articles' beginnings would be?"""
    nodes, count = len(tag), len(owner)
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
