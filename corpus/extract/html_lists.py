"""List pages: those that hold links to other pages and no text of their own, and their links.

Indexes, archives, announcement lists, ranking and search pages. What counts is the page's own
lists: links in menus, sidebars, footers and blocks of related stories say nothing.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

import numpy as np
import numpy.typing as npt

from corpus.extract import html_words as words
from corpus.extract.html_attributes import attributes, raw_text
from corpus.extract.html_blocks import Blocks
from corpus.extract.html_names import TAG
from corpus.extract.html_tape import Tape
from corpus.jit import kernel

MIN_LINK_TOKENS: Final = 5
"""A link with fewer is a button or a name, not a headline."""
LINK_SHARE: Final = 0.6
"""Of a headline's block; the rest is a date or a source."""
MIN_LINKS: Final = 8
LINKS_OVER_TEXT: Final = 3.0
"""So many times the tokens of the text must lie in headlines that are links."""
MIN_HEADINGS: Final = 4
"""Headings that are links, as on a blog's front page, with an excerpt after each."""
LONGEST_EXCERPT: Final = 400
EXCERPT_SHARE: Final = 0.5
"""Of the page's text; a longer piece between two such headings is an article."""
WRAPPER_SHARE: Final = 0.5
"""Of the page's tokens: what an element that holds more is called says nothing."""
OTHERS: Final = words.NAV | words.SIDE | words.RELATED | words.AD | words.SHARE | words.CONSENT
T_NAV, T_FOOTER, T_ASIDE, T_A = TAG["nav"], TAG["footer"], TAG["aside"], TAG["a"]
H_FIRST, H_LAST = TAG["h1"], TAG["h4"]


@dataclass(frozen=True)
class PageLinks:
    """The headlines on a page that are links."""

    blocks: npt.NDArray[np.int64]
    """Indices of their blocks."""
    tokens: int
    headings: npt.NDArray[np.int64]
    """Of the blocks, those that are headings."""


def page_links(tape: Tape, blocks: Blocks, bits: npt.NDArray[np.int64]) -> PageLinks:
    """Find the headlines that are links and stand in the page's own part."""
    kinds = _kinds(
        tape.tag, tape.parent, tape.last, bits, blocks.first, blocks.owner, blocks.tokens,
        blocks.link_tokens,
    )  # fmt: skip
    found = np.flatnonzero(kinds)
    return PageLinks(found, int(blocks.tokens[found].sum()), np.flatnonzero(kinds == 2))


def is_list(blocks: Blocks, chosen: npt.NDArray[np.bool_], links: PageLinks) -> bool:
    """Is a page whose chosen blocks are no thread's a list of links?"""
    own = np.where(chosen & (2 * blocks.link_tokens < blocks.tokens), blocks.tokens, 0)
    text = int(own.sum())
    if len(links.blocks) >= MIN_LINKS and links.tokens > LINKS_OVER_TEXT * text:
        return True
    if len(links.headings) < MIN_HEADINGS:
        return False
    before = np.concatenate([[0], np.cumsum(own)])
    runs = np.diff(before[np.concatenate([[0], links.headings, [len(own)]])])
    return bool(runs.max() <= min(LONGEST_EXCERPT, EXCERPT_SHARE * text))


def link_nodes(tape: Tape, blocks: Blocks, links: PageLinks) -> list[int]:
    """For each of `links.blocks` its `a` element: the one around it, or the longest in it."""
    found = []
    for k in links.blocks:
        first = int(blocks.first[k])
        around = first
        while around > 0 and tape.tag[around] != T_A:
            around = int(tape.parent[around])
        inside = [at for at in range(first, int(blocks.last[k]) + 1) if tape.tag[at] == T_A]
        longest = max(inside, key=lambda at: len(raw_text(tape, at).strip()), default=0)
        found.append(around or longest)
    return found


def link_line(tape: Tape, node: int, label: str, text: str, address: str | None) -> str:
    """A link as an item of a Markdown list, what else its block says behind it.

    `label` is the text of the element `node`, `text` that of the whole block, and `address` the
    page's own, against which relative ones are resolved.
    """
    target = attributes(tape, node).get("href", "").strip()
    if target.lower().startswith(("javascript:", "data:", "#")):
        target = ""
    item = f"[{label}]({urljoin(address or '', target).replace(' ', '%20')})" if target else label
    return " ".join(["-", item, *text.replace(label, " ", 1).split()])


@kernel
def _kinds(tag, parent, last, bits, first, owner, tokens, links):  # type: ignore[no-untyped-def]
    """For each block 0, or 1 for a headline that is a link, 2 where it is a heading too."""
    nodes, count = len(tag), len(first)
    text = np.zeros(nodes + 1)
    for k in range(count):
        text[first[k] + 1] += tokens[k]
    for node in range(nodes):
        text[node + 1] += text[node]
    other = np.zeros(nodes, np.bool_)
    heading = np.zeros(nodes, np.bool_)
    for node in range(1, nodes):
        up = parent[node]
        number = tag[node]
        is_wrapper = text[last[node] + 1] - text[node] > WRAPPER_SHARE * text[nodes]
        is_named = number in (T_NAV, T_FOOTER, T_ASIDE) or (bits[node] & OTHERS) != 0
        other[node] = other[up] or (is_named and not is_wrapper)
        heading[node] = heading[up] or H_FIRST <= number <= H_LAST
    kinds = np.zeros(count, np.int8)
    for k in range(count):
        is_headline = tokens[k] >= MIN_LINK_TOKENS and links[k] > LINK_SHARE * tokens[k]
        if is_headline and not other[first[k]]:
            kinds[k] = 2 if heading[first[k]] else 1
    return kinds
